"""Settings of `triad-features`."""

from dataclasses import dataclass
from typing import Literal

from nnunet_triad.errors import require
from nnunet_triad.training.settings import (
    MAX_SEED,
    Settings,
    Triple,
    device_option,
    option,
)


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(Settings):
    """How features are computed.

    What decides on their values and is not in here is the weights: their hash is compared besides.
    """

    encoder: str | None = option(
        None,
        "A weights file, hf://ORG/NAME, a name of `triad-weights catalogue`, or random:NAME for "
        "random weights of an architecture, such as random:unet.",
        changes_result=False,  # their hash does
    )
    levels: tuple[int, ...] = option(
        (), "Levels that are pooled, 0 being the finest, as 2,3.", low=0, show_default="all"
    )
    mask: str | None = option(
        None,
        "Label maps on the images' grids, to pool inside each of their labels: a column of the "
        "manifest, or a path from the image's folder with its {{name}}, {{stem}} or {{case}}, as "
        "../labelsTr/{{name}}.",
        show_default="none: over the whole image",
    )
    window: Triple = option(
        (128, 128, 128),
        "Images that are larger are seen through windows of this size, rounded up to the "
        "encoder's stride.",
        unit="voxels",
        low=1,
        high=4096,
    )
    overlap: float = option(
        0.5,
        "Share of a window that the next one sees again, at least.",
        source="nnU-Net",
        low=0,
        high=0.9,
    )
    origin: str | None = option(
        None, "Whose the weights are, of a file that does not say: triad, voco, suprem, ..."
    )
    merging: str | None = option(
        None, "How a Swin encoder merges patches, where it is not known: old or new."
    )
    key: str | None = option(None, "Which state dict of the file, dotted where it lies deeper.")
    seed: int = option(0, "Of random weights.", low=0, high=MAX_SEED)
    batch_size: int = option(
        1,
        "Windows that pass the encoder at once; more keep a GPU busy.",
        low=1,
        high=4096,
        changes_result=False,
    )
    device: str = device_option()
    workers: int = option(
        0,
        "Threads that read and prepare images ahead.",
        low=0,
        high=1024,
        show_default="0 on the CPU, else 4",
        changes_result=False,
    )


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(Settings):
    """How features are probed."""

    target: str = option("label", "Column of MANIFEST that is to be told from the features.")
    task: Literal["auto", "classes", "numbers"] = option(
        "auto",
        "Whether the targets are {choices}; auto: numbers where all are, and of more than 10 "
        "values or not whole.",
    )
    folds: int = option(
        5, "Parts that subjects are divided into; each is predicted once.", low=2, high=1000
    )
    inner_folds: int = option(
        4, "Parts of each training set, by which its penalty or k is chosen.", low=2, high=1000
    )
    resamples: int = option(2000, "Bootstrap draws of an interval.", low=100, high=1_000_000)
    split_seed: int = option(0, "Of the division into folds.", low=0, high=MAX_SEED)

    def __post_init__(self) -> None:
        """Check the column's name."""
        super().__post_init__()
        require("target", self.target, "the name of a column", bool(self.target.strip()))
