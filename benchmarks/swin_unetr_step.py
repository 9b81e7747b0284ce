"""One training iteration of nnUNetTrainerTriadSwinB, against the same with MONAI's Swin UNETR.

python -m benchmarks.swin_unetr_step [--patch-size 64] [--batch-size 1] [--device cpu] ...

The peer is the same trainer around MONAI's SwinUNETR with activation checkpointing, as VoCo's
fine-tuning has it. Both start from the same weights; their losses must agree, else the benchmark
stops. On a CPU our trainers let the C library keep freed memory for the next iteration, which holds
for a whole process. So each alternative has a process of its own, and the peer runs twice: with the
allocator as it comes, and with our setting, so that nothing but the network differs.

On the CPU the clock is that of the process, on a GPU the wall's. Memory is what autograd keeps of
one forward pass, counted storage by storage.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor, nn

from benchmarks.side_by_side import Timing, format_table

OURS = "nnUNetTrainerTriadSwinB"
PEER = "around MONAI's SwinUNETR, checkpointing"
PEER_KEEPING = f"{PEER}, our setting of the allocator"


def main() -> None:
    """Print the table."""
    arguments = _parse_arguments()
    wanted = 1.5 if arguments.compile else 1.25
    names = [OURS, PEER, PEER_KEEPING] if arguments.device == "cpu" else [OURS, PEER]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        children = {name: Child(name, arguments, weights) for name in names}
        _check_same_loss([child.ask("loss") for child in children.values()])
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for number in range(-1, arguments.rounds):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                taken = children[name].ask("step")
                seconds[name] += [taken] if number >= 0 else []
        kept = {name: children[name].ask("kept") for name in (OURS, PEER)}
        for child in children.values():
            child.end()
    timings = [Timing(name=name, seconds=tuple(values)) for name, values in seconds.items()]
    print(format_table(timings, ours=OURS, targets=dict.fromkeys((PEER, PEER_KEEPING), wanted)))
    for name, num_bytes in kept.items():
        print(f"kept for the backward pass, {name}: {num_bytes / 2**30:.2f} GiB")


class Child:
    """A process with a trainer, which does what it is asked."""

    def __init__(self, name: str, arguments: argparse.Namespace, weights: Path) -> None:
        """Start it and wait until it has built the trainer."""
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, arguments, weights))
        self._process.start()
        theirs.close()
        self._connection.recv()

    def ask(self, question: str) -> float:
        """Return the answer to "loss", "step" (seconds) or "kept" (bytes)."""
        self._connection.send(question)
        return self._connection.recv()

    def end(self) -> None:
        """Let the process end."""
        self._connection.send(None)
        self._process.join()


def _serve(connection: Any, name: str, arguments: argparse.Namespace, weights: Path) -> None:
    for folder in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{folder}"] = tempfile.mkdtemp(dir=weights.parent)
    os.environ["nnUNet_compile"] = "t" if arguments.compile else "f"  # noqa: SIM112
    if name == PEER:
        os.environ["TRIAD_CPU_KERNELS"] = "0"
    device = torch.device(arguments.device)
    trainer = _make_trainer(arguments, device, is_peer=name != OURS)
    if name == OURS:
        torch.save(_bare(trainer).state_dict(), weights)
    else:
        _bare(trainer).load_state_dict(torch.load(weights, weights_only=True))
    batch = _make_batch(arguments, device)
    answers = {
        "loss": lambda: _loss(trainer, batch),
        "step": lambda: _seconds(_step(trainer, batch, device), device),
        "kept": lambda: _kept(trainer, batch),
    }
    connection.send("ready")
    while question := connection.recv():
        connection.send(answers[question]())


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    step()
    return clock() - start


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

    triad = getattr(variants, f"nnUNetTrainerTriad{arguments.encoder}")
    spec = triad.encoder

    class Peer(triad):  # type: ignore[misc, valid-type]
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

    trainer_class = Peer if is_peer else triad
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


def _loss(trainer: Any, batch: dict[str, Tensor]) -> float:
    with torch.no_grad():
        return float(trainer.loss(trainer.network(batch["data"]), batch["target"]))


def _check_same_loss(losses: list[float]) -> None:
    if max(losses) - min(losses) > 1e-3 * abs(losses[0]):
        raise SystemExit(f"loss: expected the same from all, got {losses}")


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
