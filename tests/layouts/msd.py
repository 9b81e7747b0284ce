"""The ten tasks of the Medical Segmentation Decathlon, with `dataset.json` as published."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnunet_triad.files import write_json
from nnunet_triad.images import write_volume
from nnunet_triad.phantom.sequences import SCANNERS, SEQUENCES
from nnunet_triad.phantom.subject import make_subject
from tests.layouts.case import PhantomCase, imaged_case, simulated_case
from tests.layouts.torso import torso_case

_Triple = tuple[float, float, float]
_HIPPOCAMPUS_MM = (-26.0, -20.0, -14.0)  # of the left one, in the template
_HIPPOCAMPUS_RADII_MM = (11.0, 22.0, 12.0)
_BOX = 20  # voxels along each axis
_ABDOMEN: tuple[_Triple, _Triple] = ((20.0, 0.0, -25.0), (224.0, 168.0, 140.0))
_CHEST: tuple[_Triple, _Triple] = ((0.0, 5.0, 90.0), (224.0, 154.0, 126.0))


@dataclass(frozen=True, kw_only=True)
class MsdTask:
    """What is peculiar to a task.

    Attributes:
        folder: "Task01_BrainTumour".
        prefix: of file names, before the number.
        labels: as in `dataset.json`.
        regions: the phantom's regions, with their values.
        num_digits: of the number.
        first_number: of the published cases.
        modality: as in `dataset.json`.
        box: centre and extent in a torso, mm; None: around a hippocampus.
        anatomy: of a phantom instead of a torso, with `sequences`.
        sequences: of the phantom, a channel each.
        spacing_mm: of the volumes.
    """

    folder: str
    prefix: str
    labels: tuple[str, ...]
    regions: Mapping[str, int]
    num_digits: int = 3
    first_number: int = 1
    modality: tuple[str, ...] = ("CT",)
    box: tuple[_Triple, _Triple] | None = _ABDOMEN
    anatomy: str = ""
    sequences: tuple[str, ...] = ()
    spacing_mm: _Triple = (7.0, 7.0, 7.0)

    def case(self, seed: int, number: int) -> PhantomCase:
        """Make a case."""
        if self.sequences:
            return simulated_case(
                *(seed, number),
                anatomy=self.anatomy,
                sequences=self.sequences,
                spacing_mm=self.spacing_mm,
                is_stripped=self.anatomy == "brain",
            )
        if self.box is None:
            return _hippocampus(seed, number, self.spacing_mm)
        centre, extent = self.box
        return torso_case(
            *(seed, number),
            centre_mm=centre,
            extent_mm=extent,
            spacing_mm=self.spacing_mm,
            is_ct=self.modality == ("CT",),
        )

    def name(self, number: int) -> str:
        """Return a case's name."""
        return f"{self.prefix}_{self.first_number + number:0{self.num_digits}d}"


def write_msd_task(
    folder: Path, task: MsdTask, *, num_cases: int, num_test: int, seed: int
) -> Path:
    """Write TASK/{dataset.json, imagesTr, labelsTr, imagesTs}; channels are the fourth axis."""
    root = folder / task.folder
    for number in range(num_cases + num_test):
        case, name = task.case(seed, number), task.name(number)
        image = case.channels[0] if len(case.channels) == 1 else np.stack(case.channels, axis=-1)
        part = "imagesTr" if number < num_cases else "imagesTs"
        write_volume(root / part / f"{name}.nii.gz", image.astype(np.float32), case.affine)
        if number < num_cases:
            labels = case.labels(task.regions)
            write_volume(root / "labelsTr" / f"{name}.nii.gz", labels, case.affine)
    names = [task.name(number) for number in range(num_cases + num_test)]
    write_json(root / "dataset.json", _description(task, names[:num_cases], names[num_cases:]))
    return root


def _description(task: MsdTask, training: list[str], test: list[str]) -> dict[str, object]:
    return {
        "name": task.folder.partition("_")[2],
        "description": "digital phantom in the layout of the decathlon",
        "reference": "none",
        "licence": "Apache-2.0",
        "release": "1.0",
        "tensorImageSize": "4D" if len(task.modality) > 1 else "3D",
        "modality": {str(i): name for i, name in enumerate(task.modality)},
        "labels": {str(i): name for i, name in enumerate(("background", *task.labels))},
        "numTraining": len(training),
        "numTest": len(test),
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in training
        ],
        "test": [f"./imagesTs/{name}.nii.gz" for name in test],
    }


def _hippocampus(seed: int, number: int, spacing_mm: _Triple) -> PhantomCase:
    """Return a box around the left hippocampus; the labels are an ellipsoid in the template."""
    subject = make_subject(seed, number, spacing_mm=spacing_mm[0], lesion=None)
    scanner = SCANNERS[(seed + number) % len(SCANNERS)]
    brain = imaged_case(subject, [SEQUENCES["T1w"]], scanner, seed=seed, spacing_mm=spacing_mm)
    shape = brain.channels[0].shape
    indices = np.indices(shape).transpose(1, 2, 3, 0)
    points = indices @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    template_mm = points + subject.displacement_mm.transpose(1, 2, 3, 0)
    x, y, z = ((template_mm - _HIPPOCAMPUS_MM) / _HIPPOCAMPUS_RADII_MM).transpose(3, 0, 1, 2)
    inside = x**2 + y**2 + z**2 < 1
    labelled = replace(
        brain, regions={"anterior": inside & (y >= 0), "posterior": inside & (y < 0)}
    )
    middle = [int(np.median(where)) for where in np.nonzero(inside)]
    start = [int(np.clip(m - _BOX // 2, 0, n - _BOX)) for m, n in zip(middle, shape, strict=True)]
    x_box, y_box, z_box = (slice(first, first + _BOX) for first in start)
    return labelled.cropped((x_box, y_box, z_box))


MSD_TASKS: dict[int, MsdTask] = {
    502: MsdTask(
        folder="Task01_BrainTumour",
        prefix="BRATS",
        modality=("FLAIR", "T1w", "t1gd", "T2w"),
        labels=("edema", "non-enhancing tumor", "enhancing tumour"),
        regions={"necrotic_core": 2, "oedema": 1, "enhancing_rim": 3},
        anatomy="brain",
        sequences=("FLAIR", "T1w", "T1ce", "T2w"),
        spacing_mm=(6.0, 6.0, 6.0),
    ),
    505: MsdTask(
        folder="Task05_Prostate",
        prefix="prostate",
        num_digits=2,
        first_number=0,
        modality=("T2", "ADC"),
        labels=("PZ", "TZ"),
        regions={"peripheral_zone": 1, "transition_zone": 2},
        anatomy="pelvis",
        sequences=("T2w", "ADC"),
        spacing_mm=(6.0, 6.0, 9.0),
    ),
    510: MsdTask(
        folder="Task07_Pancreas",
        prefix="pancreas",
        labels=("pancreas", "cancer"),
        regions={"pancreas": 1, "pancreas_tumour": 2},
    ),
    511: MsdTask(
        folder="Task03_Liver",
        prefix="liver",
        labels=("liver", "cancer"),
        regions={"liver": 1, "liver_vessel": 1, "liver_tumour": 2},
        num_digits=1,
        first_number=0,
    ),
    512: MsdTask(
        folder="Task02_Heart",
        prefix="la",
        labels=("left atrium",),
        regions={"left_atrium": 1},
        first_number=3,
        modality=("MRI",),
        box=_CHEST,
    ),
    513: MsdTask(
        folder="Task04_Hippocampus",
        prefix="hippocampus",
        labels=("Anterior", "Posterior"),
        regions={"anterior": 1, "posterior": 2},
        modality=("MRI",),
        box=None,
        spacing_mm=(5.0, 5.0, 5.0),
    ),
    514: MsdTask(
        folder="Task06_Lung",
        prefix="lung",
        labels=("cancer",),
        regions={"lung_tumour": 1},
        box=_CHEST,
    ),
    515: MsdTask(
        folder="Task08_HepaticVessel",
        prefix="hepaticvessel",
        labels=("Vessel", "Tumour"),
        regions={"liver_vessel": 1, "liver_tumour": 2},
    ),
    516: MsdTask(
        folder="Task09_Spleen",
        prefix="spleen",
        labels=("spleen",),
        regions={"spleen": 1},
        num_digits=1,
        first_number=2,
        box=((-20.0, 0.0, -25.0), (224.0, 168.0, 140.0)),
    ),
    517: MsdTask(
        folder="Task10_Colon",
        prefix="colon",
        labels=("colon cancer primaries",),
        regions={"colon_tumour": 1},
        box=((-40.0, 10.0, -80.0), (210.0, 168.0, 140.0)),
    ),
}
