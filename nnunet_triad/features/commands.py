"""What the commands do, once their options are parsed."""

from collections.abc import Sequence
from pathlib import Path

import typer

from nnunet_triad.features.encoders import read_encoder
from nnunet_triad.features.extract import Extraction, extract, rejected_path
from nnunet_triad.features.samples import read_samples
from nnunet_triad.features.settings import FeatureSettings
from nnunet_triad.features.table import about_path, check_format
from nnunet_triad.images.intensity import Intensity, Scale
from nnunet_triad.training.device import check_device
from nnunet_triad.weights.file import EncoderWeights

_NUM_SHOWN = 3  # reasons


def extract_images(inputs: Sequence[Path], output: Path, settings: FeatureSettings) -> None:
    """Write a table of features, and say what is in it.

    Raises:
        UserError: images, weights or settings are not usable, or the table is another run's.
    """
    check_device(settings.device)
    check_format(output)
    samples = read_samples(inputs, settings.mask)
    weights = read_encoder(settings)
    say_encoder(weights)
    found = extract(samples, output, weights=weights, settings=settings)
    say_extraction(found, output)


def say_encoder(weights: EncoderWeights) -> None:
    """Print which encoder it is, and what is not known of it."""
    info = weights.info
    licence = f", licence {info.licence}" if info.licence else ""
    typer.echo(f"encoder: {info.spec.name} ({info.source}), sha256 {weights.sha256[:12]}{licence}")
    if Intensity.parse(info.intensity_normalization).scale is Scale.UNKNOWN:
        typer.echo(
            "note: the intensities that the weights saw are not known: z-scores are taken", err=True
        )


def say_extraction(found: Extraction, output: Path) -> None:
    """Print how much there is, what was set aside, and where it is."""
    table = found.table
    rows, cases = len(table.rows), table.rows["case"].nunique()
    what = f"{cases} images" if rows == cases else f"{rows} regions of {cases} images"
    kept = f" ({found.num_kept} of earlier runs)" if found.num_kept else ""
    levels = {name.split("_")[0] for name in table.features}
    typer.echo(f"features: {what}{kept}, {len(table.features)} of {len(levels)} levels")
    if found.rejected:
        typer.echo(f"set aside: {len(found.rejected)}, {rejected_path(output)}", err=True)
        for one in found.rejected[:_NUM_SHOWN]:
            where = f"{one.case}, label {one.region}" if one.region else one.case
            typer.echo(f"  {where}: {one.reason}", err=True)
    for caution in table.about["encoder"]["cautions"]:
        typer.echo(f"caution: {caution}", err=True)
    typer.echo(f"table: {output}, {about_path(output).name}")
