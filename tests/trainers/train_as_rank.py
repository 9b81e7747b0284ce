"""One process of a distributed training on the CPU: `RANK SIZE FOLDER NAME...`.

With nnUNet_compile=t the network is compiled, which nnU-Net leaves out on a CPU.
"""

import functools
import itertools
import json
import os
import sys
from importlib import import_module
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from nnunet_triad.trainers import variants
from nnunet_triad.trainers.base import bare_network

SHAPE = (32, 16, 64)


def prepare(rank: int, size: int, folder: Path) -> None:
    """Join the processes, and take away what nnU-Net wants of GPUs and data."""
    nnunet_module = import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
    nnunet_module.nnUNetTrainer.get_dataloaders = lambda self: (None, None)
    # each step is clipped, so that whose gradients count shows in all updates
    clip = torch.nn.utils.clip_grad_norm_
    torch.nn.utils.clip_grad_norm_ = lambda parameters, _: clip(parameters, 0.1)
    if os.environ["nnUNet_compile"] == "t":  # noqa: SIM112
        nnunet_module.nnUNetTrainer._do_i_compile = lambda self: True
        torch.compile = functools.partial(torch.compile, backend="aot_eager")
    if size > 1:
        store = f"file://{folder / 'store'}"
        distributed.init_process_group("gloo", store, rank=rank, world_size=size)
        # nnU-Net passes the number of the rank's GPU, which a network on the CPU must not get
        nnunet_module.DDP = lambda network, device_ids: DistributedDataParallel(network)


def train(rank: int, name: str, folder: Path) -> None:
    """Do two epochs of two steps; save the network after the start and at the end.

    Each rank has random values of its own before the start, and the same batches and dropped
    branches.
    """
    torch.manual_seed(rank)
    trainer = getattr(variants, name)(**json.loads((folder / "init_args.json").read_text()))
    trainer.device, trainer.grad_scaler = torch.device("cpu"), None
    trainer.num_epochs, trainer.num_iterations_per_epoch = 10, 2
    trainer.on_train_start()
    save(trainer.network, folder / f"{name}.start{rank}.pt")
    random = torch.Generator().manual_seed(0)
    for epoch, iteration in itertools.product(range(2), range(2)):
        if iteration == 0:
            trainer.current_epoch = epoch
            trainer.on_train_epoch_start()
        torch.manual_seed(100 * epoch + iteration)  # of the branches that are dropped
        trainer.train_step(batch(random, trainer._get_deep_supervision_scales()))
    save(trainer.network, folder / f"{name}.end{rank}.pt")


def batch(random: torch.Generator, scales: list | None) -> dict:
    """Make a batch of noise, with a target for each output of the network."""
    target = torch.randint(0, 3, (1, 1, *SHAPE), generator=random)
    image = torch.randn(1, 1, *SHAPE, generator=random)
    steps = [] if scales is None else [[round(1 / one) for one in scale] for scale in scales]
    coarser = [target[:, :, ::x, ::y, ::z] for x, y, z in steps]
    return {"data": image, "target": coarser or target}


def save(network: torch.nn.Module, path: Path) -> None:
    """Write a network's state."""
    torch.save(bare_network(network).state_dict(), path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    own_rank, num_ranks, path = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    prepare(own_rank, num_ranks, path)
    for trainer_name in sys.argv[4:]:
        train(own_rank, trainer_name, path)
    if num_ranks > 1:
        distributed.destroy_process_group()
