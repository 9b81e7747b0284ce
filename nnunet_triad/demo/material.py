"""What the demo is run on, as data: simulated brains, or the real hippocampi of a user's folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.datasets.splits import split_by_patient
from nnunet_triad.errors import UserError
from nnunet_triad.phantom.writers.nnunet_raw import NAMES, PHANTOM_ID
from nnunet_triad.steps import Step, make_step

NUM_LABELLED = 4
Division = tuple[list[str], list[str]]  # to train on, to test on


@dataclass(frozen=True, kw_only=True)
class Material:
    """Images without labels, and a dataset of which few cases train and the others test.

    Attributes:
        title: of the report.
        dataset_id: of nnU-Net.
        dataset: its folder's name.
        crop: voxels x,y,z of a pre-training crop.
        about: what the reader of the report has to know of the images.
        divide: gives the cases to train on and those to test on.
        image_steps: leave FOLDER/store.
        has_descriptions: whether its headers tell one image from another.
        dataset_step: leaves the dataset in FOLDER/nnUNet_raw.
    """

    title: str
    dataset_id: int
    dataset: str
    crop: str
    about: str
    divide: Callable[[list[str]], Division]
    image_steps: tuple[Step, ...]
    dataset_step: Step
    has_descriptions: bool = True


def _fold_zero(cases: list[str]) -> Division:
    """Return four training cases of nnU-Net's fold 0, and all that it validates on.

    `triad-mini` has seen the images of the former, and none of the latter.
    """
    fold = split_by_patient({case: case for case in cases})[0]
    train = fold["train"]
    return train[:: len(train) // NUM_LABELLED][:NUM_LABELLED], fold["val"]


def _without_template(cases: list[str]) -> Division:
    """Return four cases and all others, but for the first one, which the others deform."""
    return cases[1 : 1 + NUM_LABELLED], cases[1 + NUM_LABELLED :]


# Different seeds: no subject of the pre-training is seen again.
_PRETRAINING_SEED, _SEGMENTATION_SEED = 1, 2
_NUM_SUBJECTS, _NUM_LABELLED_SUBJECTS = 24, 17


def phantoms(folder: Path) -> Material:
    """Return brains that are simulated."""
    return Material(
        title="simulated brains",
        dataset_id=PHANTOM_ID,
        dataset=NAMES[PHANTOM_ID],
        crop="48,56,32",
        about=f"Fresh steps: {_NUM_SUBJECTS} simulated subjects. Labelled: other simulated "
        "subjects. Their labels are tissues, which intensities tell nearly alone: do not expect a "
        "gain here. triad-mini has seen real hippocampi, and there such encoders gained .05 of "
        "mean Dice with four labelled ones (docs/evidence). To see that, download Task04 of the "
        "Medical Segmentation Decathlon, and run triad-demo with --hippocampi Task04_Hippocampus.",
        divide=_without_template,
        image_steps=(
            make_step(
                "phantom",
                "Simulate brain MRI as a scanner exports it: DICOM, without labels",
                *("triad-phantom", "dicom", str(folder / "dicom")),
                *("--subjects", str(_NUM_SUBJECTS), "--seed", str(_PRETRAINING_SEED)),
                *("--spacing-mm", "4"),
            ),
            make_step(
                "curate",
                "Curate the DICOM files into a volume store",
                *("triad-curate", str(folder / "dicom"), str(folder / "store")),
                *("--shape", "48,56,32", "--spacing-mm", "4", "--organ", "brain"),
            ),
        ),
        dataset_step=make_step(
            "dataset",
            "Simulate a labelled dataset of other subjects",
            *("triad-phantom", "nnunet", str(folder / "nnUNet_raw"), "--dataset", str(PHANTOM_ID)),
            *("--subjects", str(_NUM_LABELLED_SUBJECTS), "--seed", str(_SEGMENTATION_SEED)),
            *("--sequences", "T1w", "--spacing-mm", "4", "--slice-mm", "5"),
        ),
    )


def hippocampi(folder: Path, source: Path) -> Material:
    """Return the real hippocampi of the Medical Segmentation Decathlon.

    Args:
        folder: of the demo.
        source: Task04_Hippocampus.

    Raises:
        UserError: it is not there.
    """
    check_hippocampi(source)
    return Material(
        title="real hippocampi",
        dataset_id=513,
        dataset="Dataset513_MSD-Hippocampus",
        crop="32,48,32",
        about="Images: Task04 of the Medical Segmentation Decathlon (Antonelli et al., Nature "
        "Communications 2022; CC BY-SA 4.0), one dataset of one contrast. The test cases are those "
        "of nnU-Net's fold 0, which the pre-trained encoder has not seen. The fresh steps have; "
        "their encoder is not fine-tuned.",
        divide=_fold_zero,
        image_steps=(
            make_step(
                "curate",
                "Curate the images, without their labels, into a volume store",
                *("triad-curate", str(source / "imagesTr"), str(folder / "store")),
                *("--shape", "36,50,35", "--organ", "brain"),
            ),
        ),
        dataset_step=make_step(
            "dataset",
            "Give the labelled images to nnU-Net",
            *("triad-dataset", "convert", "513", "--source", str(source)),
        ),
        has_descriptions=False,
    )


def check_hippocampi(source: Path) -> None:
    """Check that a folder has the volumes.

    Raises:
        UserError: it has none.
    """
    if not any(source.glob("imagesTr/*.nii.gz")):
        raise UserError(
            f"--hippocampi: expected MSD's Task04_Hippocampus, with imagesTr and labelsTr, got "
            f"{source}; download Task04 of the Medical Segmentation Decathlon"
        )
