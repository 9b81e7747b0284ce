"""How much GPU memory a training iteration needs, without a GPU: counted on fake tensors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from nnunet_triad.errors import UserError

_TORCH_OF_FAKE_GPU = "2.10"  # older ones abort the process at a convolution on a fake GPU


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes that a training iteration holds at its peak, by what they are for."""

    parameters: int
    gradients: int
    optimizer: int  # the momentum of SGD; twice that with Adam
    activations: int  # what the forward pass saves for the backward pass
    transient: int  # the gradients of the largest activation, on its way in and out

    @property
    def total(self) -> int:
        """All of it. Not in here: the CUDA context and the workspace of cuDNN, about 1 GB."""
        return self.parameters + self.gradients + self.optimizer + self.activations + self.transient


def estimate_training_memory(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    device: str = "cuda",
    is_mixed: bool = True,
) -> MemoryEstimate:
    """Count what one iteration of nnU-Net's training holds, with SGD.

    The forward pass runs on fake tensors, which have a device, a dtype and a shape but no values;
    on a fake GPU under autocast every operation chooses its dtype as on a real one. Each
    storage that autograd saves counts once. Nothing is compiled: torch.compile saves less.

    Args:
        network: from `architectures.build_on_meta`; may return a list (deep supervision).
        input_shape: (b, c, x, y, z).
        device: whose rules of mixed precision hold.
        is_mixed: autocast to fp16, as nnU-Net does on a GPU.

    Raises:
        UserError: there is no GPU, and PyTorch is too old to do without.
    """
    if device == "cuda" and not can_fake_gpu():
        raise UserError(
            f"torch: expected {_TORCH_OF_FAKE_GPU} or newer to count GPU memory without a GPU, got "
            f"{torch.__version__}; update it, or count on a machine with a GPU"
        )
    parameters = sum(p.numel() * p.element_size() for p in network.parameters())
    trained = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    saved: dict[int, int] = {}
    keep: list[Tensor] = []  # while they live, their storages' numbers are their own
    network = deepcopy(network)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _move(network, device)
        image = torch.empty(tuple(input_shape), device=device)
        own = {_storage(t) for t in (*network.parameters(), *network.buffers())}

        def pack(tensor: Tensor) -> Tensor:
            keep.append(tensor)
            if _storage(tensor) not in own:
                saved[_storage(tensor)] = tensor.untyped_storage().nbytes()
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with hooks, _autocast(device, is_mixed):
            _loss(network(image))
    return MemoryEstimate(
        parameters=parameters,
        gradients=trained,
        optimizer=trained,
        activations=sum(saved.values()),
        transient=2 * max(saved.values(), default=0),
    )


def can_fake_gpu() -> bool:
    """Say whether GPU memory can be counted here."""
    return torch.cuda.is_available() or torch.__version__ >= _TORCH_OF_FAKE_GPU


def _move(network: nn.Module, device: str) -> None:
    """Put tensors without values of `device` in the place of all; shared ones stay shared."""
    new: dict[nn.Parameter, nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
                moved = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                module._parameters[name] = new.setdefault(parameter, moved)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextmanager
def _autocast(device: str, is_mixed: bool) -> Iterator[None]:
    """Autocast by its switches: the context manager turns itself off where there is no GPU."""
    before = torch.is_autocast_enabled(device)
    torch.set_autocast_enabled(device, is_mixed)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, before)


def _loss(logits: Tensor | list[Tensor]) -> Tensor:
    """nnU-Net's terms, soft Dice and cross-entropy, at every output."""
    outputs = logits if isinstance(logits, list | tuple) else [logits]
    total = torch.zeros((), device=outputs[0].device)
    for output in outputs:
        shape = (output.shape[0], *output.shape[2:])
        target = torch.zeros(shape, dtype=torch.long, device=output.device)
        probability = output.float().softmax(1)
        dice = 1 - (probability * probability.detach()).sum() / probability.sum()
        total = total + dice + functional.cross_entropy(output.float(), target)
    return total
