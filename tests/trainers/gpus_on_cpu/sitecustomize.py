"""Lets nnU-Net train "on GPUs" where there are none: Python runs this before all else.

Each process with this folder on PYTHONPATH, those that nnU-Net spawns too, computes on the CPU and
exchanges by gloo what nnU-Net asks of CUDA and NCCL. All else is nnU-Net's own.
"""

import functools
from importlib import import_module
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

_join = distributed.init_process_group


def _join_by_gloo(backend: str, **options: Any) -> None:
    _join("gloo", **options)


def _use_cpu(construct: Any) -> Any:
    @functools.wraps(construct)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        construct(self, *args, **kwargs)
        self.device, self.grad_scaler = torch.device("cpu"), None

    return call


def _distribute(network: torch.nn.Module, device_ids: object) -> torch.nn.Module:
    return DistributedDataParallel(network)


distributed.init_process_group = _join_by_gloo
torch.cuda.set_device = lambda device: None
_module = import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
_module.nnUNetTrainer.__init__ = _use_cpu(_module.nnUNetTrainer.__init__)
_module.DDP = _distribute
