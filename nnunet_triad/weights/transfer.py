"""Transfer of encoder weights into a network, whose channels, kernels or depth may differ."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_triad.architectures import Family, family_of
from nnunet_triad.architectures.spec import Triple
from nnunet_triad.images.intensity import Intensity, Scale, Statistics, affine_map
from nnunet_triad.images.orientation import order_of_axes
from nnunet_triad.weights.file import EncoderWeights, encoder_tensors
from nnunet_triad.weights.report import Count, TransferError, TransferReport

MINIMUM_SHARE = 0.5  # of the network's encoder parameters that a transfer must fill
_AS_IT_IS: Triple = (0, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a network is shown here, which may differ from what its weights were trained on.

    Attributes:
        axes: the patient axis that each axis of its arrays runs along, such as zyx.
        about_axes: where that is known from, for the report.
        intensity: the scale of each image's channel; empty: not compared with the weights'.
            Channels of the network beyond these are labels, of a cascade's stage before.
        statistics: of each channel's values; empty: not known.
        maps_intensity: whether another scale is made good where an affine map does it.
    """

    axes: str = "xyz"
    about_axes: str = ""
    intensity: tuple[Intensity, ...] = ()
    statistics: tuple[Statistics, ...] = ()
    maps_intensity: bool = True


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


def transfer_encoder(
    network: nn.Module,
    weights: EncoderWeights,
    shown: Shown = Shown(),  # frozen
    *,
    fills_outside: bool = False,
) -> TransferReport:
    """Copy pre-trained weights into the encoder of a network, adapting what differs.

    The encoder then computes of an image what it computed in the publisher's network. Axes in
    another order are made good exactly, by permuted kernels or a permuted image. The patch merging
    is the publisher's. Another scale of intensities is folded into the first layer, where an
    affine map leads to it.

    The stem takes another number of channels (the file's kernels are summed over theirs and
    shared out evenly, so that n equal channels give the file's response; labels of a cascade's
    stage before get zeros); a kernel that the
    network has flattened along an axis gets the sum over that axis, one that it has widened gets
    the file's in its centre; stages that only one side has are fresh or unused.

    Args:
        network: an encoder, or a network that holds one as `swinViT` or `encoder`.
        weights: from `load_weights`.
        shown: what the network is shown here.
        fills_outside: also fill what the file holds beside its encoder (VoCo's blocks).

    Returns:
        What became of every tensor.

    Raises:
        TransferError: less than half of the encoder's parameters would come from the file, or
            the file's encoder computes something else. The network is untouched then.
    """
    transfer = _Transfer.plan(network, weights, shown, fills_outside=fills_outside)
    with torch.no_grad():
        for name, value in transfer.values.items():
            transfer.targets[name].copy_(value)
    spec = weights.info.spec
    family_of(spec).compute_as(find_encoder(network), spec, transfer.order)
    return transfer.report


def preview_transfer(
    network: nn.Module,
    weights: EncoderWeights,
    shown: Shown = Shown(),  # frozen
    *,
    fills_outside: bool = False,
) -> TransferReport:
    """Return what `transfer_encoder` would, and leave the network as it is.

    Args:
        network: as there; its parameters may be on the meta device.
        weights: from `load_weights`.
        shown: as there.
        fills_outside: as there.

    Raises:
        TransferError: as there.
    """
    return _Transfer.plan(network, weights, shown, fills_outside=fills_outside).report


@dataclass(frozen=True, kw_only=True)
class _Transfer:
    """What is to be done, and what it will come to."""

    targets: dict[str, Tensor]
    values: dict[str, Tensor]
    order: Triple  # axis j of what the weights see is axis order[j] of the image here
    report: TransferReport

    @classmethod
    def plan(
        cls, network: nn.Module, weights: EncoderWeights, shown: Shown, *, fills_outside: bool
    ) -> "_Transfer":
        info = weights.info
        family: Family[Any] = family_of(info.spec)
        encoder = encoder_tensors(find_encoder(network))
        inside = {id(tensor) for tensor in encoder.values()}
        around = {n: t for n, t in encoder_tensors(network).items() if id(t) not in inside}
        seen = info.axes or shown.axes
        order, back = order_of_axes(seen, shown.axes), order_of_axes(shown.axes, seen)

        tensors = weights.tensors
        if order != _AS_IT_IS and family.can_permute_axes:
            tensors = family.permute_axes(info.spec, tensors, back)
        num_images = len(shown.intensity) or None
        matched = _match(encoder, tensors, stems=(family.stem_weight,), num_images=num_images)
        extra = {n: _permute(t, back) for n, t in weights.outside.items() if n in around}
        wanted = {n: around[n] for n in extra} if fills_outside else {}
        # what takes the image beside the encoder (VoCo's encoder1) is told by its channels
        channels = encoder[family.stem_weight].shape[1] if wanted else 0
        stems = [n for n, t in wanted.items() if t.ndim == 5 and t.shape[1] == channels]
        blocks = _match(wanted, extra, stems=stems, num_images=num_images)
        stem = encoder.get(family.stem_weight)  # None: of another family
        scale = _match_intensity(matched.values, info.intensity_normalization, shown, family)
        matched.adaptations.update(
            {
                n: ", ".join(filter(None, (matched.adaptations.get(n), scale.how)))
                for n in scale.values
            }
        )
        filled = {n: t for n, t in encoder.items() if n in matched.values}
        unused = {n: t for n, t in tensors.items() if n not in filled}
        report = TransferReport(
            path=str(weights.path),
            sha256=weights.sha256,
            architecture=info.spec.name,
            source=info.source,
            loaded=Count.of({n: t for n, t in filled.items() if n not in matched.adaptations}),
            adapted=Count.of({n: t for n, t in filled.items() if n in matched.adaptations}),
            fresh=Count.of({n: encoder[n] for n in matched.reasons}),
            unused=Count.of(unused),
            outside_encoder=Count.of({n: t for n, t in around.items() if n not in blocks.values}),
            adaptations=matched.adaptations,
            fresh_reasons=matched.reasons,
            unused_names=tuple(unused),
            file_parameters=weights.num_parameters,
            loaded_outside=Count.of(blocks.values),
            axes=_axes_in_words(info.axes, shown, family),
            merging=_merging_in_words(info.spec),
            intensity=scale.text,
            cautions=(
                *weights.cautions,
                *_cautions(weights, shown, num_channels=0 if stem is None else stem.shape[1]),
                *scale.cautions,
            ),
        )
        _check(report, find_encoder(network), family, info.spec)
        return cls(
            targets={**around, **encoder},
            values={**matched.values, **scale.values, **blocks.values},
            order=order,
            report=report,
        )


@dataclass(frozen=True, kw_only=True)
class _Matched:
    """A value for each target that gets one, how some were adapted, why others have none."""

    values: dict[str, Tensor]
    adaptations: dict[str, str]
    reasons: dict[str, str]


def _match(
    targets: Mapping[str, Tensor],
    sources: Mapping[str, Tensor],
    *,
    stems: Collection[str],
    num_images: int | None,
) -> _Matched:
    matched = _Matched(values={}, adaptations={}, reasons={})
    for name, target in targets.items():
        if name not in sources:
            matched.reasons[name] = "not in the file"
            continue
        images = (num_images or target.shape[1]) if name in stems else None
        value, how = _fit(sources[name], target.shape, num_images=images)
        if value is None:
            matched.reasons[name] = f"shape {_times(target.shape)}, in the file {how}"
            continue
        matched.values[name] = value
        if how:
            matched.adaptations[name] = how
    return matched


def _fit(source: Tensor, shape: torch.Size, *, num_images: int | None) -> tuple[Tensor | None, str]:
    """Fit a tensor to a shape: (value, how), how empty where equal; (None, its shape) if not.

    A stem has `num_images` channels of images, and perhaps labels behind them; others have None.
    """
    num_labels = 0 if num_images is None else shape[1] - num_images
    if source.shape == shape and not num_labels:
        return source, ""
    can_adapt = source.ndim == len(shape) == 5 and source.shape[0] == shape[0]
    if not can_adapt or (source.shape[1] != shape[1] and num_images is None):
        return None, _times(source.shape)
    steps = []
    value = source
    if num_images is not None and value.shape[1] != num_images:
        steps.append(f"{value.shape[1]} -> {num_images} input channels")
        value = value.sum(dim=1, keepdim=True).repeat(1, num_images, 1, 1, 1) / num_images
    if num_labels:
        steps.append(f"zeros for {num_labels} channels of the stage before")
        value = functional.pad(value, (*(0,) * 7, num_labels))
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


def _permute(tensor: Tensor, order: Triple) -> Tensor:
    i, j, k = (axis + 2 for axis in order)
    return tensor.permute(0, 1, i, j, k) if tensor.ndim == 5 else tensor


@dataclass(frozen=True, kw_only=True)
class _Scaled:
    """A first layer for the intensities here, and what it means."""

    values: dict[str, Tensor]
    how: str = ""
    text: str = ""
    cautions: tuple[str, ...] = ()


def _match_intensity(
    values: Mapping[str, Tensor], normalization: str, shown: Shown, family: Family[Any]
) -> _Scaled:
    """Fold the map from the scale here to the weights' into the first layer.

    k (a v + b) + c = (a k) v + (c + b sum of k), a channel at a time. Behind the border an image
    is padded with zeros, which are other values on either scale.
    """
    wanted = Intensity.parse(normalization)
    if not shown.intensity:
        return _Scaled(values={})
    here = ", ".join(dict.fromkeys(map(str, shown.intensity)))
    if wanted.scale is Scale.UNKNOWN:
        return _Scaled(values={}, text=f"{here} here; the weights' scale is not known")
    statistics = shown.statistics or (None,) * len(shown.intensity)
    maps = [
        affine_map(wanted, scale, found)
        for scale, found in zip(shown.intensity, statistics, strict=True)
    ]
    known = [found for found in maps if found is not None]
    if len(known) < len(maps):
        caution = (
            f"the weights saw {wanted}, the network is shown {here}, and no map from one to the "
            "other is known: the first layer stays as it is"
        )
        return _Scaled(values={}, text=f"{here} here, {wanted} there", cautions=(caution,))
    if all(found == (1.0, 0.0) for found in known):
        return _Scaled(values={}, text=f"{here}, as the weights saw it")
    weight, bias = family.stem_weight, family.stem_weight.removesuffix("weight") + "bias"
    if not shown.maps_intensity or weight not in values or bias not in values:
        caution = f"the weights saw {wanted}, the network is shown {here}; that is not made good"
        return _Scaled(values={}, text=f"{here} here, {wanted} there", cautions=(caution,))
    kernel, offset = values[weight].clone(), values[bias].clone()
    for channel, (slope, intercept) in enumerate(known):
        offset += intercept * kernel[:, channel].flatten(1).sum(dim=1)
        kernel[:, channel] *= slope
    outside = any(scale.scale is Scale.MASKED_ZSCORE for scale in shown.intensity)
    numbers = "; ".join(f"x {slope:.3g} {intercept:+.3g}" for slope, intercept in known)
    return _Scaled(
        values={weight: kernel, bias: offset},
        how=f"intensity {here} to {wanted}",
        text=f"{here} here, made {wanted} by the first layer ({numbers})",
        cautions=(_OUTSIDE,) if outside else (),
    )


# nnU-Net's `use_mask_for_norm`
_OUTSIDE = (
    "outside of nnU-Net's mask (where images are zero) the network is shown the mean of what is "
    "inside, the weights saw the background's own value: no map of the intensities makes that good"
)


def _axes_in_words(seen: str | None, shown: Shown, family: Family[Any]) -> str:
    means = "kernels" if family.can_permute_axes else "the image on its way in"
    if seen is None:
        text = f"{shown.axes} here"
    elif seen == shown.axes:
        text = f"{shown.axes}, as the weights saw them"
    else:
        text = f"{shown.axes} here, {seen} there: exact, by permuting {means}"
    return f"{text} ({shown.about_axes})" if shown.about_axes else text


def _merging_in_words(spec: Any) -> str:
    texts = {"old": "as MONAI before 1.5.0", "new": "as MONAI since 1.5.0"}
    return texts.get(getattr(spec, "merging", None) or "", "")


def _cautions(weights: EncoderWeights, shown: Shown, *, num_channels: int) -> tuple[str, ...]:
    cautions = []
    if weights.info.axes is None:
        cautions.append(
            f"which axes the weights saw is not known: taken for those here, {shown.axes}"
        )
    if getattr(weights.info.spec, "merging", "") is None:
        cautions.append(
            "which patch merging the weights were trained with is not known: taken for that of "
            "MONAI since 1.5.0; if it was an earlier one, state it: triad-weights convert FILE "
            "NAME.safetensors --merging old"
        )
    if 1 < weights.info.input_channels == num_channels:
        cautions.append(
            f"the file does not say which images its {num_channels} input channels were: they are "
            "taken for those here, in this order"
        )
    return tuple(cautions)


def _check(report: TransferReport, encoder: nn.Module, family: Family[Any], found: Any) -> None:
    """Refuse what would not compute the same."""
    wanted = family.read_spec(encoder_tensors(encoder), {})
    disagreement = wanted and family.disagreement(found, wanted)
    if report.share < MINIMUM_SHARE or disagreement:
        raise TransferError(_explain_mismatch(report, encoder, disagreement), report)


def _explain_mismatch(report: TransferReport, encoder: nn.Module, disagreement: str | None) -> str:
    if disagreement:
        return (
            f"{report.path}: {disagreement} in the file, which would compute something else; "
            "choose the trainer, the plan or the file of the same architecture"
        )
    name, reason = next(iter(report.fresh_reasons.items()), ("its tensors", "none at all"))
    return (
        f"{report.path}: expected weights for at least {MINIMUM_SHARE:.0%} of the network's "
        f"encoder ({type(encoder).__name__}), got {report.architecture}, which fits "
        f"{report.share:.0%} of it (first misfit: {name}: {reason}); choose the trainer or the "
        "file of the same architecture"
    )


def _times(shape: torch.Size) -> str:
    return "x".join(str(size) for size in shape)
