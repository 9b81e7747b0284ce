"""A whole run: cache, training by its mode, the test set scored once, tables and figures."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from classification.cache import build_cache
from classification.data import ClassificationData
from classification.evaluate import RunName, evaluate
from classification.features import probe
from classification.figures import draw_training
from classification.loop import finetune
from classification.manifest import Manifest, read_samples
from classification.model_file import Model, load_model
from classification.predict import Predictions, make_predictions, predict_logits
from classification.settings import TrainSettings
from nnunet_triad.architectures.cpu.accelerate import accelerate_on_cpu
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.classification import Score
from nnunet_triad.training.training_log import LOG_NAME
from nnunet_triad.weights.file import EncoderWeights


def train(
    data: ClassificationData,
    output: Path,
    *,
    settings: TrainSettings,
    device: torch.device,
    weights: EncoderWeights | None = None,
    is_quiet: bool = False,
) -> list[Score]:
    """Train a classifier, choose it on validation, score it once on test.

    Args:
        data: from `load_data`.
        output: receives settings.json, model.pt, log.csv, tensorboard/, and what `evaluate` writes.
        settings: of the run.
        device: where the network runs.
        weights: those of `settings.init`; None: they are read when they are needed.
        is_quiet: show no progress bars.

    Returns:
        The metrics on test.

    Raises:
        UserError: the run in `output` is another one, or something is wrong with data or weights.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    fit = finetune if settings.mode == "finetune" else probe
    path = fit(data, output, settings=settings, device=device, weights=weights, is_quiet=is_quiet)
    if settings.mode == "finetune":
        table = pd.read_csv(output / LOG_NAME)
        draw_training(output / "training.png", {str(n): table[n].to_numpy() for n in table})
    model = load_model(path)
    predictions = predict_samples(
        model, data, data.manifest.rows("test"), device=device, is_quiet=is_quiet
    )
    return evaluate(predictions, output, name=name_of(model, data.manifest.path))


def load_data(
    manifest: Manifest,
    settings: TrainSettings,
    cache_folder: Path,
    *,
    is_quiet: bool = False,
) -> ClassificationData:
    """Preprocess a manifest's images that are not cached yet.

    Raises:
        UserError: an image is not usable.
    """
    cache = build_cache(
        manifest,
        settings.preprocess,
        cache_folder,
        workers=settings.workers,
        is_quiet=is_quiet,
    )
    return ClassificationData(manifest=manifest, cache=cache)


def predict_samples(
    model: Model,
    data: ClassificationData,
    rows: np.ndarray,
    *,
    device: torch.device,
    is_quiet: bool = False,
) -> Predictions:
    """Return the model's probabilities for the given samples."""
    accelerate_on_cpu(model.network, device)
    logits = predict_logits(
        model.network.to(device),
        data,
        rows,
        device=device,
        batch_size=model.settings.batch_size,
        workers=model.settings.workers,
        is_quiet=is_quiet,
    )
    return make_predictions(data.manifest, rows, logits)


def read_labelled(path: Path, model: Model, split: str) -> tuple[Manifest, np.ndarray]:
    """Read a manifest for the evaluation of a model, and the numbers of a split's samples.

    Raises:
        UserError: it has no labels, no such split, or another number of channels.
    """
    manifest = read_samples(path, model.classes)
    check_channels(manifest, model)
    rows = np.arange(len(manifest)) if split == "all" else manifest.rows(split)
    if not len(rows):
        raise UserError(f"{path}: expected samples of the split {split}, got none; see --split")
    return manifest, rows


def check_channels(manifest: Manifest, model: Model) -> None:
    """Raise a UserError when samples are not of the kind that a model was trained on."""
    expected, found = model.description.num_channels, manifest.num_channels
    if expected != found:
        raise UserError(
            f"{manifest.path}: expected {expected} channels an image, as {model.path} was trained "
            f"on, got {found}; join the channels' paths by |"
        )
    if model.description.extent_mm != manifest.extent_mm:
        raise UserError(
            f"{manifest.path}: expected extent_mm {model.description.extent_mm}, as {model.path} "
            f"was trained on, got {manifest.extent_mm}"
        )


def name_of(model: Model, manifest: Path) -> RunName:
    """Return how a run is called in tables and figures."""
    dataset = manifest.stem if manifest.stem != "manifest" else manifest.resolve().parent.name
    suffix = "" if model.settings.mode == "finetune" else f"-{model.settings.mode}"
    return RunName(
        dataset=dataset,
        architecture=model.settings.encoder,
        initialization=model.description.initialization + suffix,
        seed=model.settings.seed,
    )
