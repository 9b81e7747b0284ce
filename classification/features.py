"""Frozen encoders: features computed once, then a linear probe or nearest neighbours on them."""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from classification.data import Batches, ClassificationData, SampleDataset
from classification.loop import open_folder, start_training
from classification.memory import PROBE_ADVICE
from classification.model import Classifier, NeighbourHead
from classification.model_file import MODEL_NAME, build_network, save_model
from classification.settings import TrainSettings
from nnunet_triad.evaluation.classification import (
    Rows,
    accuracy,
    as_rows,
    balanced_accuracy,
    truth_of,
)
from nnunet_triad.features.nested import NEIGHBOURS, PENALTIES
from nnunet_triad.files import write_atomically
from nnunet_triad.training.loader import batches, make_loader
from nnunet_triad.training.memory import explain_out_of_memory
from nnunet_triad.weights.file import EncoderWeights

FEATURES_NAME = "features.npz"


@dataclass(frozen=True, kw_only=True)
class Features:
    """Pooled features of samples."""

    values: NDArray[np.float32]  # (n, d)
    labels: NDArray[np.intp]  # (n,)
    splits: NDArray[np.str_]  # (n,)

    def of(self, split: str) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Return features and labels of a split."""
        chosen = self.splits == split
        return self.values[chosen], self.labels[chosen]


@explain_out_of_memory(PROBE_ADVICE)
def probe(
    data: ClassificationData,
    output: Path,
    *,
    settings: TrainSettings,
    device: torch.device,
    weights: EncoderWeights | None = None,
    is_quiet: bool = False,
) -> Path:
    """Fit a linear probe or neighbours on the features of the frozen encoder.

    The encoder sees each sample once; OUTPUT/features.npz keeps what it said, so that running the
    command again with another mode costs no pass.

    Returns:
        OUTPUT/model.pt.
    """
    training = start_training(data, settings, device, weights)
    frozen = training.network.eval()
    with open_folder(data, output) as folder:
        folder.begin(training.checkpoint())
        features = read_or_compute(frozen, data, output, settings=settings, is_quiet=is_quiet)
        fit = fit_linear if settings.mode == "linear-probe" else fit_neighbours
        num_train = int((features.splits == "train").sum())
        description = replace(training.description, num_neighbours_of=num_train)
        network = build_network(settings, description)
        network.encoder = frozen.encoder
        network.head = fit(network, features, settings)
        save_model(output / MODEL_NAME, network, settings, description, epoch=0)
    return output / MODEL_NAME


def read_or_compute(
    network: Classifier,
    data: ClassificationData,
    output: Path,
    *,
    settings: TrainSettings,
    is_quiet: bool = False,
) -> Features:
    """Return the features of all samples, from OUTPUT/features.npz if it is of this encoder."""
    path, key = output / FEATURES_NAME, _key(network, data, settings)
    values = _read(path, key)
    manifest = data.manifest
    if values is None:
        rows = np.arange(len(manifest))
        values = compute(network, data, rows, settings=settings, is_quiet=is_quiet)
        with write_atomically(path) as temporary:
            np.savez(temporary, key=np.array(key), values=values)
    return Features(values=values, labels=manifest.labels, splits=manifest.splits)


def compute(
    network: Classifier,
    data: ClassificationData,
    rows: NDArray[np.intp],
    *,
    settings: TrainSettings,
    is_quiet: bool = True,
) -> NDArray[np.float32]:
    """Return the pooled features (n, d) of samples: one pass of the encoder, no augmentation."""
    parts = batch_features(network, data, rows, settings=settings, is_quiet=is_quiet)
    return np.concatenate(list(parts))


@torch.no_grad()
def batch_features(
    network: Classifier,
    data: ClassificationData,
    rows: NDArray[np.intp],
    *,
    settings: TrainSettings,
    is_quiet: bool = True,
) -> Iterator[NDArray[np.float32]]:
    """Yield the features (b, d) of each batch; see `compute`."""
    device = next(network.parameters()).device
    loader = make_loader(
        SampleDataset(data).batch,
        Batches(rows, settings.batch_size),
        workers=settings.workers,
        device=device,
    )
    for batch in batches(tqdm(loader, desc="features", unit="batch", disable=is_quiet)):
        yield network.features(batch["image"].to(device)).float().cpu().numpy()


def fit_linear(network: Classifier, features: Features, settings: TrainSettings) -> torch.nn.Module:
    """Return a linear layer: logistic regression on standardised features.

    The penalty is chosen on validation, the strongest of equal ones; the standardisation is folded
    into the layer's weights. A weighted loss or balanced sampling weighs the classes equally.
    """
    train, labels = features.of("train")
    scaler = StandardScaler().fit(train)
    is_balanced = settings.loss == "weighted" or settings.sampling == "balanced"
    fitted = [
        LogisticRegression(
            C=penalty, max_iter=2000, class_weight="balanced" if is_balanced else None
        ).fit(scaler.transform(train), labels)
        for penalty in PENALTIES
    ]
    validation, truth = features.of("val")
    scores = [
        _score(settings)(as_rows(truth, model.predict_proba(scaler.transform(validation))))
        for model in fitted
    ]
    return _as_layer(fitted[int(np.argmax(scores))], scaler, network.head)


def fit_neighbours(
    network: Classifier, features: Features, settings: TrainSettings
) -> torch.nn.Module:
    """Return a head that votes among the training samples; validation chooses how many."""
    head = network.head
    assert isinstance(head, NeighbourHead)
    train, labels = features.of("train")
    head.vectors.copy_(torch.from_numpy(train))
    head.labels.copy_(torch.from_numpy(labels))
    validation, truth = features.of("val")
    scores = {}
    for number in sorted(n for n in NEIGHBOURS if n <= len(train)):
        head.num_neighbours.fill_(number)
        shares = head(torch.from_numpy(validation)).exp().numpy()
        scores[number] = _score(settings)(as_rows(truth, shares))
    head.num_neighbours.fill_(max(scores, key=lambda number: scores[number]))
    return head


def _as_layer(model: Any, scaler: Any, layer: torch.nn.Module) -> torch.nn.Module:
    """Fill a linear layer so that its softmax gives the model's probabilities."""
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes: one score, the logit of the second
        weight, bias = np.vstack([0 * weight, weight]), np.r_[0.0, bias]
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))  # type: ignore[operator]
        layer.bias.copy_(torch.from_numpy(bias))  # type: ignore[operator]
    return layer


def _score(settings: TrainSettings) -> Callable[[NDArray[np.float64]], float]:
    scores = {"balanced-accuracy": balanced_accuracy, "loss": _log_likelihood}
    return scores.get(settings.select, accuracy)


def _log_likelihood(rows: Rows) -> float:
    """Return the mean logarithm of the true class's probability, minus the cross-entropy."""
    found = rows[np.arange(len(rows)), 1 + truth_of(rows)]
    return float(np.log(found.clip(1e-12)).mean())


def _key(network: Classifier, data: ClassificationData, settings: TrainSettings) -> str:
    """Return a hash of the encoder's values and of the data."""
    digest = hashlib.sha256(f"{settings.encoder} {data.fingerprint}".encode())
    for name, tensor in network.encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path, key: str) -> NDArray[np.float32] | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["values"] if str(content["key"]) == key else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None  # damaged: they are computed again
