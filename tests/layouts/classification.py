"""Small trees in the layouts of the paper's five classification datasets, of simulated subjects.

Names, folders and columns are those of the publications; what is in the images is the phantom, or a
torso of ellipsoids. BreastDM's tree is that of its segmentation.
"""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK

from nnunet_triad.files import write_atomically, write_json
from nnunet_triad.images import write_volume
from tests.layouts.case import PhantomCase, simulated_case
from tests.layouts.challenges import write_breastdm
from tests.layouts.torso import torso_case

_GROUPS = ("CN", "MCI", "AD")
_LONI_COLUMNS = (
    *("Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality"),
    *("Description", "Type", "Acq Date", "Format", "Downloaded"),
)
_LONI_DESCRIPTION = "MPR__GradWarp__B1_Correction__N3__Scaled"
_VISITS = ("sc", "m06", "m12")
_ORGAN_SIZE, _ORGAN_MM = 64, 2.5  # voxels, and their spacing
# MedMNIST's number -> an organ of the torso, and the centre of its box in mm.
_ORGANS = {
    0: (65.0, 8.0, -10.0),
    1: (62.0, -48.0, -62.0),
    2: (-62.0, -48.0, -62.0),
    6: (-30.0, 25.0, 62.0),
    7: (75.0, 0.0, 95.0),
    8: (-75.0, 0.0, 95.0),
}
_PHASES = ("T2WI", "DWI", "In Phase", "Out Phase", "C-pre", "C+A", "C+V", "C+Delay")
_LESIONS = (
    "Hepatic_hemangioma",
    "Intrahepatic_cholangiocarcinoma",
    "Hepatic_abscess",
    "Hepatic_metastasis",
    "Hepatic_cyst",
    "FOCAL_NODULAR_HYPERPLASIA",
    "Hepatocellular_carcinoma",
)


def write_adni(folder: Path, *, num_subjects: int = 9, seed: int = 0) -> Path:
    """Write ADNI/SUBJECT/DESCRIPTION/DATE/IIMAGE/*.nii and the collection's CSV.

    Groups take turns; each subject has one to three visits.
    """
    rows = []
    for number in range(num_subjects):
        subject = f"{number + 2:03d}_S_{295 + number:04d}"
        case = simulated_case(
            seed, number, anatomy="brain", sequences=("T1w",), spacing_mm=(6.0, 6.0, 6.0)
        )
        for visit in range(1 + number % len(_VISITS)):
            image_id = f"I{45107 + 100 * number + visit}"
            date = f"200{6 + visit}-04-18_08_20_30.0"
            name = f"ADNI_{subject}_MR_{_LONI_DESCRIPTION}_Br_2006041_S13408_{image_id}.nii"
            path = folder / "ADNI" / subject / _LONI_DESCRIPTION / date / image_id / name
            _write_plain(path, case.channels[0] + visit, case.affine)
            group = _GROUPS[number % len(_GROUPS)]
            who = (image_id, subject, group, "F", str(70 + visit), _VISITS[visit], "MRI")
            what = (_LONI_DESCRIPTION, "Processed", f"4/18/200{6 + visit}", "NiFTI", "")
            rows.append((*who, *what))
    _write_csv(folder / "ADNI1_Complete_3Yr_1.5T_4_18_2024.csv", [_LONI_COLUMNS, *rows])
    return folder


def write_organmnist3d(folder: Path, *, num_each: int = 1, seed: int = 0) -> Path:
    """Write organmnist3d_64.npz: uint8 boxes around organs, three splits of `num_each` an organ."""
    arrays: dict[str, Any] = {}
    for part, split in enumerate(("train", "val", "test")):
        images, labels = [], []
        for repeat in range(num_each):
            for label, centre in _ORGANS.items():
                case = torso_case(
                    seed,
                    part * num_each + repeat,
                    centre_mm=centre,
                    extent_mm=(_ORGAN_SIZE * _ORGAN_MM,) * 3,
                    spacing_mm=(_ORGAN_MM,) * 3,
                    is_ct=True,
                )
                grey = np.clip((case.channels[0] + 200) / 400, 0, 1) * 255  # an abdominal window
                images.append(np.rint(grey).astype(np.uint8))
                labels.append([label])
        arrays[f"{split}_images"] = np.stack(images)
        arrays[f"{split}_labels"] = np.array(labels, np.uint8)
    with write_atomically(folder / "organmnist3d_64.npz") as temporary:
        np.savez_compressed(temporary, **arrays)
    return folder


def write_luna16(folder: Path, *, num_negatives: int = 5, seed: int = 0) -> Path:
    """Write subset0 .. subset9 with a scan each (MetaImage), and CSVFILES/candidates.csv.

    The first candidate of a scan is its tumour. Coordinates are ITK's: LPS, mm.
    """
    rows: list[tuple[str, ...]] = [("seriesuid", "coordX", "coordY", "coordZ", "class")]
    for number in range(10):
        uid = f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{100 + number}"
        case = torso_case(
            *(seed, number),
            centre_mm=(0.0, 0.0, 95.0),
            extent_mm=(320.0, 240.0, 160.0),
            spacing_mm=(4.0, 4.0, 8.0),
            is_ct=True,
        )
        path = folder / f"subset{number}" / f"{uid}.mhd"
        path.parent.mkdir(parents=True, exist_ok=True)
        SimpleITK.WriteImage(to_itk(case.channels[0], case.affine), str(path))
        for place, point in enumerate(_candidates(case, num_negatives, seed + number)):
            x, y, z = point
            rows.append((uid, f"{-x:.4f}", f"{-y:.4f}", f"{z:.4f}", str(int(place == 0))))
    _write_csv(folder / "CSVFILES" / "candidates.csv", rows)
    return folder


def write_lld_mmri(folder: Path, *, num_cases: int = 21, seed: int = 0) -> Path:
    """Write images/CASE/STUDY/SERIES.nii.gz in eight phases, Annotation.json and label files.

    Classes take turns; of three rounds the first is train, the second val, the third test.
    """
    information, lines = {}, {"train": [""], "val": [""], "test": [""]}
    for number in range(num_cases):
        case, study = f"MR{100000 + number}", f"study{number}"
        category = number % len(_LESIONS)
        volume = torso_case(
            *(seed, number),
            centre_mm=(70.0, 10.0, -15.0),
            extent_mm=(180.0, 160.0, 60.0),
            spacing_mm=(4.0, 4.0, 5.0),
            is_ct=False,
        )
        series = []
        for phase_number, phase in enumerate(_PHASES):
            name = f"{study}.{phase_number}"
            image = volume.channels[0] + np.int16(5 * phase_number)
            write_volume(folder / "images" / case / study / f"{name}.nii.gz", image, volume.affine)
            series.append(_series(volume, _LESIONS[category], phase, study, name))
        information[case] = series
        split = ("train", "val", "test")[number // len(_LESIONS) % 3]
        lines[split].append(f"{case} {category}")
    write_json(folder / "labels" / "Annotation.json", {"Annotation_info": information})
    for split, cases in lines.items():
        path = folder / "classification_dataset" / "labels" / f"labels_{split}.txt"
        with write_atomically(path) as temporary:
            temporary.write_text("\n".join(cases[1:]) + "\n", encoding="utf-8")
    return folder


def write_breastdm_tree(folder: Path, *, num_cases: int = 10, seed: int = 0) -> Path:
    """Write BreastDM's seg3D: mostly training cases, one of validation, two of test."""
    write_breastdm(folder, num_cases=num_cases - 2, num_test=2, seed=seed)
    return folder


CLASSIFICATION_LAYOUTS: dict[str, Callable[..., Path]] = {
    "adni": write_adni,
    "breastdm": write_breastdm_tree,
    "organmnist3d": write_organmnist3d,
    "luna16": write_luna16,
    "lld-mmri": write_lld_mmri,
}


def to_itk(volume: npt.NDArray, affine: npt.NDArray) -> SimpleITK.Image:
    """Return an ITK image (LPS) of (x, y, z) with its affine (RAS mm)."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.transpose(2, 1, 0)))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    lps = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((lps @ affine[:3, 3]).tolist())
    image.SetDirection((lps @ affine[:3, :3] / spacing).ravel().tolist())
    return image


def _candidates(case: PhantomCase, num_negatives: int, seed: int) -> list[npt.NDArray]:
    """Return world points, RAS mm: the tumour's centre, then points of the lungs."""
    generator = np.random.default_rng(seed)
    tumour = np.argwhere(case.regions["lung_tumour"]).mean(axis=0)
    lung = np.argwhere(case.regions["left_lung"])
    others = lung[generator.integers(len(lung), size=num_negatives)]
    return [(case.affine @ [*voxel, 1.0])[:3] for voxel in [tumour, *others]]


def _series(case: PhantomCase, category: str, phase: str, study: str, name: str) -> dict:
    inside = np.argwhere(case.regions["liver_tumour"])
    low, high = inside.min(axis=0), inside.max(axis=0)
    box = {f"{axis}_min": int(value) for axis, value in zip("xyz", low, strict=True)}
    box |= {f"{axis}_max": int(value) for axis, value in zip("xyz", high, strict=True)}
    spacing = np.linalg.norm(case.affine[:3, :3], axis=0).tolist()
    return {
        "phase": phase,
        "studyUID": study,
        "seriesUID": name,
        "pixel_spacing": spacing[:2],
        "slice_spacing": spacing[2],
        "origin": case.affine[:3, 3].tolist(),
        "annotation": {
            "num_targets": 1,
            "lesion": {"0": {"category": category, "bbox": {"3D_box": box}}},
        },
    }


def _write_plain(path: Path, volume: npt.NDArray, affine: npt.NDArray) -> None:
    with write_atomically(path) as temporary:
        nib.save(nib.Nifti1Image(volume, affine), temporary)


def _write_csv(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    with (
        write_atomically(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows(rows)
