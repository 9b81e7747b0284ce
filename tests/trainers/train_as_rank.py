"""One of two processes of a distributed training on the CPU: `RANK NAME FOLDER`."""

import json
import sys
from importlib import import_module
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from nnunet_triad.trainers import variants


def train_two_steps(rank: int, name: str, folder: Path) -> None:
    """Start a training and do two steps; save the network after the start and at the end.

    Each rank has random values and a batch of its own.
    """
    distributed.init_process_group("gloo", f"file://{folder / 'store'}", rank=rank, world_size=2)
    nnunet_module = import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
    # nnU-Net passes the number of the rank's GPU, which a network on the CPU must not get
    nnunet_module.DDP = lambda network, device_ids: DistributedDataParallel(network)
    nnunet_module.nnUNetTrainer.get_dataloaders = lambda self: (None, None)
    torch.manual_seed(rank)
    trainer = getattr(variants, name)(**json.loads((folder / "init_args.json").read_text()))
    trainer.device, trainer.grad_scaler = torch.device("cpu"), None
    trainer.on_train_start()
    save(trainer.network.module, folder / f"start{rank}.pt")
    trainer.on_train_epoch_start()
    for _ in range(2):
        target = torch.randint(0, 3, (1, 1, 32, 16, 64))
        trainer.train_step({"data": torch.randn(1, 1, 32, 16, 64), "target": target})
    save(trainer.network.module, folder / f"end{rank}.pt")
    distributed.destroy_process_group()


def save(network: torch.nn.Module, path: Path) -> None:
    """Write a network's state."""
    torch.save(network.state_dict(), path)


torch.set_num_threads(1)
train_two_steps(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
