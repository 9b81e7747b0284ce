"""triad-phantom: simulated MRI in the layouts that programs read."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, parse_values, run_app, takes_settings
from nnunet_triad.errors import require
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.sequences import SEQUENCES
from nnunet_triad.phantom.template import ANATOMIES
from nnunet_triad.training.settings import join_words

_HELP = """Simulate MRI with known tissues, lesions, device parameters and displacements.

Brains come from the ICBM152 template (no download), pelvis and breast from formulas. The same
options give the same bytes, so a call that was interrupted can be repeated. Subject 0 of a brain
population is the template itself, with the unchanged ICBM152 T1 volume.
"""

app = make_app(_HELP)

Folder = Annotated[Path, typer.Argument(help="Where to write: new, empty, or begun by this call.")]
Sequences = Annotated[
    str, typer.Option(help="Names with commas, such as T1w,FLAIR; empty: three at random.")
]


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


@app.command()
@takes_settings(defaults={"lesion": "mixed"})
def bids(
    folder: Folder,
    *,
    population: Population,
    sequences: Sequences = "",
    randomised: Annotated[
        bool,
        typer.Option(
            "--randomised", help="Contrasts, regions and artefacts at random, for pre-training."
        ),
    ] = False,
) -> None:
    """NIfTI images with BIDS sidecars; labels and displacements in derivatives/truth."""
    from nnunet_triad.phantom.writers.bids import write_bids

    names = _sequence_names(sequences)
    require("sequences", sequences, "none with --randomised", not (randomised and names))
    path = write_bids(
        folder, population, sequence_names=names, is_randomised=randomised, show_progress=True
    )
    _say(path)


@app.command()
@takes_settings(defaults={"num_subjects": 4, "lesion": "mixed"})
def dicom(
    folder: Folder,
    *,
    population: Population,
    sequences: Sequences = "",
    kind: Annotated[str, typer.Option(help="classic (a file a slice) or enhanced.")] = "classic",
) -> None:
    """DICOM series with the tags that scanners write: SUBJECT/NNN_SEQUENCE/*.dcm."""
    from nnunet_triad.phantom.writers.dicom_tree import write_dicom

    names = _sequence_names(sequences)
    require("kind", kind, "classic or enhanced", kind in ("classic", "enhanced"))
    _say(write_dicom(folder, population, sequence_names=names, kind=kind, show_progress=True))


@app.command()
@takes_settings()
def nnunet(
    raw: Annotated[Path, typer.Argument(help="The nnUNet_raw folder.")],
    *,
    population: Population,
    dataset: Annotated[
        int, typer.Option(help="500: tissues and lesions; 501: four sequences as BraTS21.")
    ] = 500,
    test_subjects: Annotated[int, typer.Option(help="Further cases in imagesTs, labelsTs.")] = 0,
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

    require("test-subjects", test_subjects, "zero or more", test_subjects >= 0)
    is_good = not strip_skull or population.anatomies == ("brain",)
    require("strip-skull", ", ".join(population.anatomies), "brains", is_good)
    is_good = slice_mm is None or population.spacing_mm <= slice_mm <= 20
    require("slice-mm", slice_mm, f"{population.spacing_mm:g} to 20", is_good)
    names = _sequence_names(sequences)
    require("sequences", "none", "one or more channels", bool(names))
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
@takes_settings(
    defaults={"num_subjects": 5, "spacing_mm": 1.0},
    fixed={"anatomies": ("brain",), "lesion": "tumour"},
)
def brats21(folder: Folder, *, population: Population) -> None:
    """The layout of BraTS 2021 as published: a folder a case, labels 0, 1, 2, 4."""
    from nnunet_triad.phantom.writers.brats21 import write_brats21

    _say(write_brats21(folder, population, show_progress=True))


@app.command()
@takes_settings(defaults={"num_subjects": 40}, fixed={"anatomies": ("brain",), "lesion": "tumour"})
def classification(
    folder: Folder,
    *,
    task: Annotated[str, typer.Option(help="lesion, sequence or ventricles.")] = "lesion",
    population: Population,
) -> None:
    """Images and manifest.csv with image, label, split and subject."""
    from nnunet_triad.phantom.writers.classification import write_classification

    _say(write_classification(folder, population, task=task, show_progress=True))


@app.command()
@takes_settings(defaults={"num_subjects": 12, "lesion": "none"})
def registration(
    folder: Folder,
    *,
    pairs: Annotated[
        str, typer.Option(help="atlas: the template to each subject; subjects: to one another.")
    ] = "atlas",
    population: Population,
    sequence: Annotated[str, typer.Option(help="Of all images.")] = "T1w",
    aligned: Annotated[
        bool, typer.Option("--aligned", help="Same pose, cut to the tissue, as published sets are.")
    ] = False,
) -> None:
    """Pairs with labels, true displacements (ITK's convention) and manifest.csv.

    A lesion has no counterpart in the other image.
    """
    from nnunet_triad.phantom.writers.registration import write_registration

    names = _sequence_names(sequence)
    require("sequence", sequence, "one name", len(names) == 1)
    path = write_registration(
        folder,
        replace(population, is_aligned=aligned),
        pairs=pairs,
        sequence_name=names[0],
        show_progress=True,
    )
    _say(path)


@app.command()
@takes_settings(defaults={"anatomies": ANATOMIES}, fixed={"num_subjects": 1, "lesion": "mixed"})
def picture(
    path: Annotated[Path, typer.Argument(help="The picture to write, such as phantoms.png.")],
    *,
    population: Population,
) -> None:
    """One page of anatomies, lesions, sequences, labels and deformations."""
    from nnunet_triad.phantom.writers.picture import draw_population

    suffixes = (".png", ".pdf", ".svg")
    require(f"{path}: file name", path.suffix, join_words(suffixes), path.suffix in suffixes)
    _say(draw_population(path, population, show_progress=True))


def main() -> None:
    """Entry point of triad-phantom."""
    run_app(app)


def _sequence_names(text: str) -> tuple[str, ...]:
    names = parse_values("sequences", text, kind=str, length=0)
    for name in names:
        require("sequences", name, join_words(tuple(SEQUENCES)), name in SEQUENCES)
    require("sequences", text, "each name once", len(set(names)) == len(names))
    return names


def _say(path: Path) -> None:
    typer.echo(f"written: {path}")
