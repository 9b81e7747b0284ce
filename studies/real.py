"""The real hippocampi: MSD's Task04, the paper's dataset 513, as fold 0 of nnU-Net divides it.

Source: Antonelli et al., Nature Communications 2022; CC BY-SA 4.0. 260 labelled volumes of 1 mm,
cropped around one hippocampus, of 195 people; which two volumes are of one person is not published.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_triad.datasets.splits import split_by_patient
from nnunet_triad.files import write_atomically
from nnunet_triad.images import Grid, read_labels, write_labels, write_volume
from nnunet_triad.steps import environment
from registration.affine import align
from registration.manifest import Pair, write_manifest
from registration.pairs import read_image, resample
from studies.command import run
from studies.design import Data

DATASET_ID, DATASET = 513, "Dataset513_MSD-Hippocampus"
SHAPE = (36, 50, 35)  # the volumes' median, voxels of 1 mm along x y z
SIZES = ("small", "middle", "large")
# of aligned images: voxels, which the networks take without padding
_ALIGNED_SHAPE, _ALIGNED_SPACING_MM = (32, 64, 32), 1.25
_NUM_TRAIN, _NUM_VAL_PAIRS = 60, 6  # of registration


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
    if not data.is_real:
        return cases[: -data.test_subjects], cases[-data.test_subjects :]
    train, val = fold_zero(cases)
    half = slice(None) if data.half is None else slice(data.half, None, 2)
    return train[half], val[half]


def make_real_classes(root: Path, source: Path) -> None:
    """Write parts.csv, whose classes are the tertiles of the labelled volume, training's own.

    Fold 0 tests on its validation cases; every fifth of its training cases chooses the epoch.
    """
    names = sorted(file.name for file in (source / "labelsTr").glob("*.nii.gz"))
    train, tests = fold_zero(names)
    sizes = {
        name: int((read_labels(source / "labelsTr" / name).voxels > 0).sum()) for name in names
    }
    cuts = np.quantile([sizes[name] for name in train], (1 / 3, 2 / 3))
    parts = {name: "val" if k % 5 == 4 else "train" for k, name in enumerate(train)}
    parts |= dict.fromkeys(tests, "test")
    table = pd.DataFrame(
        {
            "image": str((source / "imagesTr" / name).resolve()),
            "label": SIZES[int(np.searchsorted(cuts, sizes[name]))],
            "split": parts[name],
        }
        for name in names
    )
    root.mkdir(parents=True, exist_ok=True)
    with write_atomically(root / "parts.csv") as temporary:
        table.to_csv(temporary, index=False)


def make_real_pairs(root: Path, source: Path) -> None:
    """Align volumes affinely to the first one that fold 0 trains on; write manifest.csv.

    In training a partner is drawn at each pass; each validation case of fold 0 is in one test pair.
    """
    names = sorted(file.name for file in (source / "imagesTr").glob("*.nii.gz"))
    train, tests = fold_zero(names)
    write = _aligned_writer(root, source, train[0])
    pairs = []
    for name in train[:_NUM_TRAIN]:
        image, labels = write(name)
        pairs.append(Pair(moving=image, fixed=None, moving_labels=labels))
    vals = train[_NUM_TRAIN : _NUM_TRAIN + 2 * _NUM_VAL_PAIRS]
    for split, held in (("val", vals), ("test", tests)):
        for one, other in zip(held[::2], held[1::2], strict=True):
            (moving, moving_labels), (fixed, fixed_labels) = write(one), write(other)
            pairs.append(
                Pair(
                    moving=moving,
                    fixed=fixed,
                    moving_labels=moving_labels,
                    fixed_labels=fixed_labels,
                    split=split,
                )
            )
    write_manifest(root / "manifest.csv", pairs)


def _aligned_writer(root: Path, source: Path, template: str) -> Callable[[str], tuple[Path, Path]]:
    """Return what writes images/NAME and labels/NAME, aligned, on a grid around the template."""
    fixed = read_image(source / "imagesTr" / template)
    centre = (fixed.affine @ [*(np.array(fixed.voxels.shape) - 1) / 2, 1])[:3]
    affine = np.diag([_ALIGNED_SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = centre - _ALIGNED_SPACING_MM * (np.array(_ALIGNED_SHAPE) - 1) / 2
    grid = Grid(shape=_ALIGNED_SHAPE, affine=affine)

    def write(name: str) -> tuple[Path, Path]:
        image = read_image(source / "imagesTr" / name)
        labels = read_labels(source / "labelsTr" / name)
        matrix = align(image, fixed, "affine")
        paths = root / "images" / name, root / "labels" / name
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(paths[0], resample(image, grid, matrix=matrix), affine)
        write_labels(paths[1], resample(labels, grid, matrix=matrix, order=0), affine)
        return paths

    return write
