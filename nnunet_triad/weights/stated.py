"""What a user states of a weights file that the file cannot say: whose it is, how it merges."""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from nnunet_triad.architectures import ENCODERS, EncoderSpec, family_of
from nnunet_triad.architectures.families.swin import MERGINGS, Merging
from nnunet_triad.errors import UserError, require
from nnunet_triad.weights.origins import ORIGINS, Assumptions, Origin, find_origin

if TYPE_CHECKING:
    from nnunet_triad.weights.file import EncoderWeights, WeightsInfo

VARIABLE = "TRIAD_ORIGIN"
_UNKNOWN = "unknown"  # as `WeightsInfo.intensity_normalization` has it


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What is stated; None: what the file says, and what its origin is known to assume.

    Attributes:
        origin: a publisher's name, for a file that does not say who trained it.
        merging: old (MONAI before 1.5.0) or new, for an encoder with patch merging.
        key: of the state dict in the file, dotted where it lies in another one.

    Raises:
        UserError: there is no such publisher or merging.
    """

    origin: str | None = None
    merging: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Check the names."""
        publishers = {
            n: o for o in ORIGINS if not o.is_anonymous for n in (o.initialization, o.name)
        }
        names = ", ".join(dict.fromkeys(o.initialization for o in publishers.values()))
        require("origin", self.origin, f"one of {names}", self.origin in (None, *publishers))
        require("merging", self.merging, " or ".join(MERGINGS), self.merging in (None, *MERGINGS))

    def or_environment(self) -> "Stated":
        """Return it with the origin that TRIAD_ORIGIN names, where it states none.

        Raises:
            UserError: the variable names no publisher.
        """
        value = os.environ.get(VARIABLE, "").strip()
        if self.origin is not None or not value:
            return self
        try:
            return replace(self, origin=value)
        except UserError as error:
            raise UserError(f"{VARIABLE}: {error}") from error


def is_anonymous(info: "WeightsInfo") -> bool:
    """Say whether a file does not tell who trained its encoder."""
    origin = find_origin(info.source)
    return origin is not None and origin.is_anonymous


def apply(weights: "EncoderWeights", stated: Stated) -> "EncoderWeights":
    """Return weights with what is stated of them, in place of what is not known.

    Raises:
        UserError: it contradicts what the file says.
    """
    info = weights.info
    if stated.origin is not None:
        info = _from(str(weights.path), info, cast(Origin, find_origin(stated.origin)))
    if stated.merging is not None:
        info = _merging(str(weights.path), info, cast(Merging, stated.merging))
    return replace(weights, info=info)


def _from(path: str, info: "WeightsInfo", origin: Origin) -> "WeightsInfo":
    if info.source == origin.name:
        return info
    if not is_anonymous(info):
        raise UserError(
            f"{path}: expected {origin.title}'s weights, as stated, got {info.source}'s by what "
            f"the file says; leave out --origin, or {VARIABLE}"
        )
    published = [file for file in origin.files if file.encoder == info.spec.name]
    titles = sorted({_title(ENCODERS[file.encoder]) for file in origin.files})
    if titles and _title(info.spec) not in titles:
        raise UserError(
            f"{path}: expected an encoder that {origin.title} publishes ({', '.join(titles)}), as "
            f"stated, got {info.spec.name} ({_title(info.spec)}); leave out --origin, or {VARIABLE}"
        )
    assumes = next((file.assumes for file in published if file.assumes), origin.assumes)
    licence = next((file.licence for file in published if file.licence), origin.licence)
    return replace(
        _with_assumptions(info, assumes),
        source=origin.name,
        licence=licence,
        citation=origin.citation,
        data_summary=f"{info.data_summary}; stated to be {origin.title}'s",
    )


def _title(spec: EncoderSpec) -> str:
    return family_of(spec).title(spec)


def _with_assumptions(info: "WeightsInfo", assumes: Assumptions) -> "WeightsInfo":
    """Fill what is not known of a file."""
    family = family_of(info.spec)
    known = getattr(info.spec, "merging", None)
    is_known = info.intensity_normalization != _UNKNOWN
    return replace(
        info,
        spec=family.assume(info.spec, merging=known or assumes.merging),
        axes=info.axes or assumes.axes,
        spacing_mm=info.spacing_mm or assumes.spacing_mm,
        intensity_normalization=(
            info.intensity_normalization if is_known else assumes.intensity or _UNKNOWN
        ),
    )


def _merging(path: str, info: "WeightsInfo", merging: Merging) -> "WeightsInfo":
    spec = family_of(info.spec).assume(info.spec, merging=merging)
    if getattr(spec, "merging", None) != merging:
        raise UserError(
            f"{path}: expected an encoder with patch merging, of which --merging is stated, got "
            f"{info.spec.name} ({_title(info.spec)}), which has none; leave out --merging"
        )
    known = getattr(info.spec, "merging", None)
    if known not in (None, merging):
        raise UserError(
            f"{path}: expected --merging {known}, as the file or its origin ({info.source}) says, "
            f"got {merging}; leave out --merging"
        )
    return replace(info, spec=spec)
