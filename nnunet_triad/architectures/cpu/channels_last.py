"""Convolutional networks in the memory format that is fastest on a CPU: channels last."""

from typing import Any

import torch
from monai.networks.blocks.unetr_block import UnetrBasicBlock
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nnunet_triad.architectures.cpu.winograd import conv3d_winograd

CHANNELS_LAST = torch.channels_last_3d

# From these on, Winograd's filtering is faster (measured on a processor with AVX-512).
_MIN_CHANNELS = 16
_MIN_PLANE = 16 * 16


class ChannelsLastInstanceNorm3d(nn.InstanceNorm3d):
    """Instance norm that keeps the memory format; PyTorch's own makes channels first of it.

    An instance's norm is the batch norm of a batch of one, which keeps the format.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each channel of each image of (b, c, x, y, z)."""
        if input.device.type != "cpu" or not input.is_contiguous(memory_format=CHANNELS_LAST):
            return super().forward(input)
        items = [self._normalise(item) for item in input.split(1)]
        return items[0] if len(items) == 1 else torch.cat(items)

    def _normalise(self, item: Tensor) -> Tensor:
        if item.dtype in (torch.float32, torch.float64):
            normalised: Tensor = _ChannelsLastNorm.apply(item, self.weight, self.bias, self.eps)
            return normalised
        # PyTorch's sums in float32 are more than half precision tells.
        return functional.batch_norm(
            item, None, None, self.weight, self.bias, training=True, eps=self.eps
        )


class _ChannelsLastNorm(torch.autograd.Function):
    """Batch norm whose moments are summed plane by plane.

    PyTorch adds up all voxels of a channels-last image one after another: at 64^3 its variance is
    wrong by 1e-4 in float32. Planes fit into the cache, and the error is 1e-7.
    """

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        mean, variance = _moments(image)
        ctx.save_for_backward(image, weight, mean, (variance + eps).rsqrt())
        ctx.eps = eps
        return functional.batch_norm(image, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, weight, mean, inverse_deviation = ctx.saved_tensors
        of_image, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient.contiguous(memory_format=CHANNELS_LAST),
            image,
            weight,
            None,
            None,
            mean,
            inverse_deviation,
            True,
            ctx.eps,
            [ctx.needs_input_grad[0], weight is not None, weight is not None],
        )
        return of_image, of_weight, of_bias, None


def _moments(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance (c) of each channel of an image (1, c, x, y, z)."""
    planes = image[0].permute(1, 2, 3, 0).flatten(1, 2)  # x yz c
    averaging = planes.new_full((1, planes.shape[1]), 1 / planes.shape[1])
    means = planes.new_empty(len(planes), 1, planes.shape[2])
    within = torch.empty_like(means)
    centred = torch.empty_like(planes[0])
    for plane, mean, variance in zip(planes, means, within, strict=True):
        torch.mm(averaging, plane, out=mean)
        torch.sub(plane, mean, out=centred)
        torch.mm(averaging, centred.square_(), out=variance)
    total = means.mean(0)
    return total[0], (within + (means - total).square()).mean(0)[0]


class ChannelsLastPointwiseConv3d(nn.Conv3d):
    """A 1x1x1 convolution; on a CPU it is one matrix product, channels last."""

    def forward(self, input: Tensor) -> Tensor:
        """Mix the channels of (b, c, x, y, z)."""
        if input.device.type != "cpu":
            return super().forward(input)
        weight = self.weight.flatten(1)  # c_out c_in
        image = channels_last_on_cpu(input)
        mixed = functional.linear(image.permute(0, 2, 3, 4, 1), weight, self.bias)
        return mixed.permute(0, 4, 1, 2, 3)


class ChannelsLastConv3d(nn.Conv3d):
    """A 3x3x3 convolution whose output is channels last on a CPU, whatever its input.

    PyTorch's own falls back to channels first for one channel and for small images. Large ones
    are multiplied half as often, by Winograd's filtering.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (b, c, x, y, z)."""
        image = channels_last_on_cpu(input)
        if _pays_with_winograd(image):
            output = conv3d_winograd(image, self.weight)
            return output if self.bias is None else output + self.bias.view(1, -1, 1, 1, 1)
        return channels_last_on_cpu(super().forward(image))


class ChannelsLastConvTranspose3d(nn.ConvTranspose3d):
    """A transposed convolution whose output is channels last on a CPU."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve (b, c, x, y, z)."""
        return channels_last_on_cpu(super().forward(channels_last_on_cpu(input), output_size))


class ChannelsLastBasicBlock(UnetrBasicBlock):
    """MONAI's block of convolutions, which gets its input channels last."""

    def forward(self, inp: Tensor) -> Tensor:
        """Transform features (b, c, x, y, z)."""
        features: Tensor = super().forward(channels_last_on_cpu(inp))
        return features


def prepare_for_channels_last(network: nn.Module) -> None:
    """Make a network compute channels last on a CPU; names and values stay.

    Raises:
        ValueError: a norm keeps statistics over batches, which this one would not.
    """
    for module in network.modules():
        if type(module) is nn.InstanceNorm3d:
            if module.track_running_stats:
                raise ValueError(
                    "network: expected instance norms without running statistics, got one"
                )
            module.__class__ = ChannelsLastInstanceNorm3d
        elif type(module) is nn.Conv3d and _is_pointwise(module):
            module.__class__ = ChannelsLastPointwiseConv3d
        elif type(module) is nn.Conv3d and _is_plain(module):
            module.__class__ = ChannelsLastConv3d
        elif type(module) is nn.ConvTranspose3d:
            module.__class__ = ChannelsLastConvTranspose3d
        elif type(module) is UnetrBasicBlock:
            module.__class__ = ChannelsLastBasicBlock


def _is_pointwise(convolution: nn.Conv3d) -> bool:
    shape = (convolution.kernel_size, convolution.stride, convolution.padding)
    return shape == ((1, 1, 1), (1, 1, 1), (0, 0, 0)) and convolution.groups == 1


def _is_plain(convolution: nn.Conv3d) -> bool:
    shape = (convolution.kernel_size, convolution.padding)
    steps = (convolution.stride, convolution.dilation, (convolution.groups,) * 3)
    is_padded_with_zeros = convolution.padding_mode == "zeros"
    return shape == ((3, 3, 3), (1, 1, 1)) and set(steps) == {(1, 1, 1)} and is_padded_with_zeros


def _pays_with_winograd(image: Tensor) -> bool:
    """Whether planes are large enough to outweigh the many small calls, and precise enough."""
    if image.device.type != "cpu" or image.dtype is not torch.float32:
        return False
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    _, channels, _, y, z = image.shape
    return channels >= _MIN_CHANNELS and y * z >= _MIN_PLANE


def channels_last_on_cpu(image: Tensor) -> Tensor:
    """Return an image (b, c, x, y, z) channels last on a CPU, and as it is elsewhere."""
    if image.device.type != "cpu":
        return image
    if image.shape[1] == 1:  # both formats at once, which PyTorch takes for channels first
        return image.contiguous().squeeze(1)[..., None].permute(0, 4, 1, 2, 3)
    return image.contiguous(memory_format=CHANNELS_LAST)
