"""`triad-register`: train, apply, evaluate and compare registrations, and prepare the datasets."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import (
    DeviceOption,
    DryRunOption,
    InitOption,
    VersionOption,
    make_app,
    parse_values,
    run_app,
    takes_settings,
)
from nnunet_triad.errors import UserError, require
from nnunet_triad.files import check_folder
from registration.settings import PRESETS, RegistrationSettings, intensity_of

app = make_app("Register two images, or train, evaluate and compare networks that do.")

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="Warped image, on the fixed image's grid.")
]
AffineOption = Annotated[
    str, typer.Option(help="Alignment beforehand: none, moments, rigid or affine.")
]
RefineOption = Annotated[int, typer.Option(min=0, help="Steps of instance optimisation a pair.")]


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
            show_default="zscore with this project's weights, else unit",
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
    from nnunet_triad.training.distributed import check_device
    from nnunet_triad.weights import read_initialization
    from registration.dry_run import measure
    from registration.loop import train as run
    from registration.networks import network_spec
    from registration.training_data import load_data

    size = parse_values("dry-run-size", dry_run_size, kind=int, length=3)
    require("dry-run-size", dry_run_size, "three positive numbers", min(size) > 0)
    check_folder(output)
    check_device(settings.device)
    _, spec = network_spec(settings.network)
    weights = None if init == "scratch" else read_initialization(init, spec)
    intensity = intensity or intensity_of("scratch" if weights is None else weights.info.source)
    settings = replace(settings, intensity=intensity)  # type: ignore[arg-type]  # checked there
    data = load_data(manifest, settings)
    if dry_run:
        typer.echo(measure(data, settings, size=size, weights=weights))
        return
    path = run(data, output, settings=settings, weights=weights)
    typer.echo(f"model: {path}\nlog: {output / 'log.csv'}, {output / 'tensorboard'}")


@app.command()
def apply(
    moving: Annotated[Path, typer.Argument(help="NIfTI image that is warped.")],
    fixed: Annotated[Path, typer.Argument(help="NIfTI image that it is aligned to.")],
    *,
    model: Annotated[Path, typer.Option(help="Folder of a training, or its model.safetensors.")],
    output: OutputOption,
    displacement: Annotated[
        Path | None, typer.Option(help="Write the whole transform: ITK's displacement field, mm.")
    ] = None,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Write the inverse field, too (_inverse).")
    ] = False,
    labels: Annotated[
        Path | None, typer.Option(help="Labels of the moving image, to be warped (_labels).")
    ] = None,
    fixed_labels: Annotated[
        Path | None, typer.Option(help="Labels of the fixed image: report Dice before and after.")
    ] = None,
    points: Annotated[
        Path | None, typer.Option(help="CSV with x,y,z in mm (RAS) in the moving image (_points).")
    ] = None,
    affine: AffineOption = "affine",
    refine: RefineOption = 0,
    picture: Annotated[
        bool, typer.Option(help="Draw checkerboard, differences and deformed grid (.png).")
    ] = True,
    device: DeviceOption = "",
) -> None:
    """Align MOVING to FIXED; any orientation, spacing and size."""
    from registration.apply_command import Inputs, Outputs, beside, check_output, register_files

    check_output(output)
    if inverse and displacement is None:
        raise UserError("inverse: expected --displacement FIELD beside it, got none")
    if fixed_labels is not None and labels is None:
        raise UserError("fixed-labels: expected --labels LABELS beside it, got none")
    stem = output.name.removesuffix(".gz").removesuffix(".nii")
    outputs = Outputs(
        warped=output,
        displacement=displacement,
        inverse=beside(displacement, "_inverse") if inverse and displacement else None,
        labels=beside(output, "_labels") if labels else None,
        points=output.with_name(f"{stem}_points.csv") if points else None,
        picture=output.with_name(f"{stem}.png") if picture else None,
        report=output.with_name(f"{stem}.json"),
    )
    inputs = Inputs(
        moving=moving,
        fixed=fixed,
        model=model,
        labels=labels,
        fixed_labels=fixed_labels,
        points=points,
    )
    report = register_files(
        inputs,
        outputs,
        alignment=affine,
        num_refinements=refine,
        device=device,
    )
    written = [str(path) for path in vars(outputs).values() if path is not None]
    typer.echo(f"{report}\nwritten: {', '.join(written)}")


@app.command()
def warp(
    moving: Annotated[Path, typer.Argument(help="NIfTI image, or labels, to warp.")],
    field: Annotated[Path, typer.Argument(help="Displacement field with ITK's conventions.")],
    *,
    output: OutputOption,
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
def evaluate(
    manifest: Annotated[Path, typer.Argument(help="CSV of pairs with labels.")],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Results table (CSV); rows are appended.")
    ],
    model: Annotated[
        list[Path] | None, typer.Option(help="Folder of a training; may be given several times.")
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(help="before, moments, rigid, affine, syn, unigradicon; several times."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    labels: Annotated[
        str | None, typer.Option(help="Label set: ixi, oasis, acdc or a JSON file.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Its name in the table.", show_default="the manifest's name")
    ] = None,
    affine: AffineOption = "none",
    refine: RefineOption = 0,
    device: DeviceOption = "",
) -> None:
    """Score models and references on a split: Dice, HD95, folding, SDlogJ, and pictures."""
    from registration.evaluate_command import evaluate_manifest

    text = evaluate_manifest(
        manifest,
        output,
        models=model or [],
        references=reference or [],
        split=split,
        label_set=labels,
        dataset=dataset or manifest.stem,
        alignment=affine,
        num_refinements=refine,
        device=device,
    )
    typer.echo(text)


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
    typer.echo(
        f"{metric}: {first} - {second} = {gap.estimate:+.4f} "
        f"(95 % {gap.low:+.4f} to {gap.high:+.4f}), {found.test} p = {found.p_value:.3g}, "
        f"{found.num_units} pairs"
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
