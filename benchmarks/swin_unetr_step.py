"""One training iteration of nnUNetTrainerTriadSwinB, against the same with MONAI's Swin UNETR.

python -m benchmarks.swin_unetr_step [--patch-size 64] [--batch-size 1] [--device cpu] ...

The peer is the same trainer around MONAI's SwinUNETR with activation checkpointing, as VoCo's
fine-tuning has it. Both start from the same weights; their losses must agree, else the benchmark
stops. On the CPU the clock is that of the process, on a GPU the wall's. Memory is what autograd
keeps of one forward pass, counted storage by storage.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor, nn

from benchmarks.side_by_side import format_table, run_in_turn

OURS, PEER = "nnUNetTrainerTriadSwinB", "the same around MONAI's SwinUNETR, checkpointing"


def main() -> None:
    """Print the table."""
    arguments = _parse_arguments()
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = tempfile.mkdtemp()
    os.environ["nnUNet_compile"] = "t" if arguments.compile else "f"  # noqa: SIM112
    device = torch.device(arguments.device)
    ours, peer = (_make_trainer(arguments, device, is_peer=is_peer) for is_peer in (False, True))
    _bare(peer).load_state_dict(_bare(ours).state_dict())
    batch = _make_batch(arguments, device)
    _check_same_loss(ours, peer, batch)
    timings = run_in_turn(
        {OURS: _step(ours, batch, device), PEER: _step(peer, batch, device)},
        num_rounds=arguments.rounds,
        clock=time.process_time if device.type == "cpu" else time.perf_counter,
    )
    print(format_table(timings, ours=OURS, targets={PEER: 1.5 if arguments.compile else 1.25}))
    for name, trainer in ((OURS, ours), (PEER, peer)):
        print(f"kept for the backward pass, {name}: {_kept(trainer, batch) / 2**30:.2f} GiB")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--encoder", default="SwinB", help="SwinT, SwinB, SwinL or SwinH")
    parser.add_argument("--patch-size", type=int, default=64, help="voxels along each axis")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--compile", action="store_true", help="torch.compile both (GPU)")
    return parser.parse_args()


def _make_trainer(arguments: argparse.Namespace, device: torch.device, *, is_peer: bool) -> Any:
    """A trainer on a plan of the asked patch and batch; initialised, without data."""
    from nnunet_triad.trainers import variants

    base = getattr(variants, f"nnUNetTrainerTriad{arguments.encoder}")
    spec = base.encoder

    class Peer(base):  # type: ignore[misc, valid-type]
        @classmethod
        def build_network_architecture(
            cls,
            plans_manager: Any,
            configuration_manager: Any,
            num_input_channels: int,
            num_output_channels: int,
            enable_deep_supervision: bool = False,
        ) -> nn.Module:
            return SwinUNETR(
                in_channels=num_input_channels,
                out_channels=num_output_channels,
                feature_size=spec.feature_size,
                depths=spec.depths,
                num_heads=spec.num_heads,
                window_size=spec.window_size,
                use_v2=spec.use_v2,
                use_checkpoint=True,
            )

    trainer_class = Peer if is_peer else base
    sizes = [arguments.patch_size] * 3
    settings = {
        "data_identifier": "data",
        "batch_size": arguments.batch_size,
        "patch_size": sizes,
        "spacing": [1.0] * 3,
        "batch_dice": False,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {"n_stages": 2, "strides": [[1] * 3, [2] * 3]},
            "_kw_requires_import": [],
        },
    }
    plans = {
        "dataset_name": "Dataset999_Benchmark",
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": settings},
        "continue_training": False,
    }
    channels = {str(number): "MRI" for number in range(arguments.channels)}
    labels = {"background": 0, "a": 1, "b": 2, "c": 3}
    data = {"channel_names": channels, "labels": labels, "file_ending": ".nii.gz"}
    folder = Path(os.environ["nnUNet_preprocessed"]) / "Dataset999_Benchmark" / "data"  # noqa: SIM112
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "case.b2nd").touch()
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        trainer = trainer_class(plans, "3d_fullres", 0, data, device)
        trainer.initialize()
    finally:
        sys.stdout = stdout
    trainer.network.train()
    trainer.lr_scheduler.step(0)
    return trainer


def _bare(trainer: Any) -> nn.Module:
    from nnunet_triad.trainers.base import bare_network

    return bare_network(trainer.network)


def _make_batch(arguments: argparse.Namespace, device: torch.device) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = (arguments.patch_size,) * 3
    image = torch.randn(arguments.batch_size, arguments.channels, *sizes, generator=generator)
    target = torch.randint(0, 4, (arguments.batch_size, 1, *sizes), generator=generator)
    return {"data": image.to(device), "target": target.to(device)}


def _check_same_loss(ours: Any, peer: Any, batch: dict[str, Tensor]) -> None:
    with torch.no_grad():
        first, second = (
            float(t.loss(t.network(batch["data"]), batch["target"])) for t in (ours, peer)
        )
    if abs(first - second) > 1e-3 * abs(second):
        raise SystemExit(f"loss: expected the same from both, got {first} and {second}")


def _step(trainer: Any, batch: dict[str, Tensor], device: torch.device) -> Callable[[], None]:
    def step() -> None:
        trainer.train_step(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def _kept(trainer: Any, batch: dict[str, Tensor]) -> int:
    """Bytes of all storages that autograd keeps of a forward pass, parameters left out."""
    own = {t.untyped_storage()._cdata for t in trainer.network.parameters()}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        trainer.network(batch["data"])
    return sum(kept.values())


if __name__ == "__main__":
    main()
