"""What a dataset's reader may be told."""

from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.errors import UserError

SKULL_STRIPPING = ("none", "plain", "nppy")


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Options of `triad-classify prepare`; each reader uses those that concern it.

    Raises:
        UserError: a value is outside its range.
    """

    # ADNI: a table of image ids and splits, instead of a split by subject
    split_ids: Path | None = None
    # BreastDM, LLD-MMRI: which sequences become channels, in order; None: the reader's default
    sequences: tuple[str, ...] | None = None
    # LUNA16: edge of the cube around a candidate
    extent_mm: float = 64.0
    # ADNI: none, plain, nppy
    skull_strip: str = "none"
    nppy_weights: Path | None = None
    nppy_python: Path | None = None
    # of splits that are not published
    seed: int = 0

    def __post_init__(self) -> None:
        if self.skull_strip not in SKULL_STRIPPING:
            rule = ", ".join(SKULL_STRIPPING)
            raise UserError(f"skull_strip: expected one of {rule}, got {self.skull_strip}")
        if self.extent_mm <= 0:
            raise UserError(f"extent_mm: expected a positive number, got {self.extent_mm}")
        if self.skull_strip == "nppy" and self.nppy_weights is None:
            raise UserError("nppy_weights: expected the path of npp_v1.pth, got none")
