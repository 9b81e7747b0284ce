"""One command for the five datasets: a reader each, and what the paper counts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from classification.datasets import adni, breastdm, lld_mmri, luna16, organmnist3d
from classification.datasets.table import MANIFEST_NAME, Row, write_manifest
from classification.settings import PrepareOptions
from nnunet_triad.errors import UserError
from nnunet_triad.files import check_folder, check_outputs

Reader = Callable[[Path, Path, PrepareOptions], Iterator[Row]]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset of the paper's section 4.3.1."""

    title: str
    read: Reader
    splits: tuple[int, int, int] | None  # train, val, test as the paper or the archive has them
    has_centers: bool = False


DATASETS = {
    "adni": Dataset(title="ADNI1 Complete 3Yr 1.5T", read=adni.rows, splits=(1526, 326, 330)),
    "breastdm": Dataset(title="BreastDM", read=breastdm.rows, splits=(166, 19, 47)),
    "organmnist3d": Dataset(title="OrganMNIST3D", read=organmnist3d.rows, splits=(972, 161, 610)),
    "luna16": Dataset(
        title="LUNA16",
        read=luna16.rows,
        splits=None,  # the paper gives 551,065 in all
        has_centers=True,
    ),
    "lld-mmri": Dataset(title="LLD-MMRI", read=lld_mmri.rows, splits=(316, 78, 104)),
}


def prepare_dataset(name: str, source: Path, output: Path, options: PrepareOptions) -> str:
    """Write OUTPUT/manifest.csv of a dataset.

    Returns:
        Counts, how they differ from the published ones, and the command to go on with.

    Raises:
        UserError: the name is unknown, or the folder has not the published layout.
    """
    if name not in DATASETS:
        raise UserError(f"DATASET: expected one of {', '.join(DATASETS)}, got {name}")
    if not source.exists():
        raise UserError(
            f"source: expected the folder of {name} as published, got nothing at {source}"
        )
    check_folder(output)
    dataset = DATASETS[name]
    path = output / MANIFEST_NAME
    check_outputs([path], [source, options.split_ids])
    counts = write_manifest(
        path, dataset.read(source, output, options), has_centers=dataset.has_centers
    )
    lines = [f"{dataset.title}: {counts.text()}"]
    found = tuple(counts.splits[split] for split in ("train", "val", "test"))
    if dataset.splits and found != dataset.splits:
        published, own = ("/".join(map(str, numbers)) for numbers in (dataset.splits, found))
        lines.append(f"published: {published}, here: {own}; see docs/classification.md")
    lines.append(f"next: triad-classify train {path} RUN --preset {name}")
    return "\n".join(lines)
