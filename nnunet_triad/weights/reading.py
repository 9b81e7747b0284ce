"""Weights files and other projects' checkpoints of the same encoders, recognised by content."""

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_triad.architectures import family_of
from nnunet_triad.architectures.families import FAMILIES, read_spec
from nnunet_triad.errors import UserError
from nnunet_triad.files import sha256
from nnunet_triad.weights.file import EncoderWeights, WeightsInfo, read_info
from nnunet_triad.weights.origins import (
    ZSCORE,
    Content,
    FileKind,
    file_kinds,
    recognise,
    strip_prefixes,
    wrappers,
)
from nnunet_triad.weights.tensor_file import is_safetensors, read_tensors

_UNKNOWN = "unknown"
_SCALARS = (np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_)
_NUM_NAMES_IN_ERRORS = 5
_NUM_FIRST_BYTES = 24  # enough to know a format by, and to show
_TORCH_STARTS = (b"PK\x03\x04", b"\x80")  # a zip archive, or a pickle


def read_weights(path: Path) -> EncoderWeights:
    """Read the encoder out of a file of this project or another one's, without running its code.

    Args:
        path: a safetensors file, or a PyTorch checkpoint.

    Raises:
        UserError: it is truncated, would execute code, or no row of `origins.ORIGINS` fits.
    """
    held = _read(path)
    info, tensors = read_info(path, held.beside), held.tensors
    if info is None:
        info, tensors = _read_foreign(path, held)
    return EncoderWeights(path=path, sha256=sha256(path), info=info, tensors=tensors)


def _read_foreign(path: Path, held: "_Held") -> tuple[WeightsInfo, Mapping[str, Tensor]]:
    names = {strip_prefixes(name): tensor for name, tensor in held.tensors.items()}
    found = recognise(Content(keys=frozenset(held.beside), tensors=names))
    if found is None:
        raise _no_row(path, held.tensors)
    origin, kind = found
    tensors: Mapping[str, Tensor] = _find_encoder(
        {kind.rename(n): t for n, t in names.items()}, kind
    )
    plan = _read_plan(path, held.beside)
    spec = read_spec(tensors, plan.arguments)
    if spec is None:
        raise _no_row(path, held.tensors, kind)
    tensors = family_of(spec).adopt(spec, tensors, plan.arguments)
    info = WeightsInfo(
        spec=spec,
        input_channels=tensors[family_of(spec).stem_weight].shape[1],
        patch_size=plan.patch_size,
        spacing_mm=plan.spacing_mm,
        intensity_normalization=plan.normalization or origin.assumes.intensity or _UNKNOWN,
        source=origin.name,
        data_summary=f"read from {path.name}: {kind.title}",
        package_version="",
        licence=origin.licence,
        citation=plan.citation or origin.citation,
    )
    return info, tensors


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What a file holds: tensors by name as written, and the values beside them."""

    tensors: Mapping[str, Tensor]
    beside: Mapping[str, Any]


def _read(path: Path) -> _Held:
    with path.open("rb") as file:
        start = file.read(_NUM_FIRST_BYTES)
    if is_safetensors(start):
        tensors, metadata = read_tensors(path)
        return _Held(tensors=tensors, beside=metadata)
    if not start.startswith(_TORCH_STARTS):
        raise UserError(
            f"{path}: expected a PyTorch checkpoint or a safetensors file, got one of neither "
            f"format, which begins with {start!r}; name the file of weights itself"
        )
    content = _read_torch(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected a state dict, got {type(content).__name__}")
    found = (content[key] for key in wrappers() if isinstance(content.get(key), Mapping))
    state = next(found, content)
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    beside = {str(key): value for key, value in content.items() if not isinstance(value, Tensor)}
    return _Held(tensors=tensors, beside=beside)


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except (pickle.UnpicklingError, AttributeError) as error:
        raise UserError(
            f"{path}: expected a checkpoint of tensors alone, got a pickle that needs code of its "
            "own to load, which is refused; ask its authors for a safetensors file"
        ) from error
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        raise UserError(
            f"{path}: expected a whole PyTorch checkpoint, got one that cannot be read "
            f"({str(error).splitlines()[0][:120] if str(error) else 'it ends early'}); "
            "copy or download it again"
        ) from error


def _harmless_globals() -> list[Any]:
    """NumPy's scalars alone, which nnU-Net's own checkpoints hold: values without code."""
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    scalar = multiarray.scalar
    return [
        (scalar, "numpy._core.multiarray.scalar"),
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in _SCALARS),
    ]


def _find_encoder(tensors: Mapping[str, Tensor], kind: FileKind) -> dict[str, Tensor]:
    """The first place of the kind that holds any tensor; names that are second ones left out."""
    for prefix in kind.encoders:
        found = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
            and tensor.is_floating_point()
            and ".all_modules." not in name
        }
        if found:
            return {name: tensor for name, tensor in found.items() if _is_encoders(name)}
    return {}


def _is_encoders(name: str) -> bool:
    return any(name.startswith(family.tensor_prefixes) for family in FAMILIES.values())


def _no_row(path: Path, tensors: Mapping[str, Tensor], kind: FileKind | None = None) -> UserError:
    first = ", ".join(list(tensors)[:_NUM_NAMES_IN_ERRORS]) or "no tensor at all"
    looks = f" in a file that looks like {kind.title}" if kind else ""
    return UserError(
        f"{path}: expected an encoder that is known, got the names {first}{looks}; what would "
        f"match: {'; '.join(kind.title for kind in file_kinds())}"
    )


def _read_plan(path: Path, beside: Mapping[str, Any]) -> "_Plan":
    try:
        return _Plan.of(beside)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: expected the plan beside the weights as nnU-Net or nnssl writes it, got one "
            f"without {error}; save the checkpoint again with that project"
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What nnU-Net's or nnssl's plan, kept in the checkpoint, says of the pre-training."""

    # of the network, and `trainer_name`
    arguments: Mapping[str, Any] = field(default_factory=dict)
    patch_size: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    normalization: str = ""
    citation: str = ""

    @classmethod
    def of(cls, beside: Mapping[str, Any]) -> "_Plan":
        if isinstance(plan := beside.get("nnssl_adaptation_plan"), Mapping):
            configuration: Any = next(iter(plan["pretrain_plan"]["configurations"].values()), {})
            arguments = plan["architecture_plans"].get("arch_kwargs")
        elif isinstance(init_args := beside.get("init_args"), Mapping):
            configurations = init_args["plans"]["configurations"]
            configuration = configurations.get(init_args.get("configuration"), {})
            arguments = configuration.get("architecture", {}).get("arch_kwargs")
        else:
            return cls()
        schemes = configuration.get("normalization_schemes") or ()
        return cls(
            arguments={**(arguments or {}), "trainer_name": beside.get("trainer_name", "")},
            patch_size=_triple(configuration.get("patch_size"), int),
            spacing_mm=_triple(configuration.get("spacing"), float),
            normalization=ZSCORE if set(schemes) == {"ZScoreNormalization"} else "",
            citation=_citation(beside.get("citations") or ()),
        )


def _triple(values: Any, kind: type) -> Any:
    return tuple(map(kind, values)) if values is not None and len(values) == 3 else None


def _citation(entries: Any) -> str:
    """nnssl's list of {type, name, apa_citations}: what its authors ask to cite."""
    papers = [
        paper
        for entry in entries
        if isinstance(entry, Mapping)
        for paper in entry.get("apa_citations") or entry.get("bibtex_citations") or ()
    ]
    return "; ".join(map(str, papers))
