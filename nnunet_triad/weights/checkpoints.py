"""Other projects' PyTorch checkpoints of the same encoders, recognised by content."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunet_triad.architectures import ENCODERS, EncoderSpec, plainconv_spec, swin_spec
from nnunet_triad.errors import UserError
from nnunet_triad.files import sha256
from nnunet_triad.weights.file import EncoderWeights, WeightsInfo

# Keys under which checkpoints hold the state dict, tried in turn.
_WRAPPERS = ("network_weights", "state_dict", "model", "net")
# Prefixes that wrappers of the network leave before every name.
_PREFIXES = ("module.", "backbone.", "network.", "_orig_mod.")
# What names of other projects become, in this order.
_RENAMINGS = ((r"^swin_vit\.", "swinViT."), (r"\.mlp\.fc(\d)\.", r".mlp.linear\1."))
# Where a segmentation network holds its encoder.
_ENCODERS = ("swinViT.", "encoder.")


def load_checkpoint(path: Path) -> EncoderWeights:
    """Read the encoder out of a PyTorch checkpoint, without running code from it.

    VoCo's `VoCo_{B,L,H}_SSL_head.pt`, `VoComni_*.pt` and MONAI's Swin UNETR V2 state dicts hold
    the encoder under `swinViT.`; nnU-Net's and VoCo's `VoComni_nnunet.pt` under `encoder.`.

    Raises:
        UserError: it is truncated, would execute code, or holds no encoder that is known.
    """
    tensors = _find_encoder(_read_tensors(path), path)
    spec = _infer_spec(tensors, path)
    stem = "patch_embed.proj.weight" if spec.family == "swin" else _plain_weight(0)
    info = WeightsInfo(
        spec=spec,
        input_channels=tensors[stem].shape[1],
        intensity_normalization="unknown",
        source="checkpoint",
        data_summary=f"read from {path.name}",
        package_version="",
        licence="see the project that published it",
        citation="see the project that published it",
    )
    return EncoderWeights(path=path, sha256=sha256(path), info=info, tensors=tensors)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError) as error:
        raise UserError(
            f"{path}: expected a checkpoint of tensors alone, got a pickle that needs code of its "
            "own to load, which is refused; ask its authors for a safetensors file"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected a whole PyTorch checkpoint, got one that cannot be read "
            f"({str(error).splitlines()[0][:120] if str(error) else 'it ends early'}); "
            "copy or download it again"
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected a state dict, got {type(content).__name__}")
    named = {_rename(str(name)): value for name, value in content.items()}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def _rename(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    for pattern, replacement in _RENAMINGS:
        name = re.sub(pattern, replacement, name)
    return name


def _find_encoder(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    for prefix in _ENCODERS:
        found = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
            and tensor.is_floating_point()
            and ".all_modules." not in name  # a second name of the same tensors
        }
        if found:
            return found
    raise UserError(
        f"{path}: expected an encoder under {' or '.join(_ENCODERS)}, "
        f"got the names {', '.join(list(tensors)[:5]) or '(no tensor at all)'}"
    )


def _infer_spec(tensors: Mapping[str, Tensor], path: Path) -> EncoderSpec:
    """Read the architecture off the tensors' shapes."""
    if "patch_embed.proj.weight" in tensors:
        spec = _infer_swin(tensors)
    elif _plain_weight(0) in tensors:
        spec = _infer_plainconv(tensors)
    else:
        raise UserError(
            f"{path}: expected a Swin or a plain convolutional encoder, "
            f"got the names {', '.join(list(tensors)[:5])}"
        )
    known = (name for name, other in ENCODERS.items() if _is_same(spec, other))
    return ENCODERS.get(next(known, ""), spec)


def _is_same(one: EncoderSpec, other: EncoderSpec) -> bool:
    return {**one.to_dict(), "name": ""} == {**other.to_dict(), "name": ""}


def _infer_swin(tensors: Mapping[str, Tensor]) -> EncoderSpec:
    tables = {
        tuple(int(part) for part in match.groups()): tensor
        for name, tensor in tensors.items()
        if (match := re.fullmatch(r"layers(\d)\.0\.blocks\.(\d+)\..*bias_table", name))
    }
    levels = sorted({level for level, _ in tables})
    rows, _ = tables[levels[0], 0].shape
    return swin_spec(
        "swin",
        tensors["patch_embed.proj.weight"].shape[0],
        depths=tuple(sum(level == other for other, _ in tables) for level in levels),
        num_heads=tuple(tables[level, 0].shape[1] for level in levels),
        window_size=(round(rows ** (1 / 3)) + 1) // 2,
    )


def _infer_plainconv(tensors: Mapping[str, Tensor]) -> EncoderSpec:
    """Channels and kernels; strides leave no trace in the tensors, so the usual ones are taken."""
    num_stages = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("stages."))
    weights = [tensors[_plain_weight(stage)] for stage in range(num_stages)]
    kernels = tuple((w.shape[2], w.shape[3], w.shape[4]) for w in weights)
    convs = sum(name.startswith("stages.0.0.convs.") for name in tensors)
    per_conv = sum(name.startswith("stages.0.0.convs.0.") for name in tensors)
    return plainconv_spec(
        "plainconv",
        tuple(weight.shape[0] for weight in weights),
        kernel_sizes=kernels,
        convs_per_stage=convs // per_conv,
    )


def _plain_weight(stage: int) -> str:
    return f"stages.{stage}.0.convs.0.conv.weight"
