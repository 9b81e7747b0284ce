"""`triad-classify`: train, predict, evaluate, compare and prepare classifications."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from classification.settings import (
    AUGMENTATIONS,
    FITS,
    LOSSES,
    MODES,
    PRESETS,
    SAMPLINGS,
    SELECTIONS,
    PreprocessSettings,
    TrainSettings,
    Window,
)
from nnunet_triad.cli import VersionOption, make_app, run_app, with_preset
from nnunet_triad.errors import UserError
from nnunet_triad.training.stop_signal import EXIT_STOPPED, TrainingStopped

_DEFAULT = TrainSettings  # the defaults are class attributes: no model is imported for --help
_CUBE = PreprocessSettings
_DEVICE_HELP = "cpu, cuda or mps."
_CACHE_NAME = "triad_cache"

app = make_app("Classify 3D images with a pre-trained encoder and two linear layers.")

Device = Annotated[
    str | None, typer.Option(help=_DEVICE_HELP, show_default="cuda if there is one, else cpu")
]
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
def train(
    manifest: Annotated[
        Path, typer.Argument(help="CSV with the columns image, label, split and, if any, subject.")
    ],
    output: Annotated[
        Path | None,
        typer.Argument(help="Folder of the run.", show_default="runs/... beside MANIFEST"),
    ] = None,
    *,
    encoder: Annotated[
        str, typer.Option(help="unet, unet_t, swin_t, swin_b, swin_l, swin_h, swin_b_v1 or resenc.")
    ] = _DEFAULT.encoder,
    init: Annotated[
        str,
        typer.Option(help="scratch, a weights file, or a name under TRIAD_WEIGHTS (triad, voco)."),
    ] = _DEFAULT.init,
    mode: Annotated[str, typer.Option(help=", ".join(MODES) + ".")] = _DEFAULT.mode,
    preset: Annotated[
        str | None,
        typer.Option(help=f"Size, window and sampling for {', '.join(PRESETS)}."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Voxels along each axis.", show_default=f"{_CUBE.size}; adni: 96"),
    ] = None,
    fit: Annotated[
        str, typer.Option(help=f"{' or '.join(FITS)} (keeps the proportions) to the cube.")
    ] = _CUBE.fit,
    window: Annotated[
        str | None,
        typer.Option(help="LOW,HIGH for CT, as -1000,400.", show_default="z-score, for MRI"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs.", show_default="150 for Swin, 300 for unet")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = _DEFAULT.batch_size,
    learning_rate: Annotated[
        float, typer.Option(help="Adam's, after the warm-up.")
    ] = _DEFAULT.learning_rate,
    encoder_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of it for the encoder.",
            show_default="0.1 for a pre-trained Swin, else 1; the paper: 1",
        ),
    ] = None,
    warmup_epochs: Annotated[
        int, typer.Option(help="Epochs over which the learning rate rises.")
    ] = _DEFAULT.warmup_epochs,
    hidden_size: Annotated[
        int | None,
        typer.Option(help="Width between the linear layers.", show_default="that of the features"),
    ] = None,
    loss: Annotated[str, typer.Option(help=", ".join(LOSSES) + ".")] = _DEFAULT.loss,
    focal_gamma: Annotated[
        float, typer.Option(help="Exponent of the focal loss.")
    ] = _DEFAULT.focal_gamma,
    sampling: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(SAMPLINGS)} (each class equally often).",
            show_default=f"{_DEFAULT.sampling}; luna16: balanced",
        ),
    ] = None,
    samples_per_epoch: Annotated[
        int | None, typer.Option(help="Training samples an epoch.", show_default="all of them")
    ] = None,
    augmentation: Annotated[
        str, typer.Option(help=", ".join(AUGMENTATIONS) + ".")
    ] = _DEFAULT.augmentation,
    flip_axes: Annotated[
        str, typer.Option(help="Axes to mirror at random, as xyz; not where the side is the label.")
    ] = _DEFAULT.flip_axes,
    select: Annotated[
        str, typer.Option(help=f"Best epoch by: {', '.join(SELECTIONS)} on validation.")
    ] = _DEFAULT.select,
    classes: Annotated[
        str | None, typer.Option(help="Names in their order, as CN,MCI,AD.", show_default="sorted")
    ] = None,
    allow_shared_subjects: Annotated[
        bool, typer.Option("--allow-shared-subjects", help="Let a subject be in several splits.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of weights, order, augmentation.")] = _DEFAULT.seed,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = _DEFAULT.precision,
    device: Device = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that read and preprocess.", show_default="0 on the CPU, else 4"
        ),
    ] = None,
    cache: CacheFolder = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do two steps, print memory and time, train nothing.")
    ] = False,
) -> None:
    """Train on a manifest, choose the best epoch on val, score it once on test.

    The defaults are the paper's, but for --encoder-rate. The same command continues a run; SIGTERM
    or Ctrl-C saves it (exit code 75). Results: metrics.csv, predictions.csv, results.csv,
    confusion.png, roc.png, calibration.png, model.pt.
    """
    device = device or _default_device()
    chosen = {
        "size": size,
        "window": _parse_window(window),
        "sampling": sampling,
        "samples_per_epoch": samples_per_epoch,
    }
    values = with_preset(preset, chosen, presets=PRESETS)
    cube = {name: values.pop(name) for name in ("size", "window") if name in values}
    settings = TrainSettings(
        encoder=encoder,
        init=init,
        mode=mode,
        preprocess=PreprocessSettings(
            fit=fit, intensity="window" if "window" in cube else "zscore", **cube
        ),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        encoder_rate=encoder_rate,
        warmup_epochs=warmup_epochs,
        hidden_size=hidden_size,
        loss=loss,
        focal_gamma=focal_gamma,
        augmentation=augmentation,
        flip_axes=flip_axes,
        select=select,
        seed=seed,
        precision=precision,
        device=device,
        workers=workers if workers is not None else (0 if device == "cpu" else 4),
        **values,
    )
    output = output or _default_output(manifest, settings)
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    _train(
        manifest,
        output,
        settings,
        classes=names,
        is_shared=allow_shared_subjects,
        cache=cache,
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
    device: Device = None,
    cache: CacheFolder = None,
) -> None:
    """Write the probability of each class for images, and maps that explain them."""
    from classification.commands import predict_images

    predict_images(
        model,
        inputs,
        output,
        saliency=saliency,
        device=device or _default_device(),
        cache=cache,
    )


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="model.pt, or the folder of a run.")],
    manifest: Annotated[Path, typer.Argument(help="CSV with the columns image and label.")],
    *,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    output: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path(
        "evaluation"
    ),
    device: Device = None,
    cache: CacheFolder = None,
) -> None:
    """Score a model on a manifest: metrics with 95 % intervals, tables and figures."""
    from classification.commands import evaluate_manifest

    evaluate_manifest(
        model, manifest, output, split=split, device=device or _default_device(), cache=cache
    )


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
def prepare(
    dataset: Annotated[
        str, typer.Argument(help="adni, breastdm, organmnist3d, luna16 or lld-mmri.")
    ],
    *,
    source: Annotated[Path, typer.Option(help="Folder of the dataset as it is published.")],
    output: Annotated[Path, typer.Option(help="Folder for manifest.csv and converted images.")],
    split_ids: Annotated[
        Path | None,
        typer.Option(help="ADNI: CSV with Image Data ID,split, instead of a split by subject."),
    ] = None,
    sequences: Annotated[
        str | None,
        typer.Option(
            help="BreastDM and LLD-MMRI: channels, as VIBRANT,SUB2.", show_default="per dataset"
        ),
    ] = None,
    extent_mm: Annotated[
        float, typer.Option(help="LUNA16: edge of the cube around a candidate.")
    ] = 64.0,
    skull_strip: Annotated[
        str, typer.Option(help="ADNI: none, plain (threshold and morphology), or nppy.")
    ] = "none",
    nppy_weights: Annotated[
        Path | None, typer.Option(help="NPPY's npp_v1.pth; needed by --skull-strip nppy.")
    ] = None,
    nppy_python: Annotated[
        Path | None,
        typer.Option(help="Python that has nppy installed.", show_default="this one"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of splits that are not published.")] = 0,
) -> None:
    """Write the manifest of one of the paper's datasets from its published layout."""
    from classification.datasets import PrepareOptions, prepare_dataset

    options = PrepareOptions(
        split_ids=split_ids,
        sequences=None if sequences is None else tuple(s.strip() for s in sequences.split(",")),
        extent_mm=extent_mm,
        skull_strip=skull_strip,
        nppy_weights=nppy_weights,
        nppy_python=nppy_python or Path(sys.executable),
        seed=seed,
    )
    typer.echo(prepare_dataset(dataset, source, output, options))


def _train(
    manifest: Path,
    output: Path,
    settings: TrainSettings,
    *,
    classes: list[str] | None,
    is_shared: bool,
    cache: Path | None,
    is_dry: bool,
) -> None:
    from classification.commands import train_manifest

    try:
        train_manifest(
            manifest,
            output,
            settings,
            classes=classes,
            is_shared=is_shared,
            cache=cache or manifest.parent / _CACHE_NAME,
            is_dry=is_dry,
        )
    except TrainingStopped as stop:
        typer.echo(f"{stop}; run the same command again to continue", err=True)
        sys.exit(EXIT_STOPPED)


def _parse_window(text: str | None) -> Window | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"window: expected LOW,HIGH as -1000,400, got {text}") from None
    return low, high


def _default_output(manifest: Path, settings: TrainSettings) -> Path:
    init = settings.init if settings.init == "scratch" else Path(settings.init).stem
    name = f"{settings.encoder}_{init}_{settings.mode}_seed{settings.seed}"
    return manifest.parent / "runs" / name


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Run the command."""
    run_app(app)
