"""Small trees in the layouts of the paper's 17 segmentation datasets, of simulated subjects.

Names, folders and values are those of the publications; what is in the images is the phantom, or a
torso of ellipsoids where the phantom has no such organ.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from nnunet_triad.errors import UserError
from tests.layouts import challenges
from tests.layouts.msd import MSD_TASKS, write_msd_task

Writer = Callable[..., Path]

# The ids of the segmentation datasets, with their names.
LAYOUTS: dict[int, tuple[str, Writer]] = {
    501: ("BraTS21", challenges.write_brats21),
    503: ("BreastDM", challenges.write_breastdm),
    504: ("Prostate158", challenges.write_prostate158),
    506: ("MM-WHS-MRI", challenges.write_mm_whs),
    507: ("ATLAS-MRI", challenges.write_atlas),
    508: ("Abdomen-1K", challenges.write_abdomen_1k),
    509: ("KiPA22", challenges.write_kipa22),
    **{
        id: (f"MSD-{task.folder.partition('_')[2]}", partial(write_msd_task, task=task))
        for id, task in MSD_TASKS.items()
    },
}


def find_layout(id_or_name: str) -> int:
    """Return the id of a layout.

    Raises:
        UserError: there is none; the message lists them.
    """
    wanted = id_or_name.lower().replace("_", "-")
    for id, (name, _) in LAYOUTS.items():
        if wanted in (str(id), name.lower()):
            return id
    known = ", ".join(f"{id} {name}" for id, (name, _) in sorted(LAYOUTS.items()))
    raise UserError(f"layout: expected one of {known}, got {id_or_name}; name one of them")


def write_layout(
    id: int, folder: Path, *, num_cases: int = 5, num_test: int = 1, seed: int = 0
) -> Path:
    """Write a small tree in the layout of a published dataset.

    Args:
        id: of the dataset, 501 to 517.
        folder: new or empty.
        num_cases: labelled cases.
        num_test: cases of the test part, for datasets that have one.
        seed: of the subjects.

    Returns:
        The folder to hand to `triad-dataset convert`.

    Raises:
        UserError: the folder holds other files.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: expected a new or empty folder, got other files; name another")
    _, write = LAYOUTS[id]
    write(folder, num_cases=num_cases, num_test=num_test, seed=seed)
    return folder
