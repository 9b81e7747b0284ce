"""`triad-features`: a table of what an encoder gives of images."""

from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app, takes_settings
from nnunet_triad.features.settings import FeatureSettings

app = make_app(
    "Features of images by a pre-trained encoder. "
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


def main() -> None:
    """Run the command."""
    run_app(app)
