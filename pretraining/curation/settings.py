"""The settings of a curation, and the quality rules: what keeps an image out of the store.

The paper names screening of low-quality images as future work; thresholds and defaults are ours.
"""

import math
import re
from dataclasses import dataclass

from nnunet_triad.errors import require
from nnunet_triad.training.settings import Settings, Triple, nested, option

MOST_LETTERS = 64  # of a dataset's name: a file's has 255, with what is put around it


@dataclass(frozen=True, kw_only=True)
class QualityRules(Settings):
    """Which images are set aside; each rule can be switched off."""

    min_slices: int = option(8, "Fewer slices are set aside; 1: off.", low=1)
    max_spacing_mm: float = option(
        10.0, "Coarser images are set aside; inf: off.", unit="mm", above=0, high=math.inf
    )
    min_foreground: float = option(
        0.01, "Least share of voxels above 5 % of the range of values; 0: off.", low=0, high=1
    )
    max_clipped: float = option(
        0.02, "Largest share of the foreground at the highest value; 1: off.", low=0, high=1
    )
    reject_constant: bool = option(
        True, "Images with one value only.", flag="--reject-constant/--keep-constant"
    )
    reject_nan: bool = option(
        True, "Images with NaN or infinite values.", flag="--reject-nan/--zero-nan"
    )
    # no word counts as MR
    reject_other_modalities: bool = option(
        True,
        "Images whose header says that they are not MR.",
        flag="--reject-other-modalities/--keep-other-modalities",
    )
    reject_derived: bool = option(
        True,
        "Maps (but ADC), projections, subtractions, phase and field-mapping images, screenshots.",
        flag="--reject-derived/--keep-derived",
    )
    reject_duplicates: bool = option(
        True, "Voxels of another series.", flag="--reject-duplicates/--keep-duplicates"
    )


@dataclass(frozen=True, kw_only=True)
class CurationSettings(Settings):
    """What becomes of a tree of images.

    Raises:
        UserError: a value is outside its range, or a name has other letters.
    """

    shape: Triple = option(
        (256, 256, 128), "Voxels of each volume, x,y,z.", source="the paper", high=4096
    )
    spacing_mm: float = option(
        1.0,
        "Spacing of the resampling before the resize.",
        unit="mm",
        source="the paper",
        low=0.01,
        high=100,
    )
    dataset: str | None = option(None, "Name of the dataset.", show_default="that of SOURCE")
    organ: str = option("", "Label for the index, such as brain.")
    workers: int = option(
        0, "Processes on this machine; 0: one a core, as far as it pays.", low=0, high=1024
    )
    scheduler: str | None = option(None, "Address of a Dask scheduler, such as tcp://node1:8786.")
    rules: QualityRules = nested(QualityRules)
    follow_links: bool = option(
        False, "Read files that a link outside of SOURCE leads to.", flag="--follow-links"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require("dataset", self.dataset, "a name", self.dataset != "")
        for name in ("dataset", "organ"):
            value = getattr(self, name) or ""
            is_good = re.fullmatch(r"[A-Za-z0-9_-]*", value) is not None
            require(name, value, "letters, digits, - and _ only", is_good)
            rule = f"at most {MOST_LETTERS} letters"
            require(name, f"{len(value)}", rule, len(value) <= MOST_LETTERS)
