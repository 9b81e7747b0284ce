"""How much memory a training step needs, before it is done: counted on tensors without values."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from nnunet_triad.architectures.spec import EncoderSpec
from nnunet_triad.errors import UserError
from nnunet_triad.training.memory import GIB
from nnunet_triad.training.precision import DTYPES

_ALIGNMENT_BYTES, _ROW_OF_BIAS = 16, 16  # of the kernel's rows; values

_TORCH_OF_FAKE_GPU = "2.10"  # older ones abort the process at a convolution on a fake GPU

# What nvidia-smi showed for nnU-Net's U-Net, ResEnc M and ResEnc L (7.7, 9.1 and 22.7 GB, its
# documentation/resenc_presets.md), over this count and the CUDA context (5.9, 7.6 and 17 GB):
# 1.30, 1.20 and 1.34. The rest is cuDNN's workspace and what the allocator holds in reserve.
_GPU_BASE = 10**9
_GPU_GAP = (1.20, 1.34)
# Peaks of pre-training steps (Swin-T, Swin-B and U-Net, 64^3) over this count: 1.0 to 1.9. The
# allocator keeps all that is freed, with gaps; convolutions need scratch memory.
_CPU_BASE = 3 * 10**8
_CPU_GAP = (1.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes that a training step holds at its peak, by what they are for."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int  # what the forward pass saves for the backward pass
    transient: int  # gradients of the largest activation, or what is computed again at once
    device: str = "cuda"

    @property
    def total(self) -> int:
        """All of it, as counted."""
        return self.parameters + self.gradients + self.optimizer + self.activations + self.transient

    @property
    def range(self) -> tuple[int, int]:
        """What a device will show: the count times the gap that was measured, at least and most."""
        is_cpu = self.device == "cpu"
        low, high = _CPU_GAP if is_cpu else _GPU_GAP
        counted = self.total + (_CPU_BASE if is_cpu else _GPU_BASE)
        return round(low * counted), round(high * counted)

    def __str__(self) -> str:
        """Return the range in words."""
        return in_words(self.range)


def in_words(bounds: tuple[int, int]) -> str:
    """Return a range of bytes as "4.1 to 4.6 GiB"."""
    low, high = (f"{bound / GIB:.1f}" for bound in bounds)
    return f"{low} to {high} GiB" if low != high else f"{high} GiB"


def estimate_step_memory(
    network: nn.Module,
    compute_loss: Callable[[nn.Module, str], Tensor],
    *,
    device: str = "cuda",
    precision: str = "fp32",
    optimizer_values: int = 1,
) -> MemoryEstimate:
    """Count what one training step holds.

    The forward pass runs on fake tensors, which have a device, a dtype and a shape but no values;
    on a fake GPU under autocast every operation chooses its dtype as on a real one. Each
    storage that autograd saves counts once. Where activations are recomputed, what the forward pass
    held for a while is held again in the backward pass, with some gradients: 1.25 times as much
    (real backward passes on fake tensors of a CPU: 1.06 to 1.75 times). Nothing is compiled:
    torch.compile saves less.

    Args:
        network: from `architectures.meta.build_on_meta`.
        compute_loss: is given the network and the device, makes inputs there, and returns a loss.
        device: whose rules of mixed precision hold: "cuda" or "cpu".
        precision: as for `precision.autocast`.
        optimizer_values: that the optimiser keeps of each parameter: 1 SGD, 2 Adam, 3 amsgrad.

    Raises:
        UserError: there is no GPU, and PyTorch is too old to do without.
        RuntimeError: what the network does depends on values.
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
        own = {_storage(t) for t in (*network.parameters(), *network.buffers())}

        def pack(tensor: Tensor) -> Tensor:
            keep.append(tensor)
            if _storage(tensor) not in own:
                saved[_storage(tensor)] = tensor.untyped_storage().nbytes()
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with _Live() as live, hooks, _autocast(device, precision), _FusedAttention():
            loss = compute_loss(network, device)
        temporary = live.peak - live.now
        del loss
    return MemoryEstimate(
        parameters=parameters,
        gradients=trained,
        optimizer=trained * optimizer_values,
        activations=sum(saved.values()),
        transient=max(2 * max(saved.values(), default=0), round(1.25 * temporary)),
        device=device,
    )


def estimate_training_memory(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    device: str = "cuda",
    precision: str = "fp16",
) -> MemoryEstimate:
    """Count what one iteration of nnU-Net's training holds, with SGD.

    Args:
        network: from `build_on_meta`; may return a list (deep supervision).
        input_shape: (b, c, x, y, z).
        device: as for `estimate_step_memory`.
        precision: there; nnU-Net's is fp16 on a GPU, and fp32 on a CPU.
    """

    def compute_loss(network: nn.Module, device: str) -> Tensor:
        return _loss(network(torch.empty(tuple(input_shape), device=device)))

    return estimate_step_memory(network, compute_loss, device=device, precision=precision)


class _FusedAttention(TorchFunctionMode):
    """Takes PyTorch's memory-efficient attention for tensors of a GPU, as a GPU does.

    Without one PyTorch takes the plain formulation, which keeps all attention maps. The conditions
    and the padding are those of aten/src/ATen/native/transformers/attention.cpp and sdp_utils.cpp.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return _attend(*args, **(kwargs or {}))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    **others: Any,
) -> Tensor:
    edges = {tensor.shape[-1] * tensor.element_size() for tensor in (query, value)}
    is_fused = query.device.type == "cuda" and all(edge % _ALIGNMENT_BYTES == 0 for edge in edges)
    if not is_fused or others.get("enable_gqa"):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, **others
        )
    if attn_mask is not None:
        rest = -key.shape[-2] % _ROW_OF_BIAS
        bias = functional.pad(attn_mask, (0, rest))[..., : key.shape[-2]]
        attn_mask = bias.expand(*query.shape[:-1], key.shape[-2])
    attended, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query,
        key,
        value,
        attn_mask,
        torch.is_grad_enabled(),
        dropout_p,
        others.get("is_causal", False),
        scale=others.get("scale"),
    )
    return attended


class _Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._add, output)
        return output

    def _add(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, storage._cdata)
        return tensor

    def _remove(self, number: int) -> None:
        self.now -= self._sizes.pop(number)


def most_memory(spec: EncoderSpec, batch_size: int, size: Sequence[int]) -> int:
    """Return bytes that no training step with an encoder exceeds, without counting: for small ones.

    Args:
        spec: of the encoder.
        batch_size: images a step.
        size: voxels of an image, x y z.
    """
    weights = 500_000 * spec.channels[0] ** 2
    return weights + 400 * batch_size * prod(size) * spec.channels[0] + 2**30


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
def _autocast(device: str, precision: str) -> Iterator[None]:
    """Autocast by its switches: the context manager turns itself off where there is no GPU."""
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, precision in DTYPES)
    torch.set_autocast_dtype(device, DTYPES.get(precision, before[1]))
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])


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
