"""`triad-register`: train, apply, evaluate and compare registrations, and prepare the datasets."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import (
    DryRunOption,
    InitOption,
    VersionOption,
    make_app,
    parse_values,
    run_app,
    takes_settings,
)
from nnunet_triad.errors import require
from nnunet_triad.files import check_folder
from registration.settings import (
    PRESETS,
    ApplySettings,
    EvaluateSettings,
    RegistrationSettings,
    intensity_of,
)

app = make_app("Register two images, or train, evaluate and compare networks that do.")


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


@app.command()
@takes_settings(presets=PRESETS)
def train(
    manifest: Annotated[
        Path, typer.Argument(help="CSV: moving,fixed,moving_labels,fixed_labels,split.")
    ],
    output: Annotated[Path, typer.Argument(help="Folder for model, checkpoint, log and pictures.")],
    *,
    init: InitOption = "scratch",
    preset: Annotated[
        str | None, typer.Option(help="The paper's choices for ixi, oasis or acdc.")
    ] = None,
    settings: RegistrationSettings,
    intensity: Annotated[
        str | None,
        typer.Option(
            help="What the network sees: unit, 0 to 1, or zscore.",
            show_default="zscore where the weights saw z-scores, else unit",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    dry_run_size: Annotated[
        str, typer.Option(help="Voxels of the dry run's pair, x,y,z.")
    ] = "160,192,224",
) -> None:
    """Train a network on the pairs of a manifest, or go on where the run in OUTPUT stopped.

    Run the same command again to continue a run; SIGTERM or Ctrl-C saves it and exits with code 75.
    """
    from nnunet_triad.training.device import check_device
    from nnunet_triad.weights.locate import read_initialization
    from registration.cards import describe_cards
    from registration.dry_run import measure
    from registration.loop import train as run
    from registration.networks import network_spec
    from registration.training_data import load_data

    size = parse_values("dry-run-size", dry_run_size, kind=int, length=3)
    is_good = min(size) >= 16 and max(size) <= 1024
    require("dry-run-size", dry_run_size, "three numbers from 16 to 1024", is_good)
    check_folder(output)
    check_device(settings.device)
    _, spec = network_spec(settings.network)
    weights = None if init == "scratch" else read_initialization(init, spec)
    seen = "" if weights is None else weights.info.intensity_normalization
    intensity = intensity or intensity_of(seen)
    settings = replace(settings, intensity=intensity)  # type: ignore[arg-type]  # checked there
    data = load_data(manifest, settings)
    if dry_run:
        for line in describe_cards(settings, size):
            typer.echo(line)
        typer.echo(measure(data, settings, size=size, weights=weights))
        return
    path = run(data, output, settings=settings, weights=weights)
    typer.echo(f"model: {path}\nlog: {output / 'log.csv'}, {output / 'tensorboard'}")


@app.command()
@takes_settings(defaults={"affine": "affine"})
def apply(
    moving: Annotated[Path, typer.Argument(help="NIfTI image that is warped.")],
    fixed: Annotated[Path, typer.Argument(help="NIfTI image that it is aligned to.")],
    *,
    settings: ApplySettings,
) -> None:
    """Align MOVING to FIXED; any orientation, spacing and size; by a trained model or without."""
    from registration.apply_command import register_files

    typer.echo(register_files(moving, fixed, settings))


@app.command()
def warp(
    moving: Annotated[Path, typer.Argument(help="NIfTI image, or labels, to warp.")],
    field: Annotated[
        Path,
        typer.Argument(help="Displacement field: of ITK, ANTs (intent code 1007), or RAS (1006)."),
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Warped image, on the fixed image's grid.")
    ],
    fixed: Annotated[
        Path | None, typer.Option(help="Check that the field is on this image's grid.")
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="MOVING is a label map: nearest neighbour.")
    ] = False,
) -> None:
    """Apply a displacement field that is there already."""
    from registration.apply_command import warp_file

    typer.echo(warp_file(moving, field, output, reference=fixed, is_labels=labels))


@app.command()
@takes_settings()
def evaluate(
    manifest: Annotated[Path, typer.Argument(help="CSV of pairs with labels.")],
    *,
    settings: EvaluateSettings,
) -> None:
    """Score models and references on a split: Dice, HD95, folding, SDlogJ, and pictures."""
    from registration.evaluate_command import evaluate_manifest

    typer.echo(evaluate_manifest(manifest, settings))


@app.command()
def compare(
    results: Annotated[Path, typer.Argument(help="Results table of evaluate.")],
    first: Annotated[str, typer.Argument(help="ARCHITECTURE/INITIALIZATION.")],
    second: Annotated[str, typer.Argument(help="ARCHITECTURE/INITIALIZATION.")],
    *,
    metric: Annotated[
        str, typer.Option(help="dice, dice_linear, dice_group, hd95, endpoint_error_mm, …")
    ] = "dice",
) -> None:
    """Compare two models on the same pairs: bootstrap interval and Wilcoxon test."""
    from nnunet_triad.evaluation import read_results
    from registration.evaluate import compare_models

    found = compare_models(read_results(results), first, second, metric=metric)
    gap = found.difference
    of = "" if gap.num_cases == found.num_units else f" of {found.num_units} subjects"
    typer.echo(
        f"{metric}: {first} - {second} = {gap.estimate:+.4f} "
        f"(95 % {gap.low:+.4f} to {gap.high:+.4f}), {found.test} p = {found.p_value:.3g}, "
        f"{gap.num_cases} pairs{of}"
    )


@app.command()
def prepare(
    dataset: Annotated[str, typer.Argument(help="ixi, oasis or acdc.")],
    output: Annotated[Path, typer.Argument(help="Folder for manifest.csv and NIfTI files.")],
    *,
    source: Annotated[Path, typer.Option(help="The dataset's folder, as published.")],
) -> None:
    """Write the manifest of a dataset; pickles are converted to NIfTI without running them."""
    from registration.evaluate_command import prepare_dataset

    typer.echo(prepare_dataset(dataset, output, source))


def main() -> None:
    """Run the command."""
    run_app(app)
