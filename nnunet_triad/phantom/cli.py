"""triad-phantom: simulated MRI in the layouts that programs read."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.errors import UserError

if TYPE_CHECKING:
    from nnunet_triad.phantom.population import Population

_HELP = """Simulate MRI with known tissues, lesions, device parameters and displacements.

Brains come from the ICBM152 template (no download), pelvis and breast from formulas. The same
options give the same bytes, so a call that was interrupted can be repeated. Subject 0 of a brain
population is the template itself, with the unchanged ICBM152 T1 volume.
"""

app = make_app(_HELP)

Folder = Annotated[Path, typer.Argument(help="Where to write: new, empty, or begun by this call.")]
Subjects = Annotated[int, typer.Option(help="Number of subjects, the template included.")]
Seed = Annotated[int, typer.Option(help="Of the population; two seeds share only the template.")]
SpacingMm = Annotated[float, typer.Option(help="In-plane voxel spacing, 1 to 8 mm.")]
Anatomy = Annotated[
    str, typer.Option(help="brain, pelvis or breast; several with commas, taken in turn.")
]
Lesion = Annotated[
    str, typer.Option(help="tumour, infarct or plaques (brain only), mixed, or none.")
]
Sequences = Annotated[
    str, typer.Option(help="Names with commas, such as T1w,FLAIR; empty: three at random.")
]


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


@app.command()
def bids(
    folder: Folder,
    subjects: Subjects = 10,
    seed: Seed = 0,
    spacing_mm: SpacingMm = 2.0,
    anatomy: Anatomy = "brain",
    lesion: Lesion = "mixed",
    sequences: Sequences = "",
) -> None:
    """NIfTI images with BIDS sidecars; labels and displacements in derivatives/truth."""
    from nnunet_triad.phantom.writers.bids import write_bids

    population = _population(subjects, seed, spacing_mm, anatomy=anatomy, lesion=lesion)
    names = _sequence_names(sequences)
    _say(write_bids(folder, population, sequence_names=names, show_progress=True))


@app.command()
def dicom(
    folder: Folder,
    subjects: Subjects = 4,
    seed: Seed = 0,
    spacing_mm: SpacingMm = 2.0,
    anatomy: Anatomy = "brain",
    lesion: Lesion = "mixed",
    sequences: Sequences = "",
    kind: Annotated[str, typer.Option(help="classic (a file a slice) or enhanced.")] = "classic",
) -> None:
    """DICOM series with the tags that scanners write: SUBJECT/NNN_SEQUENCE/*.dcm."""
    from nnunet_triad.phantom.writers.dicom_tree import write_dicom

    population = _population(subjects, seed, spacing_mm, anatomy=anatomy, lesion=lesion)
    names = _sequence_names(sequences)
    _one_of("--kind", kind, ("classic", "enhanced"))
    _say(write_dicom(folder, population, sequence_names=names, kind=kind, show_progress=True))


@app.command()
def nnunet(
    raw: Annotated[Path, typer.Argument(help="The nnUNet_raw folder.")],
    dataset: Annotated[
        int, typer.Option(help="500: tissues and lesions; 501: four sequences as BraTS21.")
    ] = 500,
    subjects: Annotated[int, typer.Option(help="Training cases, the template included.")] = 10,
    test_subjects: Annotated[int, typer.Option(help="Further cases in imagesTs, labelsTs.")] = 0,
    seed: Seed = 0,
    spacing_mm: SpacingMm = 2.0,
    anatomy: Anatomy = "brain",
    lesion: Lesion = "tumour",
    sequences: Annotated[
        str, typer.Option(help="Channels of 500, names with commas, such as T1w,FLAIR.")
    ] = "T1ce",
    slice_mm: Annotated[
        float | None, typer.Option(help="Spacing between slices; default: as in the plane.")
    ] = None,
    strip_skull: Annotated[
        bool, typer.Option("--strip-skull", help="Zeros outside the brain, as in 501.")
    ] = False,
) -> None:
    """A data set for nnU-Net: Dataset500_Phantom or Dataset501_BraTS21."""
    from nnunet_triad.phantom.writers.nnunet_raw import write_nnunet

    population = _population(subjects, seed, spacing_mm, anatomy=anatomy, lesion=lesion)
    if test_subjects < 0:
        raise UserError(f"--test-subjects: expected 0 or more, got {test_subjects}")
    if strip_skull and _split(anatomy) != ("brain",):
        raise UserError(f"--strip-skull: expected brains, got {anatomy}")
    if slice_mm is not None and not spacing_mm <= slice_mm <= 20:
        raise UserError(f"--slice-mm: expected {spacing_mm:g} to 20, got {slice_mm:g}")
    names = _sequence_names(sequences)
    if not names:
        raise UserError("--sequences: expected one or more channels, got none")
    path = write_nnunet(
        raw,
        population,
        dataset_id=dataset,
        num_test_subjects=test_subjects,
        sequence_names=names,
        slice_mm=slice_mm,
        strips_skull=strip_skull,
        show_progress=True,
    )
    _say(path)


@app.command()
def brats21(
    folder: Folder, subjects: Subjects = 5, seed: Seed = 0, spacing_mm: SpacingMm = 1.0
) -> None:
    """The layout of BraTS 2021 as published: a folder a case, labels 0, 1, 2, 4."""
    from nnunet_triad.phantom.writers.brats21 import write_brats21

    population = _population(subjects, seed, spacing_mm)
    _say(write_brats21(folder, population, show_progress=True))


@app.command()
def classification(
    folder: Folder,
    task: Annotated[str, typer.Option(help="lesion, sequence or ventricles.")] = "lesion",
    subjects: Subjects = 40,
    seed: Seed = 0,
    spacing_mm: SpacingMm = 2.0,
) -> None:
    """Images and manifest.csv with image, label, split and subject."""
    from nnunet_triad.phantom.writers.classification import write_classification

    population = _population(subjects, seed, spacing_mm)
    _say(write_classification(folder, population, task=task, show_progress=True))


@app.command()
def registration(
    folder: Folder,
    pairs: Annotated[
        str, typer.Option(help="atlas: the template to each subject; subjects: to one another.")
    ] = "atlas",
    subjects: Subjects = 12,
    seed: Seed = 0,
    spacing_mm: SpacingMm = 2.0,
    anatomy: Anatomy = "brain",
    lesion: Annotated[str, typer.Option(help="As above; a lesion has no counterpart.")] = "none",
    sequence: Annotated[str, typer.Option(help="Of all images.")] = "T1w",
    aligned: Annotated[
        bool, typer.Option("--aligned", help="Same pose, cut to the tissue, as published sets are.")
    ] = False,
) -> None:
    """Pairs with labels, true displacements (ITK's convention) and manifest.csv."""
    from nnunet_triad.phantom.writers.registration import write_registration

    population = _population(subjects, seed, spacing_mm, anatomy=anatomy, lesion=lesion)
    population = replace(population, is_aligned=aligned)
    names = _sequence_names(sequence)
    if len(names) != 1:
        raise UserError(f"--sequence: expected one name, got {sequence!r}")
    path = write_registration(
        folder, population, pairs=pairs, sequence_name=names[0], show_progress=True
    )
    _say(path)


@app.command()
def picture(
    path: Annotated[Path, typer.Argument(help="The picture to write, such as phantoms.png.")],
    seed: Seed = 0,
    spacing_mm: SpacingMm = 2.0,
    anatomy: Anatomy = "brain,pelvis,breast",
) -> None:
    """One page of anatomies, lesions, sequences, labels and deformations."""
    from nnunet_triad.phantom.writers.picture import draw_population

    _one_of(f"{path}: file name", path.suffix, (".png", ".pdf", ".svg"))
    population = _population(1, seed, spacing_mm, anatomy=anatomy, lesion="mixed")
    _say(draw_population(path, population, show_progress=True))


def main() -> None:
    """Entry point of triad-phantom."""
    run_app(app)


def _population(
    subjects: int, seed: int, spacing_mm: float, *, anatomy: str = "brain", lesion: str = "tumour"
) -> "Population":
    from nnunet_triad.phantom.lesions import LESIONS
    from nnunet_triad.phantom.population import MIXED, Population

    anatomies = _split(anatomy)
    settings: dict[str, Any] = {"lesion": None if lesion == "none" else lesion}
    try:
        population = Population(
            num_subjects=subjects, seed=seed, spacing_mm=spacing_mm, anatomies=anatomies, **settings
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    for name in anatomies:
        _one_of(f"--lesion for {name}", lesion, (*LESIONS[name], MIXED, "none"))
    return population


def _sequence_names(text: str) -> tuple[str, ...]:
    from nnunet_triad.phantom.sequences import SEQUENCES

    names = _split(text)
    for name in names:
        _one_of("--sequences", name, tuple(SEQUENCES))
    if len(set(names)) != len(names):
        raise UserError(f"--sequences: expected each name once, got {text}")
    return names


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")


def _say(path: Path) -> None:
    typer.echo(f"written: {path}")
