"""A BIDS tree: images with their sidecars, and the truth as a derivative."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnunet_triad import __version__
from nnunet_triad.files import write_json, write_table
from nnunet_triad.images import write_volume
from nnunet_triad.images.displacement import write_displacement
from nnunet_triad.phantom.acquisition import Acquisition
from nnunet_triad.phantom.deformation import STORED_STEP_MM
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.sequences import Sequence as MRSequence
from nnunet_triad.phantom.subject import Subject
from nnunet_triad.phantom.template import label_values
from nnunet_triad.phantom.writers.folder import open_folder, track

BIDS_VERSION = "1.9.0"
_PARTICIPANT = ["participant_id", "anatomy", "lesion", "scanner", "field_strength_t"]
_TRUTH = Path("derivatives") / "truth"
_SCANNING_SEQUENCE = {
    "spin_echo": "SE",
    "inversion_recovery": "IR",
    "spoiled_gradient_echo": "GR",
}
# Two T1-weighted or two T2-weighted images of one visit need an entity that tells them apart.
_ACQUISITION = {"T1se": "se", "STIR": "stir"}


def write_bids(
    folder: Path,
    population: Population,
    *,
    sequence_names: tuple[str, ...] = (),
    is_randomised: bool = False,
    show_progress: bool = False,
) -> Path:
    """Write a population as a BIDS data set.

    Images are in sub-NNN/anat; labels and the displacement to the template are in
    derivatives/truth, in the same folders. BIDS has no suffix for an image of random contrast:
    theirs is MRI.

    Args:
        folder: new, empty, or begun by the same call.
        population: who.
        sequence_names: of each visit; empty: three at random.
        is_randomised: three images of random contrast a subject, instead of sequences.
        show_progress: a bar on the terminal.

    Returns:
        The folder.
    """
    layout = "bids, randomised" if is_randomised else "bids"
    with open_folder(folder, population, layout=layout, sequence_names=sequence_names) as folder:
        _write_description(folder, "raw", "Digital phantoms")
        _write_description(
            folder / _TRUTH, "derivative", "Labels and displacements of the phantoms"
        )
        people = []
        total = population.num_subjects
        for number in track(range(total), total, "BIDS", is_shown=show_progress):
            if is_randomised:
                subject, images = population.randomised(number)
                scanned = ("n/a", "n/a")
                _write_randomised(folder, subject, images)
            else:
                subject, volumes = population.visit(number, sequence_names)
                scanner = population.scanner(number)
                scanned = (
                    f"{scanner.manufacturer} {scanner.model}",
                    str(scanner.field_strength_t),
                )
                for volume in volumes:
                    _write_volume(folder, volume)
            people.append((subject.name, subject.anatomy, subject.lesion or "n/a", *scanned))
            _write_displacement(folder, subject)
        table = pd.DataFrame(people, columns=_PARTICIPANT)
        write_table(folder / "participants.tsv", table, sep="\t")
    return folder


def image_name(volume: Acquisition) -> str:
    """Return the name of a volume's image without the extension, such as sub-001_ce-gd_T1w."""
    sequence = volume.sequence
    entities = [volume.subject_name]
    if sequence.name in _ACQUISITION:
        entities.append(f"acq-{_ACQUISITION[sequence.name]}")
    if sequence.is_contrast_enhanced:
        entities.append("ce-gd")
    return "_".join([*entities, sequence.bids_suffix])


def sidecar(volume: Acquisition) -> dict[str, Any]:
    """Return the true settings of an acquisition under BIDS' names; times in seconds."""
    sequence, scanner = volume.sequence, volume.scanner
    content = {
        "Modality": "MR",
        "Manufacturer": scanner.manufacturer,
        "ManufacturersModelName": scanner.model,
        "DeviceSerialNumber": scanner.serial_number,
        "SoftwareVersions": scanner.software_version,
        "MagneticFieldStrength": scanner.field_strength_t,
        "BodyPartExamined": volume.anatomy.upper(),
        "MRAcquisitionType": "3D" if sequence.is_3d else "2D",
        "ScanningSequence": _SCANNING_SEQUENCE[sequence.kind],
        "SliceThickness": max(volume.spacing_mm),
        **_times(sequence),
        "FlipAngle": sequence.flip_angle_deg,
    }
    if sequence.is_contrast_enhanced:
        content["ContrastBolusIngredient"] = "GADOLINIUM"
    return content


def _times(sequence: MRSequence) -> dict[str, float]:
    times = {
        "RepetitionTime": sequence.repetition_time_ms,
        "EchoTime": sequence.echo_time_ms,
        "InversionTime": sequence.inversion_time_ms,
    }
    return {name: round(ms / 1000, 6) for name, ms in times.items() if ms is not None}


def _write_volume(folder: Path, volume: Acquisition) -> None:
    name = image_name(volume)
    images = folder / volume.subject_name / "anat"
    write_json(images / f"{name}.json", sidecar(volume))
    write_volume(images / f"{name}.nii.gz", volume.stored, volume.affine)
    _write_labels(folder, volume, name)


def _write_randomised(
    folder: Path, subject: Subject, images: Sequence[npt.NDArray[np.int16]]
) -> None:
    """Write images whose sidecars say nothing of a sequence: none would give them."""
    settings = {
        "Modality": "MR",
        "SeriesDescription": "random contrast",
        "BodyPartExamined": subject.anatomy.upper(),
    }
    for number, image in enumerate(images, start=1):
        stem = folder / subject.name / "anat" / f"{subject.name}_acq-random{number}_MRI"
        write_json(stem.with_suffix(".json"), settings)
        write_volume(stem.with_suffix(".nii.gz"), image, subject.affine)
    _write_labels(folder, subject, f"{subject.name}_MRI")


def _write_labels(folder: Path, labelled: Acquisition | Subject, name: str) -> None:
    *entities, suffix = name.split("_")
    truth = folder / _TRUTH / entities[0] / "anat"
    stem = "_".join([*entities, f"desc-{suffix}", "dseg"])
    write_volume(truth / f"{stem}.nii.gz", labelled.labels, labelled.affine)
    write_json(truth / f"{stem}.json", {"Labels": label_values(labelled.anatomy)})


def _write_displacement(folder: Path, subject: Subject) -> None:
    truth = folder / _TRUTH / subject.name / "anat"
    stem = f"{subject.name}_from-subject_to-template_mode-image_xfm"
    field = np.moveaxis(subject.displacement_mm, 0, -1)
    write_displacement(truth / f"{stem}.nii.gz", field, subject.affine, step_mm=STORED_STEP_MM)
    write_json(
        truth / f"{stem}.json",
        {
            "Description": "pull displacement in ITK's convention (mm, LPS): the tissue at a point "
            "p of the subject, before any lesion, is the template's at p + displacement(p)",
        },
    )


def _write_description(folder: Path, kind: str, name: str) -> None:
    source = {"Name": "triad-nnunet", "Version": __version__}
    write_json(
        folder / "dataset_description.json",
        {
            "Name": name,
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": kind,
            "GeneratedBy": [source],
            "License": "CC0",
        },
    )
