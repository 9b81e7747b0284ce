"""`triad-register`: train, apply, evaluate and compare registrations, and prepare the datasets."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app, with_preset
from nnunet_triad.errors import UserError
from nnunet_triad.training.stop_signal import EXIT_STOPPED, TrainingStopped
from registration.settings import PRESETS, RegistrationSettings, intensity_of

_DEFAULT = (
    RegistrationSettings  # the defaults are class attributes: no model is imported for --help
)

app = make_app("Register two images, or train, evaluate and compare networks that do.")

DeviceOption = Annotated[
    str | None,
    typer.Option(help="cpu, cuda or mps.", show_default="cuda if there is one, else cpu"),
]


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


@app.command()
def train(
    manifest: Annotated[
        Path, typer.Argument(help="CSV: moving,fixed,moving_labels,fixed_labels,split.")
    ],
    output: Annotated[Path, typer.Argument(help="Folder for model, checkpoint, log and pictures.")],
    *,
    network: Annotated[
        str, typer.Option(help="transmorph_ or swinunetr_ with t, b, b_v1, l or h.")
    ] = _DEFAULT.network,
    init: Annotated[
        str,
        typer.Option(help="scratch, a weights file, or a name under TRIAD_WEIGHTS (triad, voco)."),
    ] = "scratch",
    preset: Annotated[
        str | None, typer.Option(help="The paper's choices for ixi, oasis or acdc.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training pairs.")] = _DEFAULT.epochs,
    learning_rate: Annotated[
        float | None, typer.Option(help="At the start.", show_default="5e-5; acdc: 1e-4")
    ] = None,
    encoder_rate: Annotated[
        float, typer.Option(help="Share of it for the encoder.")
    ] = _DEFAULT.encoder_rate,
    lncc_weight: Annotated[
        float, typer.Option(help="Of the local cross-correlation.")
    ] = _DEFAULT.lncc_weight,
    lncc_window: Annotated[
        int, typer.Option(help="Voxels along each edge of its window; less for coarse images.")
    ] = _DEFAULT.lncc_window,
    gradient_weight: Annotated[
        float, typer.Option(help="Of the displacement's squared gradient.")
    ] = _DEFAULT.gradient_weight,
    dice_weight: Annotated[
        float | None, typer.Option(help="Of the labels' soft Dice.", show_default="0; oasis: 1")
    ] = None,
    symmetric: Annotated[
        bool | None,
        typer.Option(help="Two steps a pair, both directions.", show_default="no; oasis: yes"),
    ] = None,
    flips: Annotated[
        bool | None,
        typer.Option(help="Flip both images at random.", show_default="yes; oasis: no"),
    ] = None,
    diffeomorphic: Annotated[
        bool, typer.Option("--diffeomorphic", help="Predict a velocity field and integrate it.")
    ] = False,
    half_resolution: Annotated[
        bool, typer.Option("--half-resolution", help="Predict every other voxel: less memory.")
    ] = False,
    spacing: Annotated[
        str | None,
        typer.Option(help="mm, one number or x,y,z.", show_default="the fixed images' own"),
    ] = None,
    intensity_percentile: Annotated[
        float, typer.Option(help="Percentile of the intensities that becomes 1.")
    ] = _DEFAULT.intensity_percentile,
    intensity: Annotated[
        str | None,
        typer.Option(
            help="What the network sees: unit, 0 to 1, or zscore.",
            show_default="zscore with this project's weights, else unit",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of weights, order, partners and flips.")
    ] = _DEFAULT.seed,
    precision: Annotated[
        str, typer.Option(help="fp32 or bf16 (mixed, for GPUs).")
    ] = _DEFAULT.precision,
    device: DeviceOption = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that read pairs.", show_default="0 on the CPU, else 4"),
    ] = None,
    recompute_activations: Annotated[
        bool, typer.Option("--recompute-activations", help="Less memory, more time.")
    ] = False,
    picture_every: Annotated[
        int, typer.Option(help="Epochs between pictures.")
    ] = _DEFAULT.picture_every,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do two steps, print memory and time, write nothing.")
    ] = False,
    dry_run_size: Annotated[
        str, typer.Option(help="Voxels of the dry run's pair, x,y,z.")
    ] = "160,192,224",
) -> None:
    """Train a network on the pairs of a manifest, or go on where the run in OUTPUT stopped.

    Run the same command again to continue a run; SIGTERM or Ctrl-C saves it and exits with code 75.
    """
    device = device or _default_device()
    chosen = {
        "learning_rate": learning_rate,
        "dice_weight": dice_weight,
        "is_symmetric": symmetric,
        "has_flips": flips,
    }
    settings = RegistrationSettings(
        network=network,
        epochs=epochs,
        encoder_rate=encoder_rate,
        lncc_weight=lncc_weight,
        lncc_window=lncc_window,
        gradient_weight=gradient_weight,
        is_diffeomorphic=diffeomorphic,
        is_half_resolution=half_resolution,
        spacing_mm=parse_lengths("spacing", spacing) if spacing else None,
        intensity_percentile=intensity_percentile,
        seed=seed,
        precision=precision,  # type: ignore[arg-type]  # checked by the settings
        device=device,
        workers=workers if workers is not None else (0 if device == "cpu" else 4),
        recompute_activations=recompute_activations,
        picture_every=picture_every,
        **with_preset(preset, chosen, presets=PRESETS),
    )
    size = parse_lengths("dry-run-size", dry_run_size)
    _train(
        manifest,
        output,
        settings,
        init=init,
        intensity=intensity,
        dry_run_size=size if dry_run else None,
    )


def _train(
    manifest: Path,
    output: Path,
    settings: RegistrationSettings,
    *,
    init: str,
    intensity: str | None,
    dry_run_size: tuple[float, float, float] | None,
) -> None:
    """Do what the command was asked for; imports what is slow to import."""
    from nnunet_triad.training.distributed import check_device
    from nnunet_triad.weights import read_initialization
    from registration.dry_run import measure
    from registration.loop import train as run
    from registration.networks import network_spec
    from registration.training_data import load_data

    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: expected a folder, got a file; choose another OUTPUT")
    check_device(settings.device)
    _, spec = network_spec(settings.network)
    weights = None if init == "scratch" else read_initialization(init, spec)
    intensity = intensity or intensity_of("scratch" if weights is None else weights.info.source)
    settings = replace(settings, intensity=intensity)  # type: ignore[arg-type]  # checked there
    data = load_data(manifest, settings)
    if dry_run_size is not None:
        x, y, z = (int(length) for length in dry_run_size)
        typer.echo(measure(data, settings, size=(x, y, z), weights=weights))
        return
    try:
        path = run(data, output, settings=settings, weights=weights)
    except TrainingStopped as stop:
        typer.echo(f"{stop}; run the same command again to continue", err=True)
        sys.exit(EXIT_STOPPED)
    typer.echo(f"model: {path}\nlog: {output / 'log.csv'}, {output / 'tensorboard'}")


@app.command()
def apply(
    moving: Annotated[Path, typer.Argument(help="NIfTI image that is warped.")],
    fixed: Annotated[Path, typer.Argument(help="NIfTI image that it is aligned to.")],
    *,
    model: Annotated[Path, typer.Option(help="Folder of a training, or its model.safetensors.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Warped image, on the fixed image's grid.")
    ],
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
    affine: Annotated[
        str, typer.Option(help="Alignment beforehand: none, moments, rigid or affine.")
    ] = "affine",
    refine: Annotated[
        int, typer.Option(min=0, help="Steps of instance optimisation for this pair.")
    ] = 0,
    picture: Annotated[
        bool, typer.Option(help="Draw checkerboard, differences and deformed grid (.png).")
    ] = True,
    device: DeviceOption = None,
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
        device=device or _default_device(),
    )
    written = [str(path) for path in vars(outputs).values() if path is not None]
    typer.echo(f"{report}\nwritten: {', '.join(written)}")


@app.command()
def warp(
    moving: Annotated[Path, typer.Argument(help="NIfTI image, or labels, to warp.")],
    field: Annotated[Path, typer.Argument(help="Displacement field with ITK's conventions.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Warped image.")],
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
    affine: Annotated[
        str, typer.Option(help="Before the models and syn: none, moments, rigid or affine.")
    ] = "none",
    refine: Annotated[int, typer.Option(min=0, help="Steps of instance optimisation.")] = 0,
    device: DeviceOption = None,
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
        device=device or _default_device(),
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


def parse_lengths(name: str, text: str) -> tuple[float, float, float]:
    """Return three positive numbers from "1.5" or "1.5,1.5,3".

    Raises:
        UserError: it is neither one number nor three.
    """
    parts = text.split(",")
    try:
        values = [float(part) for part in (parts * 3 if len(parts) == 1 else parts)]
    except ValueError:
        values = []
    if len(values) != 3 or not min(values) > 0:
        raise UserError(f"{name}: expected one positive number, or three as 1.5,1.5,3, got {text}")
    x, y, z = values
    return x, y, z


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Run the command."""
    run_app(app)
