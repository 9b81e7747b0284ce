"""One command for the five datasets: a reader each, and what the paper counts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from classification.datasets import adni, breastdm, lld_mmri, luna16, organmnist3d
from classification.datasets.options import PrepareOptions
from classification.datasets.table import MANIFEST_NAME, Row, write_manifest
from nnunet_triad.errors import UserError

Reader = Callable[[Path, Path, PrepareOptions], Iterator[Row]]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset of the paper's section 4.3.1."""

    title: str
    read: Reader
    splits: tuple[int, int, int] | None  # train, val, test as the paper has them
    advice: tuple[str, ...]  # options of `train` that the images ask for; sizes are the paper's
    has_centers: bool = False


DATASETS = {
    "adni": Dataset(
        title="ADNI1 Complete 3Yr 1.5T",
        read=adni.rows,
        splits=(1526, 326, 330),
        advice=("--size", "96"),
    ),
    "breastdm": Dataset(
        title="BreastDM", read=breastdm.rows, splits=(166, 19, 47), advice=("--size", "64")
    ),
    "organmnist3d": Dataset(
        title="OrganMNIST3D",
        read=organmnist3d.rows,
        splits=(972, 161, 610),
        advice=("--size", "64", "--window", "0,255"),
    ),
    "luna16": Dataset(
        title="LUNA16",
        read=luna16.rows,
        splits=None,  # the paper gives 551,065 in all
        advice=(
            "--size",
            "64",
            "--window=-1000,400",
            "--sampling",
            "balanced",
            "--samples-per-epoch",
            "4000",
        ),
        has_centers=True,
    ),
    "lld-mmri": Dataset(
        title="LLD-MMRI", read=lld_mmri.rows, splits=(316, 78, 104), advice=("--size", "64")
    ),
}


def prepare_dataset(name: str, source: Path, output: Path, options: PrepareOptions) -> str:
    """Write OUTPUT/manifest.csv of a dataset.

    Returns:
        Counts, how they differ from the paper's, and the command to go on with.

    Raises:
        UserError: the name is unknown, or the folder has not the published layout.
    """
    if name not in DATASETS:
        raise UserError(f"DATASET: expected one of {', '.join(DATASETS)}, got {name}")
    if not source.exists():
        raise UserError(
            f"source: expected the folder of {name} as published, got nothing at {source}"
        )
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: expected a folder, got a file; choose another --output")
    dataset = DATASETS[name]
    path = output / MANIFEST_NAME
    counts = write_manifest(
        path, dataset.read(source, output, options), has_centers=dataset.has_centers
    )
    lines = [f"{dataset.title}: {counts.text()}"]
    found = tuple(counts.splits[split] for split in ("train", "val", "test"))
    if dataset.splits and found != dataset.splits:
        paper, own = ("/".join(map(str, numbers)) for numbers in (dataset.splits, found))
        lines.append(f"the paper has {paper}, here {own}; see docs/classification.md")
    lines.append(f"next: triad-classify train {path} RUN {' '.join(dataset.advice)}")
    return "\n".join(lines)
