"""What became of every tensor in a transfer of weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from nnunet_triad.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Count:
    """A number of tensors and of the parameters in them."""

    tensors: int
    parameters: int

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Count":
        """Count the given tensors."""
        return cls(tensors=len(tensors), parameters=sum(t.numel() for t in tensors.values()))

    def __str__(self) -> str:
        return f"{self.tensors} tensors, {self.parameters:,} parameters"


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """What became of every tensor of the encoder and of the file.

    `loaded`, `adapted` and `fresh` partition the network's encoder; `unused` are the file's.
    """

    path: str
    sha256: str
    architecture: str
    source: str
    loaded: Count
    adapted: Count
    fresh: Count
    unused: Count
    outside_encoder: Count  # the decoder and everything else, which keeps its random values
    adaptations: dict[str, str] = field(default_factory=dict)  # tensor -> how
    fresh_reasons: dict[str, str] = field(default_factory=dict)  # tensor -> why
    unused_names: tuple[str, ...] = ()
    file_parameters: int = 0  # of the file's encoder
    loaded_outside: Count = Count(tensors=0, parameters=0)  # beside the encoder, from the file
    # in words: what makes the encoder compute here what it computed at its publisher's
    axes: str = ""
    merging: str = ""
    intensity: str = ""
    cautions: tuple[str, ...] = ()  # what it may compute otherwise, and what to do

    @property
    def share(self) -> float:
        """Share of the encoder's parameters that come from the file, 0 to 1."""
        filled = self.loaded.parameters + self.adapted.parameters
        return filled / max(filled + self.fresh.parameters, 1)

    @property
    def share_of_file(self) -> float:
        """Share of the parameters of the file's encoder that are used, 0 to 1."""
        return 1 - self.unused.parameters / max(self.file_parameters, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        lists = {"unused_names": list(self.unused_names), "cautions": list(self.cautions)}
        return {**asdict(self), **lists}

    def summary(self) -> str:
        """Return the report as text, a line for each kind and for each exception."""
        lines = [
            f"Encoder weights: {self.architecture} ({self.source}) from {self.path}",
            f"  sha256  {self.sha256}",
            f"  loaded  {self.loaded}",
            f"  adapted {self.adapted}",
            *(f"    {name}: {how}" for name, how in self.adaptations.items()),
            f"  fresh   {self.fresh}",
            *(f"    {name}: {why}" for name, why in self.fresh_reasons.items()),
            f"  unused  {self.unused}",
            *(f"    {name}" for name in self.unused_names),
            f"  {self.share:.1%} of the encoder comes from the file, {self.share_of_file:.1%} of "
            f"the file's encoder is used; outside the encoder, fresh: {self.outside_encoder}",
        ]
        if self.loaded_outside.tensors:
            lines.append(f"  outside the encoder, from the file: {self.loaded_outside}")
        facts = {"axes": self.axes, "merging": self.merging, "intensity": self.intensity}
        lines += [f"  {name:9} {fact}" for name, fact in facts.items() if fact]
        lines += [f"  caution: {caution}" for caution in self.cautions]
        return "\n".join(lines)


class TransferError(UserError):
    """Nothing, or too little, of a weights file fits the network; the network is untouched."""

    def __init__(self, message: str, report: TransferReport) -> None:
        """Keep what would have become of the tensors."""
        super().__init__(message)
        self.report = report
