"""Classification data: images and a manifest `image,label,split,subject`."""

from pathlib import Path

import pandas as pd

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_table
from nnunet_triad.images import write_volume
from nnunet_triad.phantom.acquisition import Acquisition, acquire, icbm_t1
from nnunet_triad.phantom.lesions import LESIONS
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.sequences import SEQUENCES, Sequence
from nnunet_triad.phantom.subject import make_subject
from nnunet_triad.phantom.writers.folder import open_folder, track

# Task -> its classes.
TASKS: dict[str, tuple[str, ...]] = {
    "lesion": ("healthy", *LESIONS["brain"]),
    "sequence": ("T1w", "T2w", "FLAIR", "PDw", "T1ce"),
    "ventricles": ("normal", "wide"),
}
MANIFEST_FILE = "manifest.csv"
# Of five subjects of a class, in order.
_SPLITS = ("train", "train", "train", "val", "test")
_VENTRICLE_GROWTH = 0.4


def write_classification(
    folder: Path, population: Population, *, task: str, show_progress: bool = False
) -> Path:
    """Write one image a subject, and the manifest.

    Tasks: "lesion" (FLAIR: healthy, or a kind of lesion), "sequence" (which sequence it is),
    "ventricles" (T1w: wider lateral ventricles, or not; the change is small beside the variation
    between subjects). Classes are balanced, and each is split 60/20/20. Subject 0, of the first
    class and of the training part, is the ICBM152 T1 volume.

    Args:
        folder: new, empty, or begun by the same call.
        population: brains; its `lesion` is not used.
        task: one of `TASKS`.
        show_progress: a bar on the terminal.

    Returns:
        FOLDER/manifest.csv.

    Raises:
        UserError: an unknown task, or too few subjects for all classes in all splits.
    """
    if task not in TASKS:
        raise UserError(f"task: expected one of {', '.join(TASKS)}, got {task!r}")
    least = len(TASKS[task]) * len(_SPLITS)
    if population.num_subjects < least:
        raise UserError(
            f"subjects: expected {least} or more, so that each split has every class of {task}, "
            f"got {population.num_subjects}"
        )
    with open_folder(folder, population, layout="classification", task=task) as folder:
        rows = []
        total = population.num_subjects
        for number in track(range(total), total, task, is_shown=show_progress):
            label, split = _label_and_split(task, number)
            volume = _volume(population, number, task, label)
            name = f"images/{volume.subject_name}.nii.gz"
            write_volume(folder / name, volume.stored, volume.affine)
            rows.append((name, label, split, volume.subject_name))
        table = pd.DataFrame(rows, columns=["image", "label", "split", "subject"])
        write_table(folder / MANIFEST_FILE, table)
    return folder / MANIFEST_FILE


def _label_and_split(task: str, number: int) -> tuple[str, str]:
    round_, index = divmod(number, len(TASKS[task]))
    return TASKS[task][index], _SPLITS[round_ % len(_SPLITS)]


def _volume(population: Population, number: int, task: str, label: str) -> Acquisition:
    if number == 0:
        return icbm_t1()
    subject = make_subject(
        population.seed,
        number,
        spacing_mm=population.spacing_mm,
        lesion=label if task == "lesion" and label != "healthy" else None,
        ventricle_growth=_VENTRICLE_GROWTH if label == "wide" else 0.0,
    )
    (sequence,) = population.sequences(number, (_sequence(task, label).name,))
    return acquire(subject, sequence, population.scanner(number), seed=population.seed)


def _sequence(task: str, label: str) -> Sequence:
    return SEQUENCES[{"lesion": "FLAIR", "ventricles": "T1w"}.get(task, label)]
