"""The architecture of an encoder, read off its tensors and off the plan beside them."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nnunet_triad.architectures import (
    ENCODERS,
    EncoderSpec,
    plainconv_spec,
    resenc_spec,
    swin_spec,
)
from nnunet_triad.architectures.spec import Triple


def infer_spec(
    tensors: Mapping[str, Tensor], strides: tuple[Triple, ...] | None = None
) -> EncoderSpec | None:
    """Return the architecture, None where the names are of no known encoder.

    Args:
        tensors: of the encoder alone, by this project's names.
        strides: a stage, from a plan; they leave no trace in the tensors. Without: 1, 2, 2, ...
    """
    spec: EncoderSpec | None
    if "patch_embed.proj.weight" in tensors:
        spec = _infer_swin(tensors)
    elif "stem.convs.0.conv.weight" in tensors:
        spec = _infer_resenc(tensors, strides)
    elif "stages.0.0.convs.0.conv.weight" in tensors:
        spec = _infer_plainconv(tensors, strides)
    else:
        return None
    if spec is None:
        return None
    known = (name for name, other in ENCODERS.items() if _is_same(spec, other))
    return ENCODERS.get(next(known, ""), spec)


def planned_strides(arch_kwargs: Mapping[str, Any] | None) -> tuple[Triple, ...] | None:
    """Return the strides of an architecture as nnU-Net and nnssl write it, None where unstated."""
    if not arch_kwargs or "strides" not in arch_kwargs:
        return None
    strides = [[s] * 3 if isinstance(s, int) else list(s) for s in arch_kwargs["strides"]]
    if any(len(stride) != 3 for stride in strides):
        return None
    return tuple((int(x), int(y), int(z)) for x, y, z in strides)


def _is_same(one: EncoderSpec, other: EncoderSpec) -> bool:
    return {**one.to_dict(), "name": ""} == {**other.to_dict(), "name": ""}


def _infer_swin(tensors: Mapping[str, Tensor]) -> EncoderSpec | None:
    tables = {
        tuple(int(part) for part in match.groups()): tensor
        for name, tensor in tensors.items()
        if (match := re.fullmatch(r"layers(\d)\.0\.blocks\.(\d+)\..*bias_table", name))
    }
    levels = sorted({level for level, _ in tables})
    if not levels or any((level, 0) not in tables for level in levels):
        return None
    rows, _ = tables[levels[0], 0].shape
    return swin_spec(
        "swin",
        tensors["patch_embed.proj.weight"].shape[0],
        depths=tuple(sum(level == other for other, _ in tables) for level in levels),
        num_heads=tuple(tables[level, 0].shape[1] for level in levels),
        window_size=(round(rows ** (1 / 3)) + 1) // 2,
        use_v2=any(name.startswith("layers1c.") for name in tensors),
    )


def _infer_plainconv(
    tensors: Mapping[str, Tensor], strides: tuple[Triple, ...] | None
) -> EncoderSpec | None:
    weights = _stage_weights(tensors, "stages.{}.0.convs.0.conv.weight")
    if weights is None:
        return None
    convs = {n.split(".")[4] for n in tensors if n.startswith("stages.0.0.convs.")}
    return plainconv_spec(
        "plainconv",
        tuple(weight.shape[0] for weight in weights),
        strides=_fitting(strides, len(weights)),
        kernel_sizes=_kernels(weights),
        convs_per_stage=len(convs),
    )


def _infer_resenc(
    tensors: Mapping[str, Tensor], strides: tuple[Triple, ...] | None
) -> EncoderSpec | None:
    weights = _stage_weights(tensors, "stages.{}.blocks.0.conv1.conv.weight")
    if weights is None:
        return None
    blocks = [
        {name.split(".")[3] for name in tensors if name.startswith(f"stages.{stage}.blocks.")}
        for stage in range(len(weights))
    ]
    return resenc_spec(
        "resenc",
        tuple(weight.shape[0] for weight in weights),
        blocks_per_stage=tuple(map(len, blocks)),
        strides=_fitting(strides, len(weights)),
        kernel_sizes=_kernels(weights),
    )


def _stage_weights(tensors: Mapping[str, Tensor], pattern: str) -> list[Tensor] | None:
    """The first 3D kernel of each stage, None where one is missing or not 3D."""
    stages = [int(name.split(".")[1]) for name in tensors if re.match(r"stages\.\d+\.", name)]
    weights = [tensors.get(pattern.format(stage)) for stage in range(1 + max(stages, default=-1))]
    found = [weight for weight in weights if weight is not None and weight.ndim == 5]
    return found if found and len(found) == len(weights) else None


def _kernels(weights: list[Tensor]) -> tuple[Triple, ...]:
    return tuple((w.shape[2], w.shape[3], w.shape[4]) for w in weights)


def _fitting(strides: tuple[Triple, ...] | None, num_stages: int) -> tuple[Triple, ...] | None:
    return strides if strides is not None and len(strides) == num_stages else None
