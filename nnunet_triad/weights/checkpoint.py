"""What lies in a file of weights: its tensors by name and the values beside them, no code run."""

import argparse
import collections
import contextlib
import datetime
import io
import pathlib
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from nnunet_triad.errors import UserError
from nnunet_triad.weights.origins import AVERAGED, wrappers
from nnunet_triad.weights.tensor_file import is_safetensors, read_tensors

_MAX_BYTES = 1 << 37  # nine times Swin-H with its optimiser
_MAX_INFLATION = 20  # times its size
_NUM_FIRST_BYTES = 512  # enough to know a format by
_NUM_SHOWN_BYTES = 24
_NUM_NAMED = 8  # in an error
_MAX_DEPTH = 3  # of state dicts within a checkpoint
# A smaller part of a state dict is no copy of a network: VoCo's `teacher` is a projection head.
_LEAST_SHARE_OF_COPY = 4
_NUM_PICKLES = 4  # one after the other in torch's older format, before the tensors' values
_TORCH_STARTS = (b"PK\x03\x04", b"\x80")  # a zip archive, or a pickle
# What else is found where a checkpoint was wanted: how it begins, what it is, what to do.
_OTHER_STARTS = (
    (rb"version https://git-lfs", "a git-lfs pointer", "fetch the file itself: git lfs pull"),
    (
        rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml)",
        "a saved web page",
        "download the file itself; what stands in the page may say why it was not given",
    ),
    (rb"\x1f\x8b", "a gzip archive", "unpack it first: gunzip, or tar -xzf"),
    (rb"\x89HDF\r\n", "an HDF5 file, as Keras writes", "take the publisher's PyTorch weights"),
)
# Torch's own words for a class that it does not load.
_REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")
# One line that keeps tensors and the dictionaries that they lie in.
_EXTRACT = (
    'python -c "import torch; t = lambda v: ({{k: y for k, x in v.items() if (y := t(x)) is not '
    "None}} or None) if isinstance(v, dict) else v if isinstance(v, torch.Tensor) else "
    "t(v.state_dict()) if hasattr(v, 'state_dict') else None; torch.save(t(torch.load({source!r}, "
    "map_location='cpu', weights_only=False)), 'tensors.pth')\""
)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a file holds."""

    tensors: Mapping[str, Tensor]  # by name as written
    beside: Mapping[str, Any]  # values that are no tensors, by their key
    key: str = ""  # under which the tensors were found, dotted; empty: at the top
    other_keys: tuple[str, ...] = ()  # of other state dicts in the file

    @property
    def is_averaged(self) -> bool:
        """Whether the tensors are a moving average that training kept beside the weights."""
        return not set(self.key.split(".")).isdisjoint(AVERAGED)


def read_checkpoint(path: Path, *, key: str | None = None) -> Checkpoint:
    """Read a safetensors file or a PyTorch checkpoint.

    Args:
        path: the file.
        key: of the state dict that is wanted, dotted where it lies in another one; without: an
            averaged copy where there is one, else what is usual.

    Raises:
        UserError: it is another kind of file, truncated, would execute code, or has no such key.
    """
    with path.open("rb") as file:
        start = file.read(_NUM_FIRST_BYTES)
    _check_size(path)
    if is_safetensors(start):
        tensors, metadata = read_tensors(path)
        return _choose(path, tensors, metadata, key)
    if not start.startswith(_TORCH_STARTS):
        raise _another_format(path, start)
    content = _read_torch(path)
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path}: expected a state dict, got {type(content).__name__}; ask its authors"
        )
    beside = {str(name): value for name, value in content.items() if not isinstance(value, Tensor)}
    return _choose(path, content, beside, key)


def _check_size(path: Path) -> None:
    """Refuse what would fill the memory: a file of terabytes, as a sparse one is, or a zip bomb.

    Raises:
        UserError: it is one. `torch.save` compresses nothing.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise UserError(
            f"{path}: expected weights of at most {_MAX_BYTES >> 30} GiB, got {size / 2**30:.4g}; "
            "name the file of weights itself"
        )
    if zipfile.is_zipfile(path):
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            inflated = sum(one.file_size for one in archive.infolist())
            if inflated > _MAX_INFLATION * size:
                raise UserError(
                    f"{path}: expected an archive that holds what it is long ({size} bytes), got "
                    f"one that becomes {inflated}; download it again"
                )


def _choose(
    path: Path, content: Mapping[Any, Any], beside: Mapping[str, Any], key: str | None
) -> Checkpoint:
    found = dict(_state_dicts(content))
    if key is not None and key not in found:
        held = ", ".join(name or "the tensors at the top" for name in found) or "no tensors by name"
        raise UserError(
            f"{path}: --key: expected a state dict of the file, got {key}; it has {held}"
        )
    chosen = min(found, key=_rank, default="") if key is None else key
    unfolded = sum(tensor.nbytes for tensor in found.get(chosen, {}).values())
    if unfolded > _MAX_INFLATION * max(path.stat().st_size, 1 << 20):
        raise UserError(
            f"{path}: expected tensors that the file holds, got some that repeat its values over "
            f"{unfolded / 2**30:.4g} GiB; download it again"
        )
    return Checkpoint(
        tensors=found.get(chosen, {}),
        beside=beside,
        key=chosen,
        other_keys=tuple(name for name in found if name not in ("", chosen)),
    )


def _state_dicts(
    content: Mapping[Any, Any], key: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each place that holds tensors by name: its dotted key, and the tensors."""
    tensors = {n: t for n, t in content.items() if isinstance(n, str) and isinstance(t, Tensor)}
    if tensors:
        yield key, tensors
    for word in AVERAGED:  # copies that lie among the names of one state dict
        prefix = f"{word}."
        copy = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if len(copy) > len(tensors) // _LEAST_SHARE_OF_COPY:
            yield _join(key, word), copy
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Mapping) and depth < _MAX_DEPTH:
            yield from _state_dicts(value, _join(key, name), depth + 1)


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _rank(key: str) -> tuple[bool, bool, list[int]]:
    """Averaged copies first, then what lies under keys that wrap state dicts, then the top."""
    order = wrappers()
    parts = key.split(".") if key else []
    is_usual = bool(parts) and all(part in order for part in parts)
    is_averaged = is_usual and not set(parts).isdisjoint(AVERAGED)
    ranks = [order.index(part) if part in order else len(order) for part in parts]
    return not is_averaged, not is_usual and bool(parts), ranks or [len(order)]


def _another_format(path: Path, start: bytes) -> UserError:
    for pattern, what, advice in _OTHER_STARTS:
        if re.match(pattern, start, re.IGNORECASE):
            return UserError(
                f"{path}: expected a PyTorch checkpoint or a safetensors file, got {what}; {advice}"
            )
    return UserError(
        f"{path}: expected a PyTorch checkpoint or a safetensors file, got one of neither format, "
        f"which begins with {start[:_NUM_SHOWN_BYTES]!r}; name the file of weights itself"
    )


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_harmless_classes()):
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except (pickle.UnpicklingError, AttributeError) as error:
        raise UserError(
            f"{path}: expected a checkpoint of tensors and plain values, got a pickle that needs "
            f"code of its own to load, {_refused_class(path, error)}, which is refused; ask its "
            "authors for a safetensors file, or, where you trust them with your machine, write its "
            f"tensors alone: {_EXTRACT.format(source=str(path))}"
        ) from error
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        raise UserError(
            f"{path}: expected a whole PyTorch checkpoint, got one that cannot be read "
            f"({str(error).splitlines()[0][:120] if str(error) else 'it ends early'}); "
            "copy or download it again"
        ) from error


def _dictionary(*_: Any) -> dict[Any, Any]:
    """Stand for `defaultdict`: the unpickler fills a plain one."""
    return {}


def _harmless_classes() -> list[Any]:
    """Classes that hold values and do nothing when they are made: torch's allow-list takes them.

    A pair is what stands for a class, and the class's name in files. Paths of any platform become
    pure ones, dictionaries of any kind plain ones.
    """
    paths = {
        f"{module}.{name}": pathlib.PureWindowsPath if "Windows" in name else pathlib.PurePosixPath
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    }
    lightning = (
        "lightning.fabric.utilities.data.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "lightning.pytorch.utilities.parsing.AttributeDict",
    )
    plain = {f"builtins.{kind.__name__}": kind for kind in (dict, list, tuple, int, float, str)}
    array = np._core.multiarray  # type: ignore[attr-defined]
    arrays = {
        f"{module}.multiarray.{name}": getattr(array, name)
        for module in ("numpy._core", "numpy.core")
        for name in ("scalar", "_reconstruct")
    }
    named = {**paths, **dict.fromkeys(lightning, collections.OrderedDict), **plain, **arrays}
    return [
        *((stand_in, name) for name, stand_in in named.items()),
        (_dictionary, "collections.defaultdict"),
        argparse.Namespace,
        collections.Counter,
        datetime.datetime,
        datetime.date,
        datetime.timedelta,
        np.ndarray,
        np.dtype,
        *{type(np.dtype(kind)) for kind in np.sctypeDict.values()},
    ]


def _refused_class(path: Path, error: Exception) -> str:
    """Return the name of what was refused; newer pickles than torch's are looked through."""
    if match := _REFUSED.search(str(error)):
        return match[1]
    known = set(map(_name_of, _harmless_classes()))
    names = (
        name
        for name in _names_in_pickles(path)
        if name not in known and not name.startswith(("torch.", "collections.OrderedDict"))
    )
    return next(names, "in a way that torch.save does not write")


def _name_of(item: Any) -> str:
    return item[1] if isinstance(item, tuple) else f"{item.__module__}.{item.__qualname__}"


def _names_in_pickles(path: Path) -> list[str]:
    """Return the classes and functions that a file's pickles name; nothing is loaded."""
    names: list[str] = []
    with contextlib.suppress(Exception):  # what else is damaged does not matter here
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                inner = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                names += _names_in_pickle(io.BytesIO(archive.read(inner)))
        else:
            with path.open("rb") as file:
                for _ in range(_NUM_PICKLES):
                    names += _names_in_pickle(file)
    return names


def _names_in_pickle(file: IO[bytes]) -> Iterator[str]:
    texts: list[str] = []
    memo: dict[int, Any] = {}
    last: Any = None
    for code, argument, _ in pickletools.genops(file):
        if code.name == "GLOBAL":
            yield str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif code.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if argument is None else argument] = last
            continue
        last = memo.get(int(argument or 0)) if "BINGET" in code.name else argument
        if isinstance(last, str):
            texts.append(last)
