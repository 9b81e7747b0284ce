"""The seven datasets outside the decathlon, each in its own layout."""

from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_triad.files import write_atomically, write_json
from nnunet_triad.images import write_volume
from tests.layouts.case import PhantomCase, simulated_case
from tests.layouts.torso import torso_case

# MM-WHS's values for the parts of the heart.
HEART_VALUES = {
    "left_ventricle": 500,
    "right_ventricle": 600,
    "left_atrium": 420,
    "right_atrium": 550,
    "myocardium": 205,
    "aorta": 820,
    "pulmonary_artery": 850,
}
_PROSTATE158_COLUMNS = (
    *("ID", "t2", "adc", "dwi", "t2_anatomy_reader1", "t2_tumor_reader1"),
    *("adc_tumor_reader1", "t2_anatomy_reader2", "adc_tumor_reader2"),
)


def write_brats21(folder: Path, *, num_cases: int, num_test: int, seed: int) -> Path:
    """Write BraTS2021_NNNNN/BraTS2021_NNNNN_{t1,t1ce,t2,flair,seg}.nii.gz; the labels skip 3."""
    del num_test
    for number in range(num_cases):
        sequences = {"t1": "T1w", "t1ce": "T1ce", "t2": "T2w", "flair": "FLAIR"}
        case = simulated_case(
            *(seed, number),
            anatomy="brain",
            sequences=tuple(sequences.values()),
            spacing_mm=(6.0, 6.0, 6.0),
            is_stripped=True,
        )
        name = f"BraTS2021_{number:05d}"
        for ending, channel in zip(sequences, case.channels, strict=True):
            write_volume(folder / name / f"{name}_{ending}.nii.gz", channel, case.affine)
        labels = case.labels({"necrotic_core": 1, "oedema": 2, "enhancing_rim": 4})
        write_volume(folder / name / f"{name}_seg.nii.gz", labels, case.affine)
    return folder


def write_breastdm(folder: Path, *, num_cases: int, num_test: int, seed: int) -> Path:
    """Write seg3D/{train,val,test}/{images,labels}/BreaDM-Ma-NNNN/{VIBRANT,VIBRANT+C2,SUB2}.npy.

    As in the release, the training labels also hold masks of a patient of the test part.
    """
    root = folder / "seg3D"
    total = num_cases + num_test
    for number in range(total):
        kind = "Ma" if number % 3 else "Be"
        patient = f"BreaDM-{kind}-18{number + 1:02d}"
        part = "test" if number >= num_cases else "val" if number == num_cases - 1 else "train"
        images, mask = _breast_slices(seed, number)
        for sequence, image in images.items():
            _write_npy(root / part / "images" / patient / f"{sequence}.npy", image)
            _write_npy(root / part / "labels" / patient / f"{sequence}.npy", mask)
            if number == total - 1 and part == "test":
                _write_npy(root / "train" / "labels" / patient / f"{sequence}.npy", mask)
    return root


def write_prostate158(folder: Path, *, num_cases: int, num_test: int, seed: int) -> Path:
    """Write prostate158_train/{train.csv, valid.csv, train/NNN/...} and prostate158_test alike."""
    train, test = folder / "prostate158_train", folder / "prostate158_test"
    rows: dict[Path, list[dict[str, str]]] = {}
    for number in range(num_cases + num_test):
        is_test = number >= num_cases
        study = f"{number - num_cases + 1:03d}" if is_test else f"{20 + number:03d}"
        case = simulated_case(
            *(seed, number),
            anatomy="pelvis",
            sequences=("T2w", "ADC", "DWI"),
            spacing_mm=(6.0, 6.0, 6.0),
        )
        root, part = (test, "test") if is_test else (train, "train")
        table = "test.csv" if is_test else "valid.csv" if number == num_cases - 1 else "train.csv"
        row = _write_study(root, f"{part}/{study}", case, has_tumour=number != 1)
        rows.setdefault(root / table, []).append({"ID": str(int(study)), **row})
    for path, lines in rows.items():
        table = pd.DataFrame(lines, columns=list(_PROSTATE158_COLUMNS))
        table.to_csv(path, index=False, lineterminator="\r\n")
    return folder


def write_mm_whs(folder: Path, *, num_cases: int, num_test: int, seed: int) -> Path:
    """Write mr_train/mr_train_NNNN_{image,label}.nii.gz and mr_test/mr_test_NNNN_image.nii.gz."""
    for number in range(num_cases + num_test):
        case = torso_case(
            *(seed, number),
            centre_mm=(-5, 15, 90),
            extent_mm=(150, 120, 150),
            spacing_mm=(6, 6, 6),
            is_ct=False,
        )
        if number >= num_cases:
            name = f"mr_test/mr_test_{2001 + number - num_cases}"
        else:
            name = f"mr_train/mr_train_{1001 + number}"
            labels = case.labels(HEART_VALUES, np.int16)
            write_volume(folder / f"{name}_label.nii.gz", labels, case.affine)
        write_volume(folder / f"{name}_image.nii.gz", case.channels[0], case.affine)
    return folder


def write_atlas(folder: Path, *, num_cases: int, num_test: int, seed: int) -> Path:
    """Write imagesTr/imN.nii.gz, labelsTr/lbN.nii.gz and dataset.json; there is no test part."""
    del num_test
    root = folder / "atlas-train-dataset-1.0.1"
    for number in range(num_cases):
        case = _abdomen(seed, number, is_ct=False)
        values = {"liver": 1, "liver_vessel": 1, "liver_tumour": 2}
        write_volume(root / f"imagesTr/im{number}.nii.gz", case.channels[0], case.affine)
        write_volume(root / f"labelsTr/lb{number}.nii.gz", case.labels(values), case.affine)
    content = {
        "description": "digital phantom in the layout of ATLAS",
        "labels": {"0": "background", "1": "liver", "2": "tumour"},
        "modality": {"0": "T1w"},
        "numTraining": num_cases,
        "numTest": 0,
        "training": [
            {"image": f"imagesTr/im{i}.nii.gz", "label": f"labelsTr/lb{i}.nii.gz"}
            for i in range(num_cases)
        ],
    }
    write_json(root / "dataset.json", content)
    return root


def write_abdomen_1k(folder: Path, *, num_cases: int, num_test: int, seed: int) -> Path:
    """Write Subtask1/TrainImage/train_NNNN_0000.nii.gz and Subtask1/TrainMask/train_NNNN.nii.gz."""
    del num_test
    root = folder / "Subtask1"
    values = {
        **{"liver": 1, "liver_vessel": 1, "liver_tumour": 1},
        **{"left_kidney": 2, "right_kidney": 2, "kidney_tumour": 2},
        **{"spleen": 3, "pancreas": 4, "pancreas_tumour": 4},
    }
    for number in range(num_cases):
        case, name = _abdomen(seed, number, is_ct=True), f"train_{number + 1:04d}"
        write_volume(root / f"TrainImage/{name}_0000.nii.gz", case.channels[0], case.affine)
        write_volume(root / f"TrainMask/{name}.nii.gz", case.labels(values), case.affine)
    return root


def write_kipa22(folder: Path, *, num_cases: int, num_test: int, seed: int) -> Path:
    """Write train/{image,label}/N.nii.gz and test/image/N.nii.gz; intensities are HU + 1024."""
    for number in range(num_cases + num_test):
        case = torso_case(
            *(seed, number),
            centre_mm=(50, -48, -66),
            extent_mm=(96, 84, 112),
            spacing_mm=(3.5, 3.5, 3.5),
            is_ct=True,
        )
        part = "train" if number < num_cases else "test"
        image = np.clip(case.channels[0].astype(np.int32) + 1024, 0, None).astype(np.uint16)
        write_volume(folder / part / f"image/{number}.nii.gz", image, case.affine)
        if part == "train":
            values = {"renal_vein": 1, "right_kidney": 2, "renal_artery": 3, "kidney_tumour": 4}
            labels = case.labels(values)
            write_volume(folder / part / f"label/{number}.nii.gz", labels, case.affine)
    return folder


def _abdomen(seed: int, number: int, *, is_ct: bool) -> PhantomCase:
    return torso_case(
        *(seed, number),
        centre_mm=(0, -10, -30),
        extent_mm=(252, 168, 168),
        spacing_mm=(8, 8, 8),
        is_ct=is_ct,
    )


def _breast_slices(seed: int, number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return (rows, columns, 8) float64 from 0 to 255: slices through the tumour, one is empty."""
    case = simulated_case(
        *(seed, number),
        anatomy="breast",
        sequences=("T1w", "T1ce"),
        spacing_mm=(5.0, 5.0, 5.0),
    )
    tumour = case.regions["lesion"]
    middle = int(np.median(np.nonzero(tumour.any(axis=(0, 1)))[0]))
    start = int(np.clip(middle - 4, 0, tumour.shape[2] - 8))
    before, after = (channel[:, :, start : start + 8] for channel in case.channels)
    scale = 255 / max(1, int(before.max()), int(after.max()))
    stacks = {
        "VIBRANT": before * scale,
        "VIBRANT+C2": after * scale,
        "SUB2": np.clip(after - before.astype(np.float64), 0, None) * scale,
    }
    images = {name: np.rint(_as_slices(stack)) for name, stack in stacks.items()}
    mask = _as_slices(tumour[:, :, start : start + 8] * 255)
    for stack in (*images.values(), mask):
        stack[:, :, -1] = 0  # stacks are padded with empty slices
    return images, mask


def _as_slices(stack: np.ndarray) -> np.ndarray:
    """Turn RAS (x, y, z) to rows that run to the back and columns that run to the left."""
    return np.ascontiguousarray(stack[::-1, ::-1].transpose(1, 0, 2)).astype(np.float64)


def _write_npy(path: Path, array: np.ndarray) -> None:
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _write_study(root: Path, folder: str, case: PhantomCase, *, has_tumour: bool) -> dict[str, str]:
    """Write a study of Prostate158 and return its line of the table; zones reach under tumours."""
    row = {}
    for name, channel in zip(("t2", "adc", "dwi"), case.channels, strict=True):
        row[name] = f"{folder}/{name}.nii.gz"
        write_volume(root / row[name], channel, case.affine)
    zones = case.labels({"transition_zone": 1, "peripheral_zone": 2, "lesion": 2})
    row["t2_anatomy_reader1"] = f"{folder}/t2_anatomy_reader1.nii.gz"
    write_volume(root / row["t2_anatomy_reader1"], zones, case.affine)
    tumour = case.labels({"lesion": 1 if has_tumour else 0})
    name = "adc_tumor_reader1" if has_tumour else "empty"
    row["adc_tumor_reader1"] = f"{folder}/{name}.nii.gz"
    write_volume(root / row["adc_tumor_reader1"], tumour, case.affine)
    if has_tumour:
        row["t2_tumor_reader1"] = f"{folder}/t2_tumor_reader1.nii.gz"
        # the release marks tumours with 3 there
        write_volume(root / row["t2_tumor_reader1"], tumour * 3, case.affine)
    return row
