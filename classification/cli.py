"""`triad-classify`: train, predict, evaluate, compare and prepare classifications."""

from pathlib import Path
from typing import Annotated

import typer

from classification.settings import PRESETS, PrepareOptions, TrainSettings
from nnunet_triad.cli import (
    DeviceOption,
    DryRunOption,
    VersionOption,
    make_app,
    run_app,
    takes_settings,
)

_CACHE_NAME = "triad_cache"

app = make_app("Classify 3D images with a pre-trained encoder and two linear layers.")

CacheFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of preprocessed images.", show_default=f"{_CACHE_NAME} beside MANIFEST"
    ),
]


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


@app.command()
@takes_settings(presets=PRESETS)
def train(
    manifest: Annotated[
        Path,
        typer.Argument(help="CSV with the columns image, label and, if any, split and subject."),
    ],
    output: Annotated[
        Path | None,
        typer.Argument(help="Folder of the run.", show_default="runs/... beside MANIFEST"),
    ] = None,
    *,
    preset: Annotated[
        str | None,
        typer.Option(help=f"Size, window and sampling for {', '.join(PRESETS)}."),
    ] = None,
    settings: TrainSettings,
    classes: Annotated[
        str | None, typer.Option(help="Names in their order, as CN,MCI,AD.", show_default="sorted")
    ] = None,
    allow_shared_subjects: Annotated[
        bool, typer.Option("--allow-shared-subjects", help="Let a subject be in several splits.")
    ] = False,
    image_column: Annotated[str, typer.Option(help="What MANIFEST calls the images.")] = "image",
    label_column: Annotated[str, typer.Option(help="What it calls the classes.")] = "label",
    subject_column: Annotated[
        str, typer.Option(help="What it calls the subjects, if it has them.")
    ] = "subject",
    cache: CacheFolder = None,
    dry_run: DryRunOption = False,
) -> None:
    """Train on a manifest, choose the best epoch on val, score it once on test.

    Without a column split, subjects are divided 70/15/15, class by class, always in the same way.

    The defaults are the paper's, but for --encoder-rate. The same command continues a run; SIGTERM
    or Ctrl-C saves it (exit code 75). Results: metrics.csv, predictions.csv, results.csv,
    confusion.png, roc.png, calibration.png, model.pt.
    """
    from classification.commands import train_manifest
    from classification.manifest import Columns

    train_manifest(
        manifest,
        output or _default_output(manifest, settings),
        settings,
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        is_shared=allow_shared_subjects,
        columns=Columns(image=image_column, label=label_column, subject=subject_column),
        cache=cache or manifest.parent / _CACHE_NAME,
        is_dry=dry_run,
    )


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="model.pt, or the folder of a run.")],
    inputs: Annotated[
        list[Path], typer.Argument(help="Images, or one manifest (CSV); channels joined by |.")
    ],
    *,
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    saliency: Annotated[
        str | None,
        typer.Option(help="gradcam or occlusion: a map for each image, in its space (NIfTI)."),
    ] = None,
    device: DeviceOption = "",
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of preprocessed images.", show_default="none is kept"),
    ] = None,
) -> None:
    """Write the probability of each class for images, and maps that explain them."""
    from classification.commands import predict_images

    predict_images(model, inputs, output, saliency=saliency, device=device, cache=cache)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="model.pt, or the folder of a run.")],
    manifest: Annotated[Path, typer.Argument(help="CSV with the columns image and label.")],
    *,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    output: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path(
        "evaluation"
    ),
    device: DeviceOption = "",
    cache: CacheFolder = None,
) -> None:
    """Score a model on a manifest: metrics with 95 % intervals, tables and figures."""
    from classification.commands import evaluate_manifest

    cache = cache or manifest.parent / _CACHE_NAME
    evaluate_manifest(model, manifest, output, split=split, device=device, cache=cache)


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs on the same samples; the first is the base."),
    ],
    *,
    output: Annotated[Path, typer.Option(help="Folder for table and figure.")] = Path("comparison"),
) -> None:
    """Compare runs: paired bootstrap intervals of the differences, and McNemar's test."""
    from classification.compare import compare as compare_runs

    table = compare_runs(runs, output)
    typer.echo(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    typer.echo(f"table: {output / 'comparison.csv'}\npicture: {output / 'comparison.png'}")


@app.command()
@takes_settings()
def prepare(
    dataset: Annotated[
        str, typer.Argument(help="adni, breastdm, organmnist3d, luna16 or lld-mmri.")
    ],
    *,
    source: Annotated[Path, typer.Option(help="Folder of the dataset as it is published.")],
    output: Annotated[Path, typer.Option(help="Folder for manifest.csv and converted images.")],
    options: PrepareOptions,
) -> None:
    """Write the manifest of one of the paper's datasets from its published layout."""
    from classification.datasets import prepare_dataset

    typer.echo(prepare_dataset(dataset, source, output, options))


def _default_output(manifest: Path, settings: TrainSettings) -> Path:
    init = settings.init if settings.init == "scratch" else Path(settings.init).stem
    name = f"{settings.encoder}_{init}_{settings.mode}_seed{settings.seed}"
    return manifest.parent / "runs" / name


def main() -> None:
    """Run the command."""
    run_app(app)
