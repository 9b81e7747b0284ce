"""nnU-Net raw data sets: Dataset500_Phantom, and phantoms as Dataset501_BraTS21."""

from pathlib import Path
from typing import Any

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_json
from nnunet_triad.images import write_volume
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.template import label_values
from nnunet_triad.phantom.writers.brain_extraction import channels_of, relabelled
from nnunet_triad.phantom.writers.folder import open_folder, track

PHANTOM_ID, BRATS21_ID = 500, 501
NAMES = {PHANTOM_ID: "Dataset500_Phantom", BRATS21_ID: "Dataset501_BraTS21"}
DEFAULT_SEQUENCES = ("T1ce",)
BRATS21_SEQUENCES = ("T1w", "T1ce", "T2w", "FLAIR")
_BRATS21_CHANNELS = ("T1", "T1ce", "T2", "Flair")
# nnU-Net's order of BraTS21: oedema 1, necrosis 2, enhancing tumour 3.
_BRATS21_VALUES = {"oedema": 1, "necrotic_core": 2, "enhancing_rim": 3}
_BRATS21_REGIONS: dict[str, int | list[int]] = {
    "background": 0,
    "whole tumor": [1, 2, 3],
    "tumor core": [2, 3],
    "enhancing tumor": [3],
}


def write_nnunet(
    raw: Path,
    population: Population,
    *,
    dataset_id: int = PHANTOM_ID,
    num_test_subjects: int = 0,
    sequence_names: tuple[str, ...] = DEFAULT_SEQUENCES,
    slice_mm: float | None = None,
    strips_skull: bool = False,
    show_progress: bool = False,
) -> Path:
    """Write an nnU-Net raw data set.

    Args:
        raw: nnUNet_raw.
        population: the training cases.
        dataset_id: 500 for tissues and lesions of one anatomy; 501 for tumours in four sequences
            without skull, with BraTS21's regions. 501 ignores `sequence_names`.
        num_test_subjects: further subjects in imagesTs and labelsTs.
        sequence_names: one a channel.
        slice_mm: spacing along z; None: as in the plane.
        strips_skull: zeros outside the brain; 501 always has them.
        show_progress: a bar on the terminal.

    Returns:
        RAW/DatasetNNN_Name.

    Raises:
        UserError: an unknown id, or another data set in the folder.
    """
    _check(dataset_id, population)
    is_brats21 = dataset_id == BRATS21_ID
    names = BRATS21_SEQUENCES if is_brats21 else sequence_names
    with open_folder(
        Path(raw) / NAMES[dataset_id],
        population,
        layout="nnunet",
        num_test_subjects=num_test_subjects,
        sequence_names=names,
        slice_mm=slice_mm,
        strips_skull=strips_skull,
    ) as folder:
        total = population.num_subjects + num_test_subjects
        for number in track(range(total), total, NAMES[dataset_id], is_shown=show_progress):
            volumes = channels_of(
                population, number, names, is_stripped=is_brats21 or strips_skull, slice_mm=slice_mm
            )
            suffix = "Tr" if number < population.num_subjects else "Ts"
            case = f"BraTS2021_{number:05d}" if is_brats21 else f"phantom_{number:03d}"
            for channel, volume in enumerate(volumes):
                path = folder / f"images{suffix}" / f"{case}_{channel:04d}.nii.gz"
                write_volume(path, volume.stored, volume.affine)
            labels = volumes[0].labels
            if is_brats21:
                labels = relabelled(volumes[0], _BRATS21_VALUES)
            write_volume(folder / f"labels{suffix}" / f"{case}.nii.gz", labels, volumes[0].affine)
        # Last: nnU-Net takes a folder with this file for a whole data set.
        write_json(folder / "dataset.json", _description(population, names, is_brats21=is_brats21))
    return folder


def _check(dataset_id: int, population: Population) -> None:
    if dataset_id not in NAMES:
        raise UserError(f"dataset: expected 500 or 501, got {dataset_id}")
    if dataset_id == BRATS21_ID and population.anatomies != ("brain",):
        raise UserError(f"anatomy: expected brain for 501, got {', '.join(population.anatomies)}")
    if len(population.anatomies) != 1:
        raise UserError(f"anatomy: expected one, got {', '.join(population.anatomies)}")


def _description(
    population: Population, names: tuple[str, ...], *, is_brats21: bool
) -> dict[str, Any]:
    channels = _BRATS21_CHANNELS if is_brats21 else names
    labels = _BRATS21_REGIONS if is_brats21 else label_values(population.anatomies[0])
    content: dict[str, Any] = {
        "name": "BraTS21" if is_brats21 else "Phantom",
        "description": "digital phantoms, not patients",
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": labels,
        "numTraining": population.num_subjects,
        "file_ending": ".nii.gz",
    }
    if is_brats21:
        content["regions_class_order"] = [1, 2, 3]
    return content
