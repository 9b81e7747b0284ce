"""Probabilities for samples, and the table of predictions that everything after training reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from classification.data import Batches, ClassificationData, SampleDataset
from classification.manifest import Manifest
from classification.model import Classifier
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.classification import Rows, as_rows
from nnunet_triad.files import write_table
from nnunet_triad.tables import read_numbers, read_table
from nnunet_triad.training.loader import batches, make_loader
from nnunet_triad.training.precision import autocast

PREDICTIONS_NAME = "predictions.csv"
_FIXED = ["case", "subject", "split", "label", "predicted"]
_PROBABILITY = "p_"  # before the class's name


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Labelled or unlabelled samples with a probability for each class."""

    classes: tuple[str, ...]
    cases: NDArray[np.str_]  # (n,)
    subjects: NDArray[np.str_]  # (n,)
    splits: NDArray[np.str_]  # (n,)
    truth: NDArray[np.intp]  # (n,), -1 where unknown
    probabilities: NDArray[np.float64]  # (n, k)

    @property
    def rows(self) -> Rows:
        """The labelled samples as the metrics take them."""
        known = self.truth >= 0
        return as_rows(self.truth[known], self.probabilities[known])

    def to_table(self) -> pd.DataFrame:
        """Return a row a sample: names, label, predicted class, probabilities."""
        names = np.array([*self.classes, ""])  # the last one for -1
        table = pd.DataFrame(
            {
                "case": self.cases,
                "subject": self.subjects,
                "split": self.splits,
                "label": names[self.truth],
                "predicted": names[self.probabilities.argmax(axis=1)],
            }
        )
        for number, name in enumerate(self.classes):
            table[_PROBABILITY + name] = self.probabilities[:, number]
        return table


@torch.no_grad()
def predict_logits(
    network: Classifier,
    data: ClassificationData,
    rows: NDArray[np.intp],
    *,
    device: torch.device,
    batch_size: int = 8,
    workers: int = 0,
    precision: str = "fp32",
    is_quiet: bool = True,
) -> torch.Tensor:
    """Return logits (n, classes) of the given samples, on the CPU; the network's mode is kept."""
    was_training = network.training
    network.eval()
    loader = make_loader(
        SampleDataset(data).batch, Batches(rows, batch_size), workers=workers, device=device
    )
    parts = []
    for batch in batches(tqdm(loader, desc="predict", unit="batch", disable=is_quiet)):
        image = batch["image"].to(device, non_blocking=True)
        with autocast(device, precision):
            parts.append(network(image).float())
    network.train(was_training)
    return torch.cat(parts).cpu()


def make_predictions(
    manifest: Manifest, rows: NDArray[np.intp], logits: torch.Tensor
) -> Predictions:
    """Join the samples' names and labels with their probabilities."""
    return Predictions(
        classes=manifest.classes,
        cases=manifest.cases[rows],
        subjects=manifest.subjects[rows],
        splits=manifest.splits[rows],
        truth=manifest.labels[rows],
        probabilities=logits.double().softmax(dim=1).numpy(),
    )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the table as CSV, atomically."""
    write_table(path, predictions.to_table(), float_format="%.9g")


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote, from the file or from the run's folder.

    Raises:
        UserError: there is no such table, or it has other columns.
    """
    path = path / PREDICTIONS_NAME if path.is_dir() else path
    table = read_table(path, "a table of predictions, as training and evaluation write it")
    classes = [str(n).removeprefix(_PROBABILITY) for n in table if str(n).startswith(_PROBABILITY)]
    if not set(_FIXED) <= set(table) or not classes:
        raise UserError(
            f"{path}: expected the columns {', '.join(_FIXED)} and {_PROBABILITY}CLASS for each "
            f"class, got {', '.join(map(str, table))}"
        )
    return Predictions(
        classes=tuple(classes),
        cases=table["case"].to_numpy(dtype=str),
        subjects=table["subject"].to_numpy(dtype=str),
        splits=table["split"].to_numpy(dtype=str),
        truth=_numbers(table["label"].to_numpy(dtype=str), classes, path),
        probabilities=_probabilities(table, classes, path),
    )


def _probabilities(table: pd.DataFrame, classes: Sequence[str], path: Path) -> NDArray[np.float64]:
    columns = [_PROBABILITY + name for name in classes]
    values = read_numbers(path, table, columns)
    if not np.isfinite(values).all():
        raise UserError(
            f"{path}: expected a number in each cell of {', '.join(columns)}, got others"
        )
    return values


def _numbers(labels: NDArray[np.str_], classes: Sequence[str], path: Path) -> NDArray[np.intp]:
    number_of = {name: number for number, name in enumerate(classes)} | {"": -1}
    unknown = sorted(set(labels) - set(number_of))
    if unknown:
        raise UserError(
            f"{path}: expected labels of {', '.join(classes)}, got {', '.join(unknown)}"
        )
    return np.array([number_of[label] for label in labels], dtype=np.intp)
