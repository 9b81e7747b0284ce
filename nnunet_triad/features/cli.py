"""`triad-features`: a table of what an encoder gives of images, and what it is good for."""

from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app, takes_settings
from nnunet_triad.features.settings import FeatureSettings, ProbeSettings

app = make_app(
    "Features of images by a pre-trained encoder, and probes of what they tell. "
    "triad-features IMAGES ... is short for triad-features extract IMAGES ...",
    default="extract",
)


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


@app.command()
@takes_settings()
def extract(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Images (channels joined by |), folders of them, or one manifest (CSV) with a "
            "column image."
        ),
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="NAME.parquet, NAME.csv or NAME.npz.")
    ] = Path("features.csv"),
    settings: FeatureSettings,
) -> None:
    """Write the pooled features of images: a row an image, or a row a label of its mask.

    NAME.EXT.json says how they came about; NAME_rejected.csv which images could not be used. The
    same command continues a run that was stopped, and computes what is missing.
    """
    from nnunet_triad.features.commands import extract_images

    extract_images(inputs, output, settings)


@app.command()
@takes_settings()
def probe(
    manifest: Annotated[
        Path, typer.Argument(help="CSV with the columns image, the target's, and, if any, subject.")
    ],
    *,
    features: Annotated[
        Path | None,
        typer.Option(help="A table of triad-features of these images, instead of --encoder."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path(
        "probe"
    ),
    probe: ProbeSettings,
    settings: FeatureSettings,
) -> None:
    """Ask what frozen features tell of a target, beside floors that need no pre-training.

    Linear models and nearest neighbours, chosen and scored by nested cross-validation over
    subjects, with bootstrap intervals. Floors: random weights of the same network, statistics of
    the intensities, the image's size, and volumes of the mask. Results: probe.html, scores.csv,
    differences.csv, predictions.csv.
    """
    from nnunet_triad.features.commands import probe_manifest

    probe_manifest(manifest, output, probe, settings, table=features)


def main() -> None:
    """Run the command."""
    run_app(app)
