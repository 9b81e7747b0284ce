"""Small volumes with a class that can be seen, and manifests of them."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np

CLASSES = ("dark", "bright", "striped")
SHAPE = (20, 26, 17)
SPLITS = ("train", "train", "train", "val", "test")


def draw_volume(label: int, seed: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return a ball in noise: dark, bright, or bright with stripes along the second axis."""
    random = np.random.default_rng([label, seed])
    axes = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij")
    ball = sum(axis**2 for axis in axes) < 0.5 + 0.2 * random.random()
    signal = (60.0, 400.0, 400.0)[label] * ball
    if label == 2:
        signal = signal * (np.arange(shape[1]) // 4 % 2)[None, :, None]
    return (100 + signal + 15 * random.standard_normal(shape)).astype(np.float32)


def write_nifti(path: Path, volume: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a volume of 2 x 1.5 x 3 mm, LAS, by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-2.0, 1.5, 3.0, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(volume, affine), path)
    return path


def write_rows(path: Path, rows: list[tuple], header: str = "image,label,split,subject") -> Path:
    """Write a manifest."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def write_dataset(folder: Path, *, num_each: int = 5) -> Path:
    """Write volumes of each class and manifest.csv, 60/20/20."""
    rows = []
    for number in range(num_each):
        for label, name in enumerate(CLASSES):
            image = f"{name}-{number}.nii.gz"
            write_nifti(folder / image, draw_volume(label, number))
            rows.append((image, name, SPLITS[number % len(SPLITS)], f"sub-{label}{number}"))
    return write_rows(folder / "manifest.csv", rows)
