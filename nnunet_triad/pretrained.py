"""A pre-trained encoder as one object: images in, features out."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nnunet_triad.architectures import EncoderSpec, build_encoder, family_of
from nnunet_triad.architectures.padding import pad_to_stride
from nnunet_triad.errors import UserError
from nnunet_triad.images import Nan, Volume, read_volume
from nnunet_triad.images.intensity import Intensity, Scale, rescale
from nnunet_triad.images.orientation import order_of_axes
from nnunet_triad.images.resampling import apply_along_axes, plan_resampling, resampled_length
from nnunet_triad.weights.file import EncoderWeights, WeightsInfo
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.stated import Stated
from nnunet_triad.weights.transfer import Shown, transfer_encoder


@dataclass(frozen=True, kw_only=True)
class Features:
    """What an encoder gives of one subject.

    Attributes:
        levels: one array (c, x, y, z) float32 a level, fine to coarse; axes run right, anterior
            and superior.
        affines: (4, 4) each: voxel of the level to world (RAS), mm.
    """

    levels: tuple[npt.NDArray[np.float32], ...]
    affines: tuple[npt.NDArray[np.float64], ...]

    def pooled(self, level: int = -1) -> npt.NDArray[np.float32]:
        """Return the mean over a level's voxels: (c,)."""
        mean: npt.NDArray[np.float32] = self.levels[level].mean(axis=(1, 2, 3))
        return mean


class PretrainedEncoder(nn.Module):
    """An encoder with its weights, that shows itself images as it saw them in pre-training.

    Attributes:
        info: what the weights' file says.
        spec: of the encoder; its axes run right, anterior and superior where the weights' can turn.
        report: what became of every tensor, and what is not known.
    """

    def __init__(self, weights: EncoderWeights, *, input_channels: int | None = None) -> None:
        """Build the encoder.

        Args:
            weights: from `load_weights`.
            input_channels: images of one subject; None: as many as the weights saw.

        Raises:
            UserError: the weights do not fill their own encoder.
        """
        super().__init__()
        self.info = weights.info
        self.input_channels = input_channels or weights.info.input_channels
        self.spec = _turned(weights.info)
        self.encoder = build_encoder(self.spec, input_channels=self.input_channels)
        self.report = transfer_encoder(self.encoder, weights, Shown(axes="xyz"))
        self.eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return features (b, c', x', y', z'), fine to coarse.

        Args:
            image: (b, c, x, y, z), axes towards right, anterior and superior, intensities as the
                weights saw them; sizes divisible by the encoder's stride. See `prepare`.
        """
        features: list[Tensor] = self.encoder(image)
        return features

    def prepare(self, images: Any, *, key: str | None = None) -> tuple[Tensor, np.ndarray]:
        """Turn, resample and scale the images of a subject as the weights saw theirs.

        Axes go towards right, anterior and superior. The spacing becomes the weights', linearly,
        where it is known. Intensities come to the weights' scale, z-scores where it is not known.

        Args:
            images: as for `features`.
            key: as there.

        Returns:
            (1, c, x, y, z) float32, and the affine (4, 4), voxel to world, mm.

        Raises:
            UserError: as there.
        """
        own_grid = np.diag([*(self.spacing_mm or (1.0, 1.0, 1.0)), 1.0])
        volumes = [volume.to_ras() for volume in _volumes(images, key, own_grid)]
        first = volumes[0]
        if len(volumes) != self.input_channels:
            raise UserError(
                f"images: expected {self.input_channels} of one subject, got {len(volumes)}; "
                "load the encoder with input_channels="
                f"{len(volumes)} to share its first layer out"
            )
        for volume in volumes[1:]:
            if difference := first.grid.difference(volume.grid):
                raise UserError(
                    f"{volume.name or 'images'}: expected the grid of {first.name or 'the first'}, "
                    f"got {difference}; resample it first"
                )
        resampled = [self._resample(volume) for volume in volumes]
        scale = Intensity.parse(self.info.intensity_normalization)
        if scale.scale is Scale.UNKNOWN:
            warnings.warn(
                "the intensity scale that the weights saw is not known: z-scores are taken",
                stacklevel=2,
            )
        arrays = [rescale(volume.voxels, scale) for volume in resampled]
        return torch.from_numpy(np.stack(arrays))[None], resampled[0].affine

    @torch.no_grad()
    def features(self, images: Any, *, key: str | None = None) -> Features:
        """Return the features of one subject.

        Args:
            images: a path, a `Volume`, a nibabel image, a tensor or array (c, x, y, z) with an
                attribute `affine` as MONAI's and TorchIO's, a plain array (x, y, z), whose axes run
                right, anterior and superior and whose spacing is the weights'; a dictionary of
                these; or a list of these, one for each input channel.
            key: of a dictionary's image; None: `image`, or the only one there is.

        Raises:
            UserError: an image cannot be read, or is not on the grid of the first.
        """
        image, affine = self.prepare(images, key=key)
        spec = self.spec
        voxels = family_of(spec).min_bottleneck_voxels
        padded = pad_to_stride(image, spec.total_stride, min_voxels=voxels)
        levels, affines = [], []
        step = np.ones(3)
        device = next(self.parameters()).device
        for feature, stride in zip(self(padded.to(device)), spec.strides, strict=True):
            step = step * stride
            x, y, z = np.ceil(np.array(image.shape[2:]) / step).astype(int)
            levels.append(feature[0, :, :x, :y, :z].float().cpu().numpy())
            index_map = np.diag([*step, 1.0])
            index_map[:3, 3] = (step - 1) / 2  # a cell lies in the middle of its voxels
            affines.append(affine @ index_map)
        return Features(levels=tuple(levels), affines=tuple(affines))

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """The weights', along x, y and z."""
        spacing, axes = self.info.spacing_mm, self.info.axes or "xyz"
        if spacing is None:
            return None
        x, y, z = (spacing[axes.index(axis)] for axis in "xyz")
        return x, y, z

    def _resample(self, volume: Volume) -> Volume:
        spacing = self.spacing_mm
        if spacing is None:
            return volume
        shape = tuple(
            resampled_length(length, now, wanted)
            for length, now, wanted in zip(
                volume.voxels.shape, volume.grid.spacing_mm, spacing, strict=True
            )
        )
        matrices, affine = plan_resampling(
            volume.voxels.shape,
            volume.affine,
            target_spacing_mm=spacing,
            target_shape=(shape[0], shape[1], shape[2]),
        )
        voxels = apply_along_axes(volume.voxels.astype(np.float32), matrices)
        return Volume(voxels=voxels, affine=affine, name=volume.name)


def load_encoder(
    place: Path | str, *, input_channels: int | None = None, stated: Stated | None = None
) -> PretrainedEncoder:
    """Load a pre-trained encoder, ready for images.

    Args:
        place: a weights file of any source, or `hf://ORG/NAME[/FILE][@REVISION]`.
        input_channels: images of one subject; None: as many as the weights saw.
        stated: what the file cannot say.

    Raises:
        UserError: there is no such file, or it holds no known encoder.
    """
    weights = load_weights(place, stated or Stated().or_environment())
    return PretrainedEncoder(weights, input_channels=input_channels)


def _turned(info: WeightsInfo) -> EncoderSpec:
    """The encoder for images x y z whose kernels are those of the weights, permuted."""
    family = family_of(info.spec)
    if info.axes is None or not family.can_permute_axes:
        return info.spec
    turned: EncoderSpec = family.permute_spec(info.spec, order_of_axes("xyz", info.axes))
    return turned


def _volumes(images: Any, key: str | None, own_grid: np.ndarray) -> list[Volume]:
    if isinstance(images, Mapping):
        return _volumes(_chosen(images, key), None, own_grid)
    if isinstance(images, Sequence) and not isinstance(images, str):
        return [volume for image in images for volume in _volumes(image, key, own_grid)]
    if isinstance(images, str | Path):
        return [read_volume(Path(images), nan=Nan.REFUSE)]
    if isinstance(images, Volume):
        return [images]
    if isinstance(images, nib.spatialimages.SpatialImage):
        return [_volume(images.get_fdata(dtype=np.float32), images.affine)]
    affine = getattr(images, "affine", None)
    values = np.asarray(getattr(images, "data", images) if affine is not None else images)
    if affine is None and values.ndim == 3:
        return [_volume(values, own_grid)]
    if affine is not None and values.ndim == 4:
        return [_volume(channel, np.asarray(affine)) for channel in values]
    raise UserError(
        "images: expected a path, a Volume, a nibabel image, a tensor (c, x, y, z) with an affine "
        f"or an array (x, y, z), got {type(images).__name__} of {values.ndim} axes; see "
        "PretrainedEncoder.features"
    )


def _volume(voxels: np.ndarray, affine: np.ndarray) -> Volume:
    if not np.isfinite(voxels).all():
        raise UserError("images: expected finite values, got NaN or infinity; fill them first")
    return Volume(voxels=np.asarray(voxels, np.float32), affine=np.array(affine, float))


def _chosen(images: Mapping[Any, Any], key: str | None) -> Any:
    names = [key] if key is not None else ["image"] if "image" in images else list(images)
    if len(names) != 1 or names[0] not in images:
        raise UserError(
            f"images: expected a key of {', '.join(map(str, images))}, got {key}; name one by key="
        )
    return images[names[0]]
