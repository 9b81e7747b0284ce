"""What the commands do, once their options are parsed."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import typer

from classification.dry_run import measure
from classification.evaluate import evaluate, format_scores, written_files
from classification.initialization import read_weights, too_small_cube
from classification.manifest import (
    Columns,
    Manifest,
    manifest_of,
    read_manifest,
    read_samples,
    write_split,
)
from classification.model_file import Model, load_model
from classification.predict import PREDICTIONS_NAME, write_predictions
from classification.run import (
    check_channels,
    load_data,
    name_of,
    predict_samples,
    read_labelled,
    train,
)
from classification.saliency import check_method, write_saliency
from classification.settings import TrainSettings
from nnunet_triad.errors import UserError
from nnunet_triad.files import check_folder, check_outputs
from nnunet_triad.training.device import check_device
from nnunet_triad.training.memory import PREDICTION_ADVICE, explain_out_of_memory
from nnunet_triad.training.run_folder import CHECKPOINT_NAME, SETTINGS_NAME

SPLIT_NAME = "split.csv"  # of a manifest without splits: one with them


def train_manifest(
    path: Path,
    output: Path,
    settings: TrainSettings,
    *,
    classes: Sequence[str] | None,
    is_shared: bool,
    columns: Columns,
    cache: Path,
    is_dry: bool,
) -> None:
    """Read, preprocess, measure, train, score, and say where the results are.

    Raises:
        UserError: manifest, images, weights or settings are not usable.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    check_device(settings.device)
    check_folder(output)
    check_outputs([*written_files(output), output / SPLIT_NAME], [path])
    manifest = read_manifest(
        path, classes=classes, allow_shared_subjects=is_shared, columns=columns
    )
    if manifest.is_divided_here:
        typer.echo(
            f"no column split: subjects are divided 70/15/15, class by class, in {SPLIT_NAME} of "
            f"{output}"
        )
    typer.echo(manifest.summary())
    weights = read_weights(settings)  # a mistake shows before hours of preprocessing
    if warning := too_small_cube(settings):
        typer.echo(warning, err=True)
    data = load_data(manifest, settings, cache)
    typer.echo(data.cache.summary())
    if settings.mode == "finetune" and settings.encoder_rate != 1:
        typer.echo(f"the encoder's learning rate: {settings.encoder_rate:g} of the head's")
    device = torch.device(settings.device)
    if is_dry or not (output / CHECKPOINT_NAME).exists():
        typer.echo(measure(data, settings, device, weights))
    if is_dry:
        return
    scores = train(data, output, settings=settings, device=device, weights=weights)
    if manifest.is_divided_here:
        write_split(output / SPLIT_NAME, manifest)
    model = load_model(output)
    if model.description.transfer is not None:
        typer.echo(_transfer_line(model))
    typer.echo(f"test scores of {model.settings.mode} (95 % intervals over subjects):")
    typer.echo(format_scores(scores))
    typer.echo(
        f"results: {output} (metrics.csv, confusion.png, roc.png, calibration.png, model.pt)"
    )


@explain_out_of_memory(PREDICTION_ADVICE)
def predict_images(
    model_path: Path,
    inputs: Sequence[Path],
    output: Path,
    *,
    saliency: str | None,
    device: str,
    cache: Path | None,
) -> None:
    """Write predictions.csv and, if asked for, a map for each image.

    Raises:
        UserError: model or images are not usable, or a file would be replaced that is read.
    """
    check_device(device)
    check_folder(output)
    _check_other_folder(output, model_path)
    model = load_model(model_path)
    if saliency is not None:
        check_method(model, saliency)
    manifest = _read_inputs(inputs, model)
    check_channels(manifest, model)
    maps = _map_paths(manifest, output, saliency) if saliency is not None else []
    read = [file for files in manifest.images for file in files]
    check_outputs([output / PREDICTIONS_NAME, *maps], [*inputs, *read])
    with tempfile.TemporaryDirectory() as scratch:
        data = load_data(manifest, model.settings, cache or Path(scratch))
        typer.echo(data.cache.summary())
        predictions = predict_samples(
            model, data, np.arange(len(manifest)), device=torch.device(device)
        )
    write_predictions(output / PREDICTIONS_NAME, predictions)
    typer.echo(predictions.to_table().drop(columns=["split"]).head(20).to_string(index=False))
    typer.echo(f"table: {output / PREDICTIONS_NAME}")
    if saliency is not None:
        for files, path in zip(manifest.images, maps, strict=True):
            write_saliency(model, files, path, method=saliency, device=torch.device(device))
            typer.echo(f"map: {path}")


@explain_out_of_memory(PREDICTION_ADVICE)
def evaluate_manifest(
    model_path: Path,
    path: Path,
    output: Path,
    *,
    split: str,
    device: str,
    cache: Path,
) -> None:
    """Score a model on a split of a manifest.

    Raises:
        UserError: model, manifest or images are not usable, or a file would be replaced that is
            read.
    """
    check_device(device)
    check_folder(output)
    _check_other_folder(output, model_path)
    check_outputs(written_files(output), [path])
    model = load_model(model_path)
    manifest, rows = read_labelled(path, model, split)
    data = load_data(manifest, model.settings, cache)
    predictions = predict_samples(model, data, rows, device=torch.device(device))
    scores = evaluate(predictions, output, name=name_of(model, path))
    typer.echo(format_scores(scores))
    typer.echo(f"results: {output} (metrics.csv, confusion.png, roc.png, calibration.png)")


def _read_inputs(inputs: Sequence[Path], model: Model) -> Manifest:
    is_table = [path.suffix.lower() in (".csv", ".tsv", ".txt") for path in inputs]
    if any(is_table) and len(inputs) > 1:
        raise UserError("INPUTS: expected images, or one manifest alone, got both or several")
    if any(is_table):
        return read_samples(inputs[0], model.classes)
    return manifest_of(inputs, model.classes)


def _transfer_line(model: Model) -> str:
    report = model.description.transfer
    assert report is not None
    filled = report["loaded"]["parameters"] + report["adapted"]["parameters"]
    fresh = report["fresh"]["parameters"]
    return (
        f"encoder: {filled:,} of {filled + fresh:,} parameters from {report['path']} "
        f"({report['source']}, sha256 {report['sha256'][:12]})"
    )


def _check_other_folder(output: Path, model_path: Path) -> None:
    """Keep the tables and figures that a training made of its own test set."""
    folder = model_path if model_path.is_dir() else model_path.parent
    if (folder / SETTINGS_NAME).exists() and output.exists() and output.samefile(folder):
        raise UserError(
            f"output: expected another folder than the run's, whose results would be replaced, "
            f"got {output}; choose another --output"
        )


def _map_paths(manifest: Manifest, output: Path, saliency: str) -> list[Path]:
    """Return where the map of each image goes."""
    return [
        output / f"{_stem(files[0])}_{number:03d}_{saliency}.nii.gz"
        for number, files in enumerate(manifest.images)
    ]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]
