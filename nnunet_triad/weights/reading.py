"""Weights files and other projects' checkpoints of the same encoders, recognised by content."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunet_triad.architectures import EncoderSpec, family_of
from nnunet_triad.architectures.families import FAMILIES, read_spec
from nnunet_triad.architectures.family import CONVENTIONS
from nnunet_triad.errors import UserError
from nnunet_triad.files import sha256
from nnunet_triad.weights.checkpoint import Checkpoint, read_checkpoint
from nnunet_triad.weights.file import EncoderWeights, WeightsInfo, read_info
from nnunet_triad.weights.origins import (
    MASKED_ZSCORE,
    ZSCORE,
    Content,
    FileKind,
    file_kinds,
    find_origin,
    recognise,
    strip_prefixes,
    trainer_words,
)
from nnunet_triad.weights.unsupported import what_is_held

AXES_KEY = "triad_axes"  # in nnU-Net's init_args: of the arrays that this project's trainers saw
_UNKNOWN = "unknown"
_NUM_NAMES_IN_ERRORS = 5


def read_weights(path: Path, *, key: str | None = None) -> EncoderWeights:
    """Read the encoder out of a file of this project or another one's, without running its code.

    Args:
        path: a safetensors file, or a PyTorch checkpoint.
        key: of the state dict that is wanted, where the file has several; see `read_checkpoint`.

    Raises:
        UserError: it is truncated, would execute code, has no such key, holds values that are not
            finite, or no row of `origins.ORIGINS` fits.
    """
    held = read_checkpoint(path, key=key)
    info, tensors = read_info(path, held.beside), held.tensors
    cautions: tuple[str, ...] = ()
    if info is None:
        info, tensors, cautions = _read_foreign(path, held)
    _check_finite(path, tensors)
    origin = find_origin(info.source)
    outside = {n: t for n, t in tensors.items() if origin and n.startswith(origin.outside)}
    return EncoderWeights(
        path=path,
        sha256=sha256(path),
        info=info,
        tensors={name: tensor for name, tensor in tensors.items() if name not in outside},
        outside=outside,
        cautions=cautions,
    )


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    bad = {name: tensor for name, tensor in tensors.items() if not _is_finite(tensor)}
    if not bad:
        return
    count = sum(int((~torch.isfinite(tensor)).sum()) for tensor in bad.values())
    others = len(bad) - _NUM_NAMES_IN_ERRORS
    more = f" and {others} more" if others > 0 else ""
    raise UserError(
        f"{path}: expected finite values, got {count:,} that are NaN or infinite, in "
        f"{', '.join(list(bad)[:_NUM_NAMES_IN_ERRORS])}{more}; the training that wrote it had "
        "diverged: take an earlier checkpoint"
    )


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor))


def _read_foreign(
    path: Path, held: Checkpoint
) -> tuple[WeightsInfo, Mapping[str, Tensor], tuple[str, ...]]:
    names = {strip_prefixes(name): tensor for name, tensor in held.tensors.items()}
    found = recognise(Content(keys=frozenset(held.beside), tensors=names))
    if found is None:
        raise _no_row(path, held)
    origin, kind = found
    assumes = kind.assumes or origin.assumes
    renamed = {kind.rename(name): tensor for name, tensor in names.items()}
    tensors = _find_encoder(renamed, kind)
    plan = _read_plan(path, held.beside)
    conventions = tensors.pop(CONVENTIONS, None)
    spec = read_spec(tensors, plan.arguments)
    if spec is None:
        raise _no_row(path, held, kind)
    adopted = family_of(spec).adopt(spec, tensors, plan.arguments)
    axes = plan.axes or assumes.axes
    is_own = any(plan.trainer_name.startswith(f"nnUNetTrainer{word}") for word in trainer_words())
    merging = "new" if is_own else assumes.merging  # ours have always asked for MONAI 1.5 or newer
    spec = family_of(spec).assume(spec, merging=merging)
    if conventions is not None:
        spec, order = _read_conventions(path, spec, conventions)
        axes = "".join(axes[axis] for axis in order) if axes else None
    info = WeightsInfo(
        axes=axes,
        spec=spec,
        input_channels=adopted[family_of(spec).stem_weight].shape[1],
        patch_size=plan.patch_size,
        spacing_mm=plan.spacing_mm or assumes.spacing_mm,
        intensity_normalization=plan.normalization or assumes.intensity or _UNKNOWN,
        source=origin.name,
        data_summary=f"read from {path.name}: {kind.title}{_which(held)}",
        package_version="",
        licence=origin.licence if kind.licence is None else kind.licence,
        citation=plan.citation or origin.citation,
    )
    outside = {n: t for n, t in renamed.items() if n.startswith(origin.outside)}
    return info, {**adopted, **outside}, tuple(_cautions(plan))


def _cautions(plan: "_Plan") -> Iterator[str]:
    """Say what the plan leaves open, and what of it the networks here do otherwise."""
    if plan.has_assumed_axes:
        yield (
            f"axes {plan.axes} are assumed: the checkpoint does not say how the images lay in "
            "which it was trained, and axial ones are the most usual"
        )
    for part, stated in plan.layers():
        yield (
            f"its network has {stated} as {part}, those here nnU-Net's default: features differ; "
            "fine-tuning has to make up for it"
        )


def _read_conventions(
    path: Path, spec: EncoderSpec, values: Tensor
) -> tuple[EncoderSpec, tuple[int, int, int]]:
    try:
        return family_of(spec).read_conventions(spec, values)
    except ValueError as error:
        raise UserError(
            f"{path}: {error}; it is damaged, or of a newer version of this package"
        ) from error


def _which(held: Checkpoint) -> str:
    """Say which of several state dicts was read."""
    if not held.key or not (held.other_keys or held.is_averaged):
        return ""
    what = "the moving average" if held.is_averaged else "the state dict"
    others = f"; others by --key: {', '.join(held.other_keys)}" if held.other_keys else ""
    return f", {what} {held.key}{others}"


def _find_encoder(tensors: Mapping[str, Tensor], kind: FileKind) -> dict[str, Tensor]:
    """The first place of the kind that holds any tensor; names that are second ones left out."""
    for prefix in kind.encoders:
        found = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
            and (tensor.is_floating_point() or name == prefix + CONVENTIONS)
            and ".all_modules." not in name
        }
        if found:
            return {n: t for n, t in found.items() if n == CONVENTIONS or _is_encoders(n)}
    return {}


def _is_encoders(name: str) -> bool:
    return any(name.startswith(family.tensor_prefixes) for family in FAMILIES.values())


def _no_row(path: Path, held: Checkpoint, kind: FileKind | None = None) -> UserError:
    """Say what the file is, where that is known, else which names it has and which would do."""
    names = {strip_prefixes(name): tensor for name, tensor in held.tensors.items()}
    if other := what_is_held(names):
        return UserError(
            f"{path}: expected an encoder that is known, got {other.title}, which is not "
            f"supported: {other.why}; {other.advice}"
        )
    first = ", ".join(list(held.tensors)[:_NUM_NAMES_IN_ERRORS]) or "no tensor at all"
    looks = f" in a file that looks like {kind.title}" if kind else ""
    keys = f"; other state dicts of the file, by --key: {', '.join(held.other_keys)}"
    return UserError(
        f"{path}: expected an encoder that is known, got the names {first}{looks}; what would "
        f"match: {'; '.join(kind.title for kind in file_kinds())}{keys if held.other_keys else ''}"
    )


def _read_plan(path: Path, beside: Mapping[str, Any]) -> "_Plan":
    try:
        return _Plan.of(beside)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: expected the plan beside the weights as nnU-Net or nnssl writes it, got one "
            f"without {error}; save the checkpoint again with that project"
        ) from error


# In nnU-Net's plans: the layers' key, their class, and what decides what they compute.
_DEFAULT_LAYERS: Mapping[str, tuple[str, str, Mapping[str, float]]] = {
    "non-linearity": ("nonlin", "LeakyReLU", {"negative_slope": 0.01}),
    "norm": ("norm_op", "InstanceNorm3d", {"eps": 1e-5}),
}


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What nnU-Net's or nnssl's plan, kept in the checkpoint, says of the pre-training."""

    # of the network, and `trainer_name`
    arguments: Mapping[str, Any] = field(default_factory=dict)
    patch_size: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    normalization: str = ""
    citation: str = ""
    axes: str | None = None
    has_assumed_axes: bool = False

    @property
    def trainer_name(self) -> str:
        """The class that trained it; empty where that is not said."""
        return str(self.arguments.get("trainer_name", ""))

    def layers(self) -> Iterator[tuple[str, str]]:
        """Yield each part of the network that the plan has otherwise than nnU-Net's default."""
        for part, (key, default, values) in _DEFAULT_LAYERS.items():
            name = str(self.arguments.get(key) or default).rpartition(".")[2]
            stated = self.arguments.get(f"{key}_kwargs") or {}
            other = [
                f"{word} {stated[word]}"
                for word in values
                if stated.get(word, values[word]) != values[word]
            ]
            if name != default or other:
                yield part, f"{name} ({', '.join(other)})" if other else name

    @classmethod
    def of(cls, beside: Mapping[str, Any]) -> "_Plan":
        axes, is_assumed = None, False
        if isinstance(plan := beside.get("nnssl_adaptation_plan"), Mapping):
            configuration: Any = next(iter(plan["pretrain_plan"]["configurations"].values()), {})
            arguments = plan["architecture_plans"].get("arch_kwargs")
        elif isinstance(init_args := beside.get("init_args"), Mapping):
            configurations = init_args["plans"]["configurations"]
            configuration = _inherited(configurations, init_args.get("configuration"))
            arguments = _network_arguments(configuration)
            axes, is_assumed = init_args.get(AXES_KEY), AXES_KEY not in init_args
            axes = axes or _axes(init_args["plans"])
        else:
            return cls()
        return cls(
            arguments={**(arguments or {}), "trainer_name": beside.get("trainer_name", "")},
            patch_size=_triple(configuration.get("patch_size"), int),
            spacing_mm=_triple(configuration.get("spacing"), float),
            normalization=_normalization(configuration),
            citation=_citation(beside.get("citations") or ()),
            axes=axes,
            has_assumed_axes=is_assumed,
        )


def _normalization(configuration: Mapping[str, Any]) -> str:
    """nnU-Net's z-scores, where all channels have them, within its mask or not."""
    masks = configuration.get("use_mask_for_norm") or (False,)
    if set(configuration.get("normalization_schemes") or ()) != {"ZScoreNormalization"}:
        return ""
    return MASKED_ZSCORE if all(masks) else "" if any(masks) else ZSCORE


def _inherited(configurations: Mapping[str, Any], name: Any) -> Mapping[str, Any]:
    """Return a configuration with what it takes over from others, as a cascade's does."""
    found: dict[str, Any] = {}
    seen: set[Any] = set()
    while name in configurations and name not in seen:
        seen.add(name)
        found = {**configurations[name], **found}
        name = found.pop("inherits_from", None)
    return found


def _network_arguments(configuration: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return `arch_kwargs`; from plans of before nnU-Net 2.4 what its networks are built from."""
    if "architecture" in configuration:
        arguments: Mapping[str, Any] | None = configuration["architecture"].get("arch_kwargs")
        return arguments
    if "pool_op_kernel_sizes" in configuration:
        return {
            "strides": configuration["pool_op_kernel_sizes"],
            "kernel_sizes": configuration["conv_kernel_sizes"],
        }
    return None


def _triple(values: Any, kind: type) -> Any:
    return tuple(map(kind, values)) if values is not None and len(values) == 3 else None


def _axes(plans: Mapping[str, Any]) -> str:
    """nnU-Net's readers give z y x of an axial image; the plan may transpose them."""
    return "".join("zyx"[axis] for axis in plans.get("transpose_forward") or (0, 1, 2))


def _citation(entries: Any) -> str:
    """nnssl's list of {type, name, apa_citations}: what its authors ask to cite."""
    papers = [
        paper
        for entry in entries
        if isinstance(entry, Mapping)
        for paper in entry.get("apa_citations") or entry.get("bibtex_citations") or ()
    ]
    return "; ".join(map(str, papers))
