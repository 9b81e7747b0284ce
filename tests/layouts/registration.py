"""Tiny copies of IXI, OASIS and ACDC, file by file as published, for tests of their readers."""

import itertools
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (12, 10, 14)
IXI_LABELS = (2, 3, 4, 7, 8, 10, 16, 41, 42, 43)
_ACDC_AFFINE = np.diag([1.5625, 1.5625, 10.0, 1.0])


def write_ixi(folder: Path, *, seed: int = 0) -> Path:
    """Write IXI_data as TransMorph publishes it: pickles of (image, labels), and an atlas.

    Returns:
        FOLDER/IXI_data.
    """
    random = np.random.default_rng(seed)
    root = folder / "IXI_data"
    names = {"Train": (0, 4, 10), "Val": (2, 5), "Test": (1, 3)}
    _write_pickle(root / "atlas.pkl", _arrays(random, IXI_LABELS))
    for split, numbers in names.items():
        for number in numbers:
            _write_pickle(root / split / f"subject_{number}.pkl", _arrays(random, IXI_LABELS))
    return root


def write_oasis_pickles(folder: Path, *, seed: int = 0) -> Path:
    """Write OASIS as TransMorph publishes it: All/*.pkl and Test/*.pkl.

    Returns:
        FOLDER.
    """
    random = np.random.default_rng(seed)
    for number in range(1, 5):
        _write_pickle(folder / "All" / f"p_{number:04d}.pkl", _arrays(random, range(1, 36)))
    for number in (438, 439):
        x, x_labels = _arrays(random, range(1, 36))
        y, y_labels = _arrays(random, range(1, 36))
        path = folder / "Test" / f"p_{number:04d}_{number + 1:04d}.pkl"
        _write_pickle(path, (x, y, x_labels, y_labels))
    return folder


def write_neurite_oasis(folder: Path, *, has_pairs: bool = False, seed: int = 0) -> Path:
    """Write neurite-OASIS: a folder a subject; with `pairs_val.csv` as in Learn2Reg 2021.

    Returns:
        FOLDER.
    """
    random = np.random.default_rng(seed)
    numbers = (1, 2, 3, 438, 439, 440)
    for number in numbers:
        image, labels = _arrays(random, range(1, 36))
        subject = folder / f"OASIS_OAS1_{number:04d}_MR1"
        _write_nifti(subject / "aligned_norm.nii.gz", image)
        _write_nifti(subject / "aligned_seg35.nii.gz", labels)
    if has_pairs:
        (folder / "pairs_val.csv").write_text("fixed,moving\n438,439\n439,440\n", encoding="utf-8")
    return folder


def write_learn2reg_oasis(folder: Path, *, seed: int = 0) -> Path:
    """Write OASIS as Learn2Reg publishes it since 2022: imagesTr, labelsTr and a JSON.

    Returns:
        FOLDER.
    """
    random = np.random.default_rng(seed)
    names = [f"OASIS_{number:04d}_0000.nii.gz" for number in (1, 2, 395, 396, 397)]
    for name in names:
        image, labels = _arrays(random, range(1, 36))
        _write_nifti(folder / "imagesTr" / name, image)
        _write_nifti(folder / "labelsTr" / name, labels)
    pairs = [
        {"fixed": f"./imagesTr/{fixed}", "moving": f"./imagesTr/{moving}"}
        for fixed, moving in itertools.pairwise(names[2:])
    ]
    content = {"name": "OASIS", "registration_val": pairs, "numTraining": len(names)}
    (folder / "OASIS_dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_acdc(folder: Path, *, numbers: Sequence[int] = (1, 17, 40, 101), seed: int = 0) -> Path:
    """Write ACDC: patientNNN with Info.cfg, a 4D series and two labelled frames.

    Returns:
        FOLDER/database.
    """
    random = np.random.default_rng(seed)
    for number in numbers:
        name = f"patient{number:03d}"
        patient = folder / "database" / ("testing" if number > 100 else "training") / name
        frames = {"ED": 1, "ES": 5 + number % 9}
        patient.mkdir(parents=True)
        info = [*(f"{phase}: {frame}" for phase, frame in frames.items())]
        info += ["Group: DCM", "Height: 184.0", "NbFrame: 30", "Weight: 95.0"]
        (patient / "Info.cfg").write_text("\n".join(info) + "\n", encoding="utf-8")
        for frame in frames.values():
            image, labels = _arrays(random, (1, 2, 3))
            stem = f"{name}_frame{frame:02d}"
            _write_nifti(patient / f"{stem}.nii.gz", 200 * image, _ACDC_AFFINE)
            _write_nifti(patient / f"{stem}_gt.nii.gz", labels.astype(np.uint8), _ACDC_AFFINE)
        series = random.random((*SHAPE, 3)).astype(np.float32)
        _write_nifti(patient / f"{name}_4d.nii.gz", series, _ACDC_AFFINE)
    return folder / "database"


def _arrays(random: np.random.Generator, labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image in [0, 1] and labels, as the pickles hold them."""
    image = random.random(SHAPE).astype(np.float32)
    return image, random.choice([0, *labels], size=SHAPE).astype(np.int16)


def _write_pickle(path: Path, arrays: Sequence[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(tuple(arrays), protocol=2))


def _write_nifti(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = np.eye(4) if affine is None else affine
    nib.save(nib.Nifti1Image(data, grid), path)
