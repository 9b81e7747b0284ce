"""Transfer of encoder weights into a network, whose channels, kernels or depth may differ."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_triad.architectures import family_of
from nnunet_triad.errors import UserError
from nnunet_triad.weights.file import EncoderWeights, encoder_tensors

MINIMUM_SHARE = 0.5  # of the network's encoder parameters that a transfer must fill


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

    @property
    def share(self) -> float:
        """Share of the encoder's parameters that come from the file, 0 to 1."""
        filled = self.loaded.parameters + self.adapted.parameters
        return filled / max(filled + self.fresh.parameters, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {**asdict(self), "unused_names": list(self.unused_names)}

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
            f"  {self.share:.1%} of the encoder comes from the file; "
            f"outside the encoder, fresh: {self.outside_encoder}",
        ]
        return "\n".join(lines)


class TransferError(UserError):
    """Nothing, or too little, of a weights file fits the network; the network is untouched."""

    def __init__(self, message: str, report: TransferReport) -> None:
        """Keep what would have become of the tensors."""
        super().__init__(message)
        self.report = report


def find_encoder(network: nn.Module) -> nn.Module:
    """Return the encoder of a segmentation network, or the network itself if it is one.

    Wrappers of torch.compile and DistributedDataParallel are looked through.
    """
    for wrapper in ("module", "_orig_mod"):
        inner = getattr(network, wrapper, None)
        if isinstance(inner, nn.Module):
            return find_encoder(inner)
    for attribute in ("swinViT", "encoder"):
        inner = getattr(network, attribute, None)
        if isinstance(inner, nn.Module):
            return inner
    return network


def transfer_encoder(network: nn.Module, weights: EncoderWeights) -> TransferReport:
    """Copy pre-trained weights into the encoder of a network, adapting what differs.

    The stem takes another number of channels (the file's kernels are summed over theirs and
    shared out evenly, so that n equal channels give the file's response); a kernel that the
    network has flattened along an axis gets the sum over that axis, one that it has widened gets
    the file's in its centre; stages that only one side has are fresh or unused.

    Args:
        network: an encoder, or a network that holds one as `swinViT` or `encoder`.
        weights: from `load_weights`.

    Returns:
        What became of every tensor.

    Raises:
        TransferError: less than half of the encoder's parameters would come from the file, or
            the file's encoder computes something else. The network is untouched then.
    """
    report, values = _plan(network, weights)
    targets = encoder_tensors(find_encoder(network))
    with torch.no_grad():
        for name, value in values.items():
            targets[name].copy_(value)
    return report


def preview_transfer(network: nn.Module, weights: EncoderWeights) -> TransferReport:
    """Return what `transfer_encoder` would, and leave the network as it is.

    Args:
        network: as there; its parameters may be on the meta device.
        weights: from `load_weights`.

    Raises:
        TransferError: as there.
    """
    return _plan(network, weights)[0]


def _plan(network: nn.Module, weights: EncoderWeights) -> tuple[TransferReport, dict[str, Tensor]]:
    """The report, and the value of each tensor that gets one."""
    encoder = find_encoder(network)
    targets = encoder_tensors(encoder)
    family = family_of(weights.info.spec)
    values, adaptations, reasons = _match(targets, weights.tensors, stem=family.stem_weight)
    report = _report(network, weights, targets, adaptations, reasons)
    misfit = family.misfit(fresh=report.fresh_reasons, unused=report.unused_names)
    if report.share < MINIMUM_SHARE:
        message = _explain_mismatch(report, encoder, misfit if report.share else None)
        raise TransferError(message, report)
    if misfit:
        raise TransferError(f"{report.path}: {misfit}", report)
    return report, values


def _match(
    targets: Mapping[str, Tensor], sources: Mapping[str, Tensor], *, stem: str
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """Find a value for each target: (values, how some were adapted, why the others have none)."""
    values: dict[str, Tensor] = {}
    adaptations: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for name, target in targets.items():
        if name not in sources:
            reasons[name] = "not in the file"
            continue
        value, how = _fit(sources[name], target.shape, is_stem=name == stem)
        if value is None:
            reasons[name] = f"shape {_times(target.shape)}, in the file {how}"
            continue
        values[name] = value
        if how:
            adaptations[name] = how
    return values, adaptations, reasons


def _fit(source: Tensor, shape: torch.Size, *, is_stem: bool) -> tuple[Tensor | None, str]:
    """Fit a tensor to a shape: (value, how), how empty where equal; (None, its shape) if not."""
    if source.shape == shape:
        return source, ""
    can_adapt = source.ndim == len(shape) == 5 and source.shape[0] == shape[0]
    if not can_adapt or (source.shape[1] != shape[1] and not is_stem):
        return None, _times(source.shape)
    steps = []
    value = source
    if value.shape[1] != shape[1]:
        steps.append(f"{value.shape[1]} -> {shape[1]} input channels")
        value = value.sum(dim=1, keepdim=True).repeat(1, shape[1], 1, 1, 1) / shape[1]
    if value.shape != shape:
        fitted = _fit_kernel(value, shape)
        if fitted is None:
            return None, _times(source.shape)
        steps.append(f"kernel {_times(value.shape[2:])} -> {_times(shape[2:])}")
        value = fitted
    return value, ", ".join(steps)


def _fit_kernel(value: Tensor, shape: torch.Size) -> Tensor | None:
    """Sum over axes of size 1 in `shape`, centre in wider ones; None where neither applies."""
    for axis in (2, 3, 4):
        size, wanted = value.shape[axis], shape[axis]
        if size == wanted:
            continue
        if wanted == 1:
            value = value.sum(dim=axis, keepdim=True)
        elif size == 1 and wanted % 2 == 1:
            margins = [0] * 10
            margins[2 * (4 - axis)] = margins[2 * (4 - axis) + 1] = wanted // 2
            value = functional.pad(value, margins)
        else:
            return None
    return value


def _report(
    network: nn.Module,
    weights: EncoderWeights,
    targets: Mapping[str, Tensor],
    adaptations: dict[str, str],
    reasons: dict[str, str],
) -> TransferReport:
    filled = {name: t for name, t in targets.items() if name not in reasons}
    unused = {name: t for name, t in weights.tensors.items() if name not in filled}
    inside = {id(tensor) for tensor in targets.values()}
    outside = {name: t for name, t in encoder_tensors(network).items() if id(t) not in inside}
    return TransferReport(
        path=str(weights.path),
        sha256=weights.sha256,
        architecture=weights.info.spec.name,
        source=weights.info.source,
        loaded=Count.of({n: t for n, t in filled.items() if n not in adaptations}),
        adapted=Count.of({n: t for n, t in filled.items() if n in adaptations}),
        fresh=Count.of({n: targets[n] for n in reasons}),
        unused=Count.of(unused),
        outside_encoder=Count.of(outside),
        adaptations=adaptations,
        fresh_reasons=reasons,
        unused_names=tuple(unused),
    )


def _explain_mismatch(report: TransferReport, encoder: nn.Module, misfit: str | None) -> str:
    name, reason = next(iter(report.fresh_reasons.items()), ("its tensors", "none at all"))
    return (
        f"{report.path}: expected weights for at least {MINIMUM_SHARE:.0%} of the network's "
        f"encoder ({type(encoder).__name__}), got {report.architecture}, which fits "
        f"{report.share:.0%} of it (first misfit: {name}: {reason}); "
        f"{misfit or 'choose the trainer or the file of the same architecture'}"
    )


def _times(shape: torch.Size) -> str:
    return "x".join(str(size) for size in shape)
