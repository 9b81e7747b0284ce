"""The real hippocampi: MSD's Task04, the paper's dataset 513, as fold 0 of nnU-Net divides it.

Source: Antonelli et al., Nature Communications 2022; CC BY-SA 4.0. 260 labelled volumes of 1 mm,
cropped around one hippocampus, of 195 people; which two volumes are of one person is not published.
"""

import shutil
from pathlib import Path

from nnunet_triad.datasets.splits import split_by_patient
from nnunet_triad.steps import environment
from studies.command import run
from studies.design import Data

DATASET_ID, DATASET = 513, "Dataset513_MSD-Hippocampus"
SHAPE = (36, 50, 35)  # the volumes' median, voxels of 1 mm along x y z


def make_real_dataset(root: Path, source: Path) -> None:
    """Convert, plan and preprocess the labelled volumes in nnU-Net's folders in ROOT."""
    variables = environment(root)
    run(
        *("triad-dataset", "convert", DATASET_ID, "--source", source),
        variables={**variables, "nnUNet_raw": _made(variables["nnUNet_raw"])},
    )
    run(
        *("nnUNetv2_plan_and_preprocess", "-d", DATASET_ID, "-c", "3d_fullres"),
        *("-npfp", 1, "-np", 1),
        variables=variables,
    )


def _made(folder: str) -> str:
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


def make_real_store(images: Path, store: Path, source: Path) -> None:
    """Curate the images that fold 0 trains on, without their labels."""
    folder = source / "imagesTr"
    images.mkdir(parents=True, exist_ok=True)
    for case in fold_zero(sorted(f.name for f in folder.glob("*.nii.gz")))[0]:
        shutil.copyfile(folder / case, images / case)
    x, y, z = SHAPE
    run("triad-curate", images, store, "--shape", f"{x},{y},{z}", "--organ", "brain")


def fold_zero(cases: list[str]) -> tuple[list[str], list[str]]:
    """Return the training and validation cases of nnU-Net's fold 0."""
    fold = split_by_patient({case: case for case in cases})[0]
    return fold["train"], fold["val"]


def divide(cases: list[str], data: Data) -> tuple[list[str], list[str]]:
    """Return the cases to draw labelled ones from, and those to test on.

    What is chosen on one half is confirmed on the other: no case is in both.
    """
    if data.half is None:
        return cases[: -data.test_subjects], cases[-data.test_subjects :]
    train, val = fold_zero(cases)
    return train[data.half :: 2], val[data.half :: 2]
