"""Registration networks on a pre-trained Swin encoder: TransMorph's decoder, or Swin UNETR's."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from nnunet_triad.architectures import (
    ENCODERS,
    EncoderSpec,
    build_encoder,
    encoder_spec,
    family_of,
)
from nnunet_triad.architectures.families import registration_networks
from nnunet_triad.architectures.families.swin import SwinSpec
from nnunet_triad.architectures.padding import pad_to_stride
from nnunet_triad.architectures.swin_unetr import SwinUnetr
from nnunet_triad.errors import UserError
from registration.spatial import integrate_velocity, upsample_displacement

NUM_INPUTS = 2  # moving and fixed
_HEAD_CHANNELS = 16  # of TransMorph's last decoder block
_HEAD_STD = 1e-5  # of the head's weights at the start: the first displacement is nearly zero


def network_spec(name: str) -> tuple[str, EncoderSpec]:
    """Return the decoder and the encoder of a network, such as transmorph_l.

    Raises:
        UserError: there is no such network, or its encoder has no features for the decoder.
    """
    known = registration_networks()
    if name in known:
        decoder, encoder = known[name]
        return decoder, encoder_spec(encoder)
    decoder, _, encoder = name.partition("_")
    if encoder in ENCODERS and decoder in {pair[0] for pair in known.values()}:
        spec = encoder_spec(encoder)
        num_levels = len(spec.channels)
        raise UserError(
            f"network: expected an encoder whose features fit {decoder}'s decoder, got {encoder} "
            f"({spec.family}, {num_levels} level{'s' * (num_levels > 1)}); use one of "
            f"{', '.join(known)}",
            setting="network",
        )
    raise UserError(f"network: expected one of {', '.join(known)}, got {name!r}", setting="network")


class RegistrationNetwork(nn.Module):
    """Predict the displacement that pulls a moving image onto a fixed one.

    Sizes that the encoder cannot take are padded with zeros at the end of each axis and cropped
    back.
    """

    def __init__(
        self,
        name: str,
        *,
        is_diffeomorphic: bool = False,
        is_half_resolution: bool = False,
        use_checkpoint: bool = False,
        is_standardized: bool = False,
    ) -> None:
        """Build a network with random weights.

        Args:
            name: one of `registration_networks()`.
            is_diffeomorphic: predict a stationary velocity field and integrate it.
            is_half_resolution: predict on every other voxel and upsample: less memory and time.
            use_checkpoint: recompute activations in the backward pass: less memory, more time.
            is_standardized: see each image with a mean of 0 and a standard deviation of 1.
        """
        super().__init__()
        decoder, self.spec = network_spec(name)
        self.name = name
        self.is_diffeomorphic = is_diffeomorphic
        self.is_half_resolution = is_half_resolution
        self.is_standardized = is_standardized
        build = {"transmorph": TransMorph, "swinunetr": SwinUnetrHead}[decoder]
        self.body = build(
            self.spec, is_half_resolution=is_half_resolution, use_checkpoint=use_checkpoint
        )

    @property
    def encoder(self) -> nn.Module:
        """The encoder, into which pre-trained weights go."""
        encoder = getattr(self.body, family_of(self.spec).encoder_attribute)
        assert isinstance(encoder, nn.Module)
        return encoder

    def predict(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Return what the network itself predicts: a displacement, or a velocity.

        Args:
            moving: (b, 1, x, y, z), intensities in [0, 1].
            fixed: the same shape.

        Returns:
            (b, 3, x, y, z) float32, voxels; at half resolution (b, 3, x/2, y/2, z/2), rounded up,
            in voxels of that grid.
        """
        sizes = moving.shape[2:]
        images = torch.cat([moving, fixed], dim=1)
        padded = _pad(images, self.spec, name=self.name)
        if self.is_standardized:
            padded = _standardize(padded, images)
        field = self.body(padded).float()
        step = 2 if self.is_half_resolution else 1
        x, y, z = (-(-size // step) for size in sizes)
        return field[:, :, :x, :y, :z].contiguous()

    def displacement(self, field: Tensor, sizes: tuple[int, ...], *, sign: int = 1) -> Tensor:
        """Turn a prediction into a displacement on the images' grid.

        Args:
            field: from `predict`.
            sizes: x, y, z of the images.
            sign: -1 gives the inverse of a diffeomorphic network's displacement.

        Returns:
            (b, 3, x, y, z), voxels.
        """
        with torch.autocast(field.device.type, enabled=False):
            if self.is_diffeomorphic:
                field = integrate_velocity(sign * field)
            if self.is_half_resolution:
                even = tuple(2 * size for size in field.shape[2:])
                x, y, z = sizes
                field = upsample_displacement(field, even)[:, :, :x, :y, :z].contiguous()
            return field

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Return the displacement: (b, 3, x, y, z), voxels; see `predict` for the arguments."""
        return self.displacement(self.predict(moving, fixed), tuple(moving.shape[2:]))


class TransMorph(nn.Module):
    """TransMorph's convolutional decoder, skips and head on an encoder whose levels halve.

    Source: Chen et al., Medical Image Analysis 82, 2022 (arXiv:2111.10480), TransMorph-Large; the
    paper (section 4.4.2) replaces its transformer by the pre-trained encoder and keeps the rest.
    Differs: the encoder's patches are 2 voxels wide where TransMorph's are 4, so the levels at /4
    to /32 feed the decoder, whose base width is that of the level at /4; no stochastic depth, which
    the pre-trained encoder was not trained with. Of an encoder of another family the levels from /2
    on take their place.
    """

    def __init__(
        self, spec: EncoderSpec, *, is_half_resolution: bool = False, use_checkpoint: bool = False
    ) -> None:
        """Build the network; see `RegistrationNetwork`."""
        super().__init__()
        self.encoder_attribute = family_of(spec).encoder_attribute
        encoder = build_encoder(spec, input_channels=NUM_INPUTS, recompute=use_checkpoint)
        self.add_module(self.encoder_attribute, encoder)
        # Swin's finest level is at /2; that of a U-Net, at the image's size, is not used.
        self.first_level = int(max(spec.strides[0]) == 1)
        half, *_ = channels = spec.channels[self.first_level :]
        self.up_blocks = [f"up{number}" for number in range(len(channels) - 1)]
        for name, (fine, coarse) in zip(self.up_blocks, _pairs(channels), strict=True):
            self.add_module(name, DecoderBlock(coarse, fine, skip_channels=fine))
        self.skip_half = _conv(NUM_INPUTS, half)
        self.is_half_resolution = is_half_resolution
        self.use_checkpoint = use_checkpoint
        if not is_half_resolution:
            self.up_blocks.append(f"up{len(channels) - 1}")
            last = DecoderBlock(half, _HEAD_CHANNELS, skip_channels=_HEAD_CHANNELS)
            self.add_module(self.up_blocks[-1], last)
            self.skip_full = _conv(NUM_INPUTS, _HEAD_CHANNELS)
        self.head = _head(half if is_half_resolution else _HEAD_CHANNELS)

    def forward(self, images: Tensor) -> Tensor:
        """Predict a field.

        Args:
            images: (b, 2, x, y, z), moving and fixed; sizes divisible by the encoder's stride.

        Returns:
            (b, 3, x, y, z), or half as many voxels an axis.
        """
        run = _runner(self.use_checkpoint)
        encoder = getattr(self, self.encoder_attribute)
        _, *skips, feature = encoder(images)[self.first_level :]
        pooled = functional.avg_pool3d(images, 3, stride=2, padding=1)
        skips = [run(self.skip_half, pooled), *skips]
        if not self.is_half_resolution:
            skips = [run(self.skip_full, images), *skips]
        for name, skip in zip(self.up_blocks, skips[::-1], strict=True):
            feature = run(getattr(self, name), feature, skip)
        return self.head(feature)


class DecoderBlock(nn.Module):
    """Upsample twice, join the skip, and convolve twice."""

    def __init__(self, input_channels: int, output_channels: int, *, skip_channels: int) -> None:
        """Build the block with random weights."""
        super().__init__()
        self.conv1 = _conv(input_channels + skip_channels, output_channels)
        self.conv2 = _conv(output_channels, output_channels)

    def forward(self, feature: Tensor, skip: Tensor) -> Tensor:
        """Return (b, output channels, 2x, 2y, 2z) from a feature (b, c, x, y, z) and its skip."""
        feature = functional.interpolate(
            feature, scale_factor=2, mode="trilinear", align_corners=False
        )
        return self.conv2(self.conv1(torch.cat([feature, skip], dim=1)))


class SwinUnetrHead(SwinUnetr):
    """Swin UNETR whose last convolution predicts a field.

    Source: the paper, sections 2.3 and 4.4.2 (Swin UNETR with Swin-B as in VoCo); the head is
    TransMorph's.
    Differs: at half resolution the last decoder block and the skip from the image are left out.
    """

    def __init__(
        self, spec: EncoderSpec, *, is_half_resolution: bool = False, use_checkpoint: bool = False
    ) -> None:
        """Build the network; see `RegistrationNetwork`."""
        assert isinstance(spec, SwinSpec)
        super().__init__(
            spec,
            in_channels=NUM_INPUTS,
            out_channels=3,
            use_checkpoint=use_checkpoint,
        )
        self.is_half_resolution = is_half_resolution
        self.use_checkpoint = use_checkpoint
        if is_half_resolution:
            del self.encoder1, self.decoder1
        self.out = _head(spec.feature_size)  # type: ignore[assignment]  # in the place of theirs

    def forward(self, x_in: Tensor) -> Tensor:
        """Predict a field from (b, 2, x, y, z); see `TransMorph.forward`."""
        run = _runner(self.use_checkpoint)
        half, quarter, eighth, sixteenth, coarsest = self.swinViT(x_in)
        feature = run(self.decoder5, run(self.encoder10, coarsest), sixteenth)
        feature = run(self.decoder4, feature, run(self.encoder4, eighth))
        feature = run(self.decoder3, feature, run(self.encoder3, quarter))
        feature = run(self.decoder2, feature, run(self.encoder2, half))
        if not self.is_half_resolution:
            feature = run(self.decoder1, feature, run(self.encoder1, x_in))
        return self.out(feature)


def _runner(use_checkpoint: bool) -> Callable[..., Tensor]:
    """Return how to call a block: as it is, or again in the backward pass to save activations."""

    def run(block: Callable[..., Tensor], *features: Tensor) -> Tensor:
        if use_checkpoint and torch.is_grad_enabled():
            return checkpoint(block, *features, use_reentrant=False)
        return block(*features)

    return run


def _pairs(channels: tuple[int, ...]) -> Iterable[tuple[int, int]]:
    """Each level's channels and the next coarser one's, coarse to fine."""
    return zip(channels[-2::-1], channels[:0:-1], strict=True)


def _standardize(padded: Tensor, images: Tensor) -> Tensor:
    """Subtract each volume's mean and divide by its standard deviation, as at pre-training.

    The margin stays what it was padded with, air; it does not count in mean and deviation.
    """
    deviation, mean = torch.std_mean(images, dim=(2, 3, 4), keepdim=True, correction=0)
    return (padded - mean) / deviation.clamp_min(torch.finfo(images.dtype).eps)


def _pad(images: Tensor, spec: EncoderSpec, *, name: str) -> Tensor:
    """Pad to what the network takes; TransMorph has no norm of its own on a level of one voxel."""
    is_transmorph = name.startswith("transmorph")
    min_voxels = family_of(spec).min_bottleneck_voxels if is_transmorph else 2
    return pad_to_stride(images, spec.total_stride, min_voxels=min_voxels)


def _conv(input_channels: int, output_channels: int) -> nn.Sequential:
    """TransMorph's `Conv3dReLU` with instance norm."""
    return nn.Sequential(
        nn.Conv3d(input_channels, output_channels, 3, padding=1, bias=False),
        nn.InstanceNorm3d(output_channels),
        nn.LeakyReLU(inplace=True),
    )


def _head(input_channels: int) -> nn.Conv3d:
    head = nn.Conv3d(input_channels, 3, 3, padding=1)
    nn.init.normal_(head.weight, 0.0, _HEAD_STD)
    assert head.bias is not None
    nn.init.zeros_(head.bias)
    return head
