"""Boxes in noise: three without labels, two with."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

SHAPE = (32, 40, 24)
SPACING_MM = (1.0, 1.0, 2.0)


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag((*SPACING_MM, 1.0))), path)


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """The folders `unlabelled` and `labelled`, the second as nnU-Net lays images out."""
    random = np.random.default_rng(0)
    for case in range(5):
        x, y, z = random.integers(2, 14, size=3)
        label = np.zeros(SHAPE, np.uint8)
        label[x : x + 12, y : y + 16, z : z + 8] = 1
        image = (random.normal(100, 10, SHAPE) + 50 * label).astype(np.float32)
        if case < 3:
            save(image, tmp_path / "unlabelled" / f"scan_{case}.nii.gz")
            continue
        save(image, tmp_path / "labelled" / "imagesTr" / f"box_{case}_0000.nii.gz")
        save(label, tmp_path / "labelled" / "labelsTr" / f"box_{case}.nii.gz")
    return tmp_path
