"""Small images of odd grids, their masks, and an encoder of few channels."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from nnunet_triad.architectures import build_encoder, plainconv_spec
from nnunet_triad.weights.file import WeightsInfo, save_weights

UNET = plainconv_spec("unet", (4, 8, 16))
# the axes of the files run towards posterior, superior and right
AFFINE = np.array([[0, 0, 2.0, 3], [-1.5, 0, 0, 5], [0, 1.2, 0, -7], [0, 0, 0, 1]])
SHAPE = (22, 17, 12)


@pytest.fixture(autouse=True)
def one_thread():
    """No quarrel with other programs, and sums in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_image(path: Path, seed: int, *, shape=SHAPE, affine=AFFINE) -> np.ndarray:
    """Write noise on a ramp."""
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    voxels = noise + np.add.outer(np.add.outer(*map(np.arange, shape[:2])), np.arange(shape[2]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), affine), path)
    return voxels.astype(np.float32)


def write_mask(path: Path, *, shape=SHAPE, affine=AFFINE, values=(1, 3)) -> np.ndarray:
    """Write two boxes of labels."""
    labels = np.zeros(shape, np.uint8)
    labels[3:12, 2:9, 1:8] = values[0]
    labels[14:19, 5:16, 3:11] = values[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, affine), path)
    return labels


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that saw voxels of 2 mm."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    info = WeightsInfo(spec=UNET, axes="xyz", spacing_mm=(2.0, 2.0, 2.0), licence="MIT")
    save_weights(path, build_encoder(UNET), info)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images in imagesTr and their masks in labelsTr."""
    for number in range(3):
        write_image(tmp_path / "imagesTr" / f"case{number}.nii.gz", number)
        write_mask(tmp_path / "labelsTr" / f"case{number}.nii.gz")
    return tmp_path
