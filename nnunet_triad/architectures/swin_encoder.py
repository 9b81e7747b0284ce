"""MONAI's Swin encoder, which computes as the network did that its weights come from."""

from math import gcd
from typing import Any

import torch
from monai.networks.layers import DropPath
from monai.networks.nets.swin_unetr import (
    BasicLayer,
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlock,
    WindowAttention,
    compute_mask,
    get_window_size,
)
from torch import Tensor, nn
from torch.nn import functional

from nnunet_triad.architectures.families.swin import (
    MERGINGS,
    Merging,
    SwinSpec,
    parse_conventions,
)
from nnunet_triad.architectures.family import CONVENTIONS
from nnunet_triad.architectures.spec import Triple

_IDENTITY: Triple = (0, 1, 2)
_NUM_GROUPS = 32  # of group norm (Wu and He, arXiv:1803.08494), or as many as divide the channels
# The neighbours that are joined, by their offsets along x, y and z. Before 1.5.0 MONAI took two
# of them twice and left out two others; names and shapes of the weights are the same.
_OFFSETS: dict[Merging, tuple[Triple, ...]] = {
    "old": (
        *((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        *((1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)),
    ),
    "new": (
        *((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        *((1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)),
    ),
}


class PatchMerging(PatchMergingV2):
    """Halve a grid: the channels of eight neighbours are joined and mixed."""

    merging: Merging = "new"

    def forward(self, x: Tensor) -> Tensor:
        """Merge (b, x, y, z, c) to (b, x/2, y/2, z/2, 2c), rounded up."""
        _, depth, height, width, _ = x.shape
        x = functional.pad(x, (0, 0, 0, width % 2, 0, height % 2, 0, depth % 2))
        neighbours = [x[:, i::2, j::2, k::2] for i, j, k in _OFFSETS[self.merging]]
        merged: Tensor = self.reduction(self.norm(torch.cat(neighbours, dim=-1)))
        return merged


class MaskedOnceLayer(BasicLayer):
    """MONAI's stage of blocks, which builds the mask of shifted windows once for each size.

    MONAI's builds it in every forward pass, by as many kernels as all else needs. In a compiled
    network it is part of the graph, where its kernels are fused.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Transform (b, c, x, y, z), and merge patches where there is a level below."""
        b, _, depth, height, width = x.size()
        sizes = (depth, height, width)
        window, shift = get_window_size(sizes, self.window_size, self.shift_size)
        padded = tuple(-(-size // edge) * edge for size, edge in zip(sizes, window, strict=True))
        mask = self._mask(padded, tuple(window), tuple(shift), x.device)
        x = x.permute(0, 2, 3, 4, 1)  # b x y z c
        for block in self.blocks:
            x = block(x, mask)
        x = x.view(b, depth, height, width, -1)
        if self.downsample is not None:
            x = self.downsample(x)
        return x.permute(0, 4, 1, 2, 3)

    def _mask(self, sizes: Triple, window: Triple, shift: Triple, device: torch.device) -> Tensor:
        if torch.compiler.is_compiling():
            return compute_mask(sizes, window, shift, device)
        masks: dict[Any, Tensor] = self.__dict__.setdefault("_masks", {})
        key = sizes, window, shift, device
        if key not in masks:
            with torch.inference_mode(False):  # what predicts first may train later
                masks[key] = compute_mask(sizes, window, shift, device)
        return masks[key]


class FusedWindowAttention(WindowAttention):
    """MONAI's attention within windows, by PyTorch's fused kernels on a GPU.

    Values and gradients are MONAI's, but for rounding. A fused kernel keeps no attention map for
    the backward pass, and the windows of an image are heads of one call, so that a batch shares
    bias and mask. On a CPU it is no faster, and MONAI's own code runs.
    """

    relative_position_index: Tensor

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within windows; see `fused`."""
        if x.device.type == "cpu":
            output: Tensor = super().forward(x, mask)
            return output
        return self.fused(x, mask)

    def fused(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within windows.

        Args:
            x: (b w, n, c), w windows of n voxels of each of b images; without a mask w may be 1.
            mask: (w, n, n), added to the logits, or None.

        Returns:
            (b w, n, c).
        """
        count, n, channels = x.shape
        index = self.relative_position_index[:n, :n].reshape(-1)
        bias = self.relative_position_bias_table[index].reshape(n, n, -1).permute(2, 0, 1)  # h n n
        windows = 1 if mask is None else len(mask)
        if mask is not None:
            bias = (bias + mask[:, None]).flatten(0, 1)  # (w h) n n
        split = (count // windows, windows, n, self.num_heads, channels // self.num_heads)
        query, key, value = (
            part.reshape(split).transpose(2, 3).flatten(1, 2) for part in self.qkv(x).chunk(3, -1)
        )  # b (w h) n d
        attended = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias[None].to(query.dtype),
            dropout_p=self.attn_drop.p if self.training else 0.0,
            scale=self.scale,
        )
        joined = attended.unflatten(1, (windows, self.num_heads)).transpose(2, 3)
        output: Tensor = self.proj_drop(self.proj(joined.reshape(count, n, channels)))
        return output


class SwinEncoder(SwinTransformer):
    """MONAI's `SwinTransformer`; MONAI's version and the image's axes are its weights' own.

    The buffer `conventions` (4,) keeps both in every state dict: the order of axes, and the
    patch merging. Parameters are named and shaped as in MONAI.
    """

    conventions: Tensor
    merging: Merging = "new"
    order: Triple = _IDENTITY  # axis j of what the weights see is axis order[j] of the image

    def compute_as(self, *, merging: Merging, order: Triple = _IDENTITY) -> None:
        """Compute as the network did that the weights come from.

        Args:
            merging: which neighbours it joined.
            order: axis j of the images that it saw is axis `order[j]` of the images here; features
                come back with the axes of the images here.
        """
        self.merging, self.order = merging, order
        for module in self.modules():
            if isinstance(module, PatchMerging):
                module.merging = merging
        values = torch.tensor([*order, MERGINGS.index(merging)])
        self.register_buffer(CONVENTIONS, values.to(self.patch_embed.proj.weight.device))

    def forward(self, x: Tensor, normalize: bool = True) -> list[Tensor]:
        """Return features (b, c, x, y, z), fine to coarse, of an image (b, c, x, y, z)."""
        if self.order == _IDENTITY:
            features: list[Tensor] = super().forward(x, normalize)
            return features
        i, j, k = (axis + 2 for axis in self.order)
        back = [2 + self.order.index(axis) for axis in range(3)]
        seen = super().forward(x.permute(0, 1, i, j, k).contiguous(), normalize)
        return [feature.permute(0, 1, *back).contiguous() for feature in seen]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """Load, and compute as the state says; one without conventions is MONAI's own network's.

        So folds of which only some have them can be loaded one after the other.
        """
        usual = torch.tensor([*_IDENTITY, MERGINGS.index("new")])
        values = state_dict.setdefault(prefix + CONVENTIONS, usual)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if not values.is_meta:
            merging, order = parse_conventions(values)
            self.compute_as(merging=merging, order=order)


_OURS: dict[type, type] = {WindowAttention: FusedWindowAttention, BasicLayer: MaskedOnceLayer}


def as_swin_encoder(transformer: SwinTransformer, spec: SwinSpec) -> SwinEncoder:
    """Make MONAI's encoder, built with `PatchMerging`, one that computes as `spec` says."""
    transformer.__class__ = SwinEncoder
    assert isinstance(transformer, SwinEncoder)
    for module in transformer.modules():
        if type(module) in _OURS:
            module.__class__ = _OURS[type(module)]
    if spec.group_norm:
        _use_group_norm(transformer)
    transformer.compute_as(merging=spec.merging or "new")
    return transformer


def set_drop_path(encoder: SwinTransformer, rate: float) -> None:
    """Drop residual branches in training, the deeper the more often, up to `rate` in the last one.

    Source: MONAI's `dropout_path_rate`, whose rates and modules these are.
    """
    blocks = [module for module in encoder.modules() if isinstance(module, SwinTransformerBlock)]
    for block, probability in zip(blocks, torch.linspace(0, rate, len(blocks)), strict=True):
        block.drop_path = DropPath(probability.item()) if probability > 0 else nn.Identity()


def _use_group_norm(transformer: SwinTransformer) -> None:
    """Put group norms in place of V2's instance norms, by MONAI's names of `norm_name="group"`."""
    for block in transformer.modules():
        for name, module in list(block.named_children()):
            if isinstance(module, nn.InstanceNorm3d):
                channels = module.num_features
                setattr(block, name, nn.GroupNorm(gcd(_NUM_GROUPS, channels), channels))
