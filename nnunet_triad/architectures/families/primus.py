"""Primus: a plain vision transformer over tokens of 8x8x8 voxels."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from nnunet_triad.architectures.family import Family, NetworkPlan, StockNetwork
from nnunet_triad.architectures.spec import EncoderSpec, Triple, permuted

if TYPE_CHECKING:
    from torch import Tensor, nn

_EDGE = 8  # voxels of a token
_DROP_PATH_RATE = 0.2  # in segmentation: nnU-Net's
_BLOCKS = re.compile(r"eva\.blocks\.(\d+)\.")
_HEAD_SIZES = (66, 72)  # channels of a head of Primus-S, -B and -L, and of -M
_ROTATED = re.compile(r"eva\.blocks\.\d+\.attn\.[qk]_proj\.")
# nnssl's masked autoencoder counts tokens along the second axis first
_TRANSPOSING_TRAINER = "EvaMAE"


@dataclass(frozen=True, kw_only=True)
class PrimusSpec(EncoderSpec):
    """A Primus encoder: one level, at /8."""

    family: str = "primus"
    depth: int
    num_heads: int
    # tokens along each axis of the learnt positions, which are interpolated for other images
    grid: Triple = (20, 20, 20)


def primus_spec(name: str, width: int, *, depth: int, num_heads: int) -> PrimusSpec:
    """Return the spec of a Primus encoder for images of 160x160x160 voxels, as OpenMind's."""
    return PrimusSpec(
        name=name,
        channels=(width,),
        strides=((_EDGE, _EDGE, _EDGE),),
        depth=depth,
        num_heads=num_heads,
    )


class Primus(Family[PrimusSpec]):
    """dynamic-network-architectures' `Primus`, on any 3D plan.

    Source: Wald et al., 2025 (arXiv:2503.01835); AdamW at 3e-4 with a warm-up, and drop paths in
        segmentation, as nnU-Net's own Primus trainers.
    Differs: takes any size, padded with zeros at the end of each axis to multiples of 8; learnt
        positions are those of one grid, interpolated for others, rotary ones count tokens; a
        tenth of the epochs warms up; AdamW's second beta is PyTorch's.
    """

    name = "primus"
    spec_class = PrimusSpec
    encoders = (primus_spec("primus_m", 864, depth=16, num_heads=12),)
    networks: ClassVar = {"PrimusM": "primus_m"}
    stem_weight = "down_projection.proj.weight"
    embedding = "down_projection"
    tensor_prefixes = ("down_projection.", "eva.")
    has_deep_supervision = False
    epochs = 150
    settings: ClassVar = {"initial_lr": 3e-4, "weight_decay": 0.05}
    recipe_fields: ClassVar = {"optimizer": "adamw", "warmup_share": 0.1}
    finetuning = "ftadamw"
    can_recompute = True
    pretrained_encoder_rate = 0.1
    min_bottleneck_voxels = 1
    can_permute_axes = True
    must_agree = ("depth", "num_heads")

    def build_encoder(
        self, spec: PrimusSpec, *, input_channels: int = 1, recompute: bool = False
    ) -> "nn.Module":
        """Build an encoder with random weights, of the library's modules by their names."""
        whole = _whole(spec, input_channels=input_channels)
        return _encoder(whole, spec, recompute=recompute)

    def build_network(
        self,
        spec: PrimusSpec,
        *,
        input_channels: int,
        output_channels: int,
        plan: NetworkPlan | None = None,
        deep_supervision: bool = False,
        recompute: bool = False,
    ) -> "nn.Module":
        """Build a Primus of `encoder` and `up_projection`; it has one output."""
        from nnunet_triad.architectures.assembled import Assembled

        whole = _whole(
            spec,
            input_channels=input_channels,
            output_channels=output_channels,
            drop_path_rate=_DROP_PATH_RATE,
        )
        encoder = _encoder(whole, spec, recompute=recompute)
        return Assembled({"encoder": encoder, "up_projection": whole.up_projection}, _segment)

    def set_recompute(self, network: "nn.Module", recompute: bool) -> None:
        """Let the encoder's blocks recompute."""
        for module in network.modules():
            if hasattr(module, "recompute"):
                module.recompute = recompute  # type: ignore[assignment]  # a plain attribute

    def read_spec(
        self, tensors: "Mapping[str, Tensor]", arguments: Mapping[str, Any]
    ) -> PrimusSpec | None:
        """Read width, depth and the grid of positions off the tensors.

        The number of heads leaves no trace: the one whose size is a published one is taken.
        """
        stem, positions = tensors.get(self.stem_weight), tensors.get("eva.pos_embed")
        depth = len({match[1] for name in tensors if (match := _BLOCKS.match(name))})
        if stem is None or positions is None or stem.shape[2:] != (_EDGE,) * 3 or not depth:
            return None
        num_tokens, width = positions.shape[1:]
        edge = round(num_tokens ** (1 / 3))
        heads = _num_heads(width)
        if edge**3 != num_tokens or not heads:
            return None
        return PrimusSpec(
            name=self.name,
            channels=(width,),
            strides=((_EDGE, _EDGE, _EDGE),),
            depth=depth,
            num_heads=heads,
            grid=(edge, edge, edge),
        )

    def adopt(
        self, spec: PrimusSpec, tensors: "Mapping[str, Tensor]", arguments: Mapping[str, Any]
    ) -> "Mapping[str, Tensor]":
        """Make up for the order in which nnssl's masked autoencoder counts tokens.

        There token (w, h, d) has the position of (h, w, d), learnt and rotary, and the kernels of
        the embedding are those of the image: so positions alone are exchanged, exactly.
        """
        if _TRANSPOSING_TRAINER not in str(arguments.get("trainer_name", "")):
            return tensors
        return _permute_positions(tensors, spec.grid, (1, 0, 2))

    def permute_spec(self, spec: PrimusSpec, order: Triple) -> PrimusSpec:
        """Return the spec with its grid permuted."""
        return replace(super().permute_spec(spec, order), grid=permuted((spec.grid,), order)[0])

    def permute_axes(
        self, spec: PrimusSpec, tensors: "Mapping[str, Tensor]", order: Triple
    ) -> "dict[str, Tensor]":
        """Permute the embedding's kernels and all positions."""
        kernels = super().permute_axes(spec, tensors, order)
        return _permute_positions(kernels, spec.grid, order)

    def stock_network(
        self,
        spec: PrimusSpec,
        plan: NetworkPlan,
        tensors: "Mapping[str, Tensor]",
        patch_size: tuple[int, ...],
    ) -> StockNetwork | None:
        """Return nnU-Net's own Primus-M, whose positions are those of the patch's grid.

        It takes patches of whole tokens alone.
        """
        import torch

        if any(size % _EDGE for size in patch_size):
            return None
        grid = tuple(size // _EDGE for size in patch_size)
        found = {name.removeprefix("encoder."): tensor for name, tensor in tensors.items()}
        found["mask_token"] = torch.zeros(1, 1, spec.feature_size)  # of pre-training
        found["eva.pos_embed"] = _positions(found["eva.pos_embed"], spec.grid, grid)
        return StockNetwork(trainer="nnUNet_Primus_M_Trainer", plan=plan, tensors=found)

    def level_of(self, spec: PrimusSpec, name: str) -> int:
        """Return 0: there is one level."""
        return 0

    def block_of(self, spec: PrimusSpec, name: str) -> int:
        """Return the place of a parameter's block, 0 for the embedding and the positions."""
        match = _BLOCKS.match(name)
        if match:
            return int(match[1]) + 1
        return spec.depth if name.startswith("eva.norm") else 0

    def set_drop_path(self, spec: PrimusSpec, network: Any, rate: float) -> None:
        """Replace the rate of the library's drop paths."""
        _, *blocks = network.encoder.eva.blocks  # the first has none
        for place, block in enumerate(blocks, 1):
            for path in (block.drop_path1, block.drop_path2):
                path.drop_prob = rate * place / len(blocks)

    def layer_of(self, spec: PrimusSpec, level: int) -> str:
        """Return the name of a module without parameters that the feature passes through."""
        return "feature"


def _whole(spec: PrimusSpec, *, input_channels: int, output_channels: int = 2, **more: Any) -> Any:
    from dynamic_network_architectures.architectures.primus import Primus as Whole

    x, y, z = spec.grid
    return Whole(
        input_channels,
        spec.feature_size,
        spec.strides[0],
        output_channels,
        spec.depth,
        spec.num_heads,
        (_EDGE * x, _EDGE * y, _EDGE * z),
        init_values=0.1,
        scale_attn_inner=True,
        **more,
    )


def _encoder(whole: Any, spec: PrimusSpec, *, recompute: bool) -> "nn.Module":
    from torch import nn

    from nnunet_triad.architectures.assembled import Assembled

    parts = {"down_projection": whole.down_projection, "eva": whole.eva, "feature": nn.Identity()}
    return Assembled(parts, _encode, grid=spec.grid, recompute=recompute)


def _encode(encoder: Any, image: "Tensor") -> "list[Tensor]":
    """The one feature (b, d, x/8, y/8, z/8) of an image (b, c, x, y, z)."""
    import torch
    from torch.utils.checkpoint import checkpoint

    tokens = encoder.down_projection(image)
    grid = tuple(tokens.shape[2:])
    sequence = tokens.flatten(2).transpose(1, 2)  # b n d
    sequence = sequence + _positions(encoder.eva.pos_embed, encoder.grid, grid)
    rotation = _rotation(encoder, grid).to(sequence)
    for block in encoder.eva.blocks:
        if encoder.recompute and torch.is_grad_enabled():
            sequence = checkpoint(block, sequence, rope=rotation, use_reentrant=False)
        else:
            sequence = block(sequence, rope=rotation)
    feature = encoder.eva.norm(sequence).transpose(1, 2).unflatten(2, grid)
    return [encoder.feature(feature)]


def _num_heads(width: int) -> int:
    """0 where no published size of a head divides the width."""
    return next((width // size for size in _HEAD_SIZES if width % size == 0), 0)


def _permute_positions(
    tensors: "Mapping[str, Tensor]", grid: Triple, order: Triple
) -> "dict[str, Tensor]":
    """Give token p the position of token q, where p's axis j is q's axis `order[j]`.

    Each third of a head's channels turns with the position along one axis, so what turns with
    another one is exchanged in queries and keys alike, whose products stay.
    """
    found = dict(tensors)
    i, j, k = (axis + 1 for axis in order)
    learnt = found["eva.pos_embed"]
    found["eva.pos_embed"] = (
        learnt.unflatten(1, grid).permute(0, i, j, k, 4).flatten(1, 3).contiguous()
    )
    heads = _num_heads(learnt.shape[-1])
    for name, tensor in tensors.items():
        if _ROTATED.match(name):
            thirds = tensor.unflatten(0, (heads, 3, -1))
            found[name] = thirds[:, list(order)].flatten(0, 2)
    return found


def _positions(learnt: "Tensor", grid: Triple, wanted: tuple[int, ...]) -> "Tensor":
    """Learnt positions (1, n, d) on another grid of tokens."""
    from torch.nn.functional import interpolate

    if grid == wanted:
        return learnt
    assert learnt.shape[1] == prod(grid)
    volume = learnt.transpose(1, 2).unflatten(2, grid)
    return interpolate(volume, size=wanted, mode="trilinear").flatten(2).transpose(1, 2)


def _rotation(encoder: Any, grid: tuple[int, ...]) -> "Tensor":
    """Sines and cosines (n, d) of rotary positions, as the library's for images of that grid."""
    rope = encoder.eva.rope
    if grid != encoder.grid:
        shape, device = list(grid), rope.pos_embed.device
        rope = type(rope)(
            rope.dim, in_pixels=False, feat_shape=shape, ref_feat_shape=shape, device=device
        )
    return rope.get_embed()


def _segment(network: Any, image: "Tensor") -> "Tensor":
    """Logits (b, classes, x, y, z) of an image of any size."""
    from nnunet_triad.architectures.padding import pad_to_stride

    x, y, z = image.shape[2:]
    padded = pad_to_stride(image, (_EDGE, _EDGE, _EDGE), min_voxels=1)
    (feature,) = network.encoder(padded)
    return network.up_projection(feature)[:, :, :x, :y, :z]
