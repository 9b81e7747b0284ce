"""Convolutional networks in the memory layout that is fastest on a CPU: channels last."""

import torch
from monai.networks.blocks.unetr_block import UnetrBasicBlock
from torch import Tensor, nn
from torch.nn import functional

LAYOUT = torch.channels_last_3d


class AnyLayoutInstanceNorm3d(nn.InstanceNorm3d):
    """Instance norm that keeps the layout of its input; PyTorch's own makes channels first of it.

    An instance's norm is the batch norm of a batch of one, which keeps the layout.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each channel of each image of (b, c, x, y, z)."""
        if input.device.type != "cpu" or not input.is_contiguous(memory_format=LAYOUT):
            return super().forward(input)
        items = [
            functional.batch_norm(
                item, None, None, self.weight, self.bias, training=True, eps=self.eps
            )
            for item in input.split(1)
        ]
        return items[0] if len(items) == 1 else torch.cat(items)


class AnyLayoutPointwiseConv3d(nn.Conv3d):
    """A 1x1x1 convolution; channels last it is one matrix product, without a copy.

    In evaluation it stays PyTorch's own, so that outputs agree with MONAI's to 1e-5.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Mix the channels of (b, c, x, y, z)."""
        is_fast = input.device.type == "cpu" and input.is_contiguous(memory_format=LAYOUT)
        if not (is_fast and self.training):
            return super().forward(input)
        weight = self.weight.flatten(1)  # c_out c_in
        mixed = functional.linear(input.permute(0, 2, 3, 4, 1), weight, self.bias)
        return mixed.permute(0, 4, 1, 2, 3)


class AnyLayoutBasicBlock(UnetrBasicBlock):
    """MONAI's block of convolutions, which gets its input in the fastest layout."""

    def forward(self, inp: Tensor) -> Tensor:
        """Transform features (b, c, x, y, z)."""
        features: Tensor = super().forward(in_fastest_layout(inp))
        return features


def prepare_for_channels_last(network: nn.Module) -> None:
    """Make a network compute in the layout of its input; names and values stay.

    Raises:
        ValueError: a norm keeps statistics over batches, which this one would not.
    """
    for module in network.modules():
        if type(module) is nn.InstanceNorm3d:
            if module.track_running_stats:
                raise ValueError(
                    "network: expected instance norms without running statistics, got one"
                )
            module.__class__ = AnyLayoutInstanceNorm3d
        elif type(module) is nn.Conv3d and _is_pointwise(module):
            module.__class__ = AnyLayoutPointwiseConv3d
        elif type(module) is UnetrBasicBlock:
            module.__class__ = AnyLayoutBasicBlock


def _is_pointwise(convolution: nn.Conv3d) -> bool:
    shape = (convolution.kernel_size, convolution.stride, convolution.padding)
    return shape == ((1, 1, 1), (1, 1, 1), (0, 0, 0)) and convolution.groups == 1


def in_fastest_layout(image: Tensor) -> Tensor:
    """Return an image (b, c, x, y, z) channels last on a CPU, and as it is elsewhere."""
    if image.device.type != "cpu":
        return image
    return image.contiguous(memory_format=LAYOUT)
