"""A tree of DICOM series: SUBJECT/NNN_SEQUENCE/*.dcm."""

from dataclasses import replace
from pathlib import Path

from nnunet_triad.phantom.dicom import DicomOptions, write_dicom_series
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.writers.folder import open_folder, track


def write_dicom(
    folder: Path,
    population: Population,
    *,
    sequence_names: tuple[str, ...] = (),
    kind: str = "classic",
    show_progress: bool = False,
) -> Path:
    """Write a population as DICOM, one study a subject, one series a sequence.

    Args:
        folder: new, empty, or begun by the same call.
        population: who.
        sequence_names: of each visit; empty: three at random.
        kind: "classic", a file a slice, or "enhanced", a file a series.
        show_progress: a bar on the terminal.

    Returns:
        The folder.
    """
    with open_folder(
        folder, population, layout="dicom", sequence_names=sequence_names, kind=kind
    ) as folder:
        total = population.num_subjects
        for number in track(range(total), total, "DICOM", is_shown=show_progress):
            _, volumes = population.visit(number, sequence_names)
            for series_number, volume in enumerate(volumes, start=1):
                series = (
                    folder / volume.subject_name / f"{series_number:03d}_{volume.sequence.name}"
                )
                options = DicomOptions(kind=kind, series_number=series_number)
                # Patients of two populations must not share an id, nor their studies a UID.
                name = f"{volume.subject_name}-population-{population.seed}"
                write_dicom_series(replace(volume, subject_name=name), series, options=options)
    return folder
