"""Small heads with three structures on anisotropic grids, and a network that moves things."""

from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from nnunet_triad.images import Volume
from registration.model_file import build_network
from registration.settings import RegistrationSettings

SHAPE = (30, 26, 32)
SPACING = (5.0, 5.5, 4.5)


def head(
    shape=SHAPE, spacing=SPACING, *, centre_mm=(2.0, -3.0, 1.0), scale=1.0, seed=0
) -> tuple[Volume, Volume]:
    """Return an image and its labels: ellipsoids in world coordinates."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * (np.array(shape) - 1) / 2
    index = np.indices(shape).reshape(3, -1)
    world = affine[:3, :3] @ index + affine[:3, 3:] - np.array(centre_mm)[:, None]

    def ellipsoid(centre, radii):
        gap = (world - np.array(centre)[:, None]) / (scale * np.array(radii)[:, None])
        return (np.square(gap).sum(axis=0) < 1).reshape(shape)

    labels = np.zeros(shape, dtype=np.int32)
    labels[ellipsoid((0, 0, 0), (52, 60, 54))] = 1
    labels[ellipsoid((0, 5, 4), (40, 45, 40))] = 2
    labels[ellipsoid((-16, 8, 0), (9, 16, 12))] = 3
    labels[ellipsoid((18, 4, 6), (9, 14, 14))] = 4
    ripple = 0.08 * np.sin(world[0] / 9 + seed) * np.cos(world[2] / 7).reshape(-1)
    image = np.array([0.02, 0.5, 0.8, 0.3, 0.35])[labels] + ripple.reshape(shape) * (labels > 0)
    noise = np.random.default_rng(seed).normal(scale=0.01, size=shape)
    return Volume(voxels=(100 * (image + noise)).astype(np.float32), affine=affine), Volume(
        voxels=labels, affine=affine
    )


def save(path: Path, image: Volume) -> Path:
    """Write an image as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(image.voxels, image.affine), path)
    return path


def turned(image: Volume, *, order=(2, 0, 1), flips=(1, 2)) -> Volume:
    """Return the same volume in space with other axes in the file."""
    data = np.transpose(image.voxels, order)
    affine = image.affine[:, [*order, 3]].copy()
    for axis in flips:
        data = np.flip(data, axis)
        affine[:3, 3] += affine[:3, axis] * (data.shape[axis] - 1)
        affine[:3, axis] *= -1
    return Volume(voxels=np.ascontiguousarray(data), affine=affine)


def moving_network(settings: RegistrationSettings, *, size: float = 3.0, seed: int = 0):
    """Return a network of random weights whose field is smooth and reaches about `size` voxels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(settings)
        head_layer = network.body.head
        torch.nn.init.normal_(head_layer.weight, std=0.01)
        shape = (32, 32, 32)
        with torch.no_grad():
            field = network.predict(*torch.rand(2, 1, 1, *shape))
            head_layer.weight *= size / field.abs().max()
    return network.eval()
