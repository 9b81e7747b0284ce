"""What publishers' own networks compute, so that ours can be held against it without theirs.

A reference is one file NAME.npz, made by `make.py` with a publisher's own classes under the
version of MONAI that they pin. It holds the names and shapes of the publisher's checkpoint and the
encoder's features of one image. The weights are no part of it: each tensor is a pure function of
its name and shape, so the whole checkpoint is made again from the names.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent
NUM_VALUES = 400  # of a feature that a reference keeps
_LEARNT_VECTORS = ("pos_embed", "mask_token")  # whose size says nothing of their scale


def names() -> tuple[str, ...]:
    """Return the names of the references, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.npz")))


def seeded_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the values of a tensor, as random ones of that name would be initialised.

    Kernels and matrices have variance 1 / fan-in, scales are near 1, biases near 0.
    """
    digest = hashlib.sha256(f"{name} {shape}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
    values = (generator.random(shape, dtype=np.float32) - np.float32(0.5)) * np.float32(sqrt(12))
    last = name.rsplit(".", 1)[-1]
    if last in _LEARNT_VECTORS:
        values *= np.float32(0.5)
    elif len(shape) > 1:
        values *= np.float32(1 / sqrt(prod(shape[1:])))
    else:
        values = values * np.float32(0.1) + np.float32(last in ("weight", "running_var"))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def image_of(shape: tuple[int, ...]) -> Tensor:
    """Return an image (1, c, x, y, z) in 0..1 that no permutation or mirroring leaves alone."""
    channels, *sizes = shape
    axes = np.meshgrid(*(np.arange(size) / 32 for size in sizes), indexing="ij")
    x, y, z = axes
    waves = [
        np.sin(5 * x + c) * np.cos(3 * y + 1) + np.sin(2 * z * (1 + x) + 0.5 * c) + 0.3 * y
        for c in range(channels)
    ]
    noise = np.random.Generator(np.random.PCG64(0)).random(shape)
    return torch.from_numpy((np.stack(waves) / 5 + 0.4 + 0.2 * noise)[None].astype(np.float32))


def positions(size: int) -> np.ndarray:
    """Return which values of a flattened feature a reference keeps."""
    return np.random.Generator(np.random.PCG64(size)).integers(0, size, NUM_VALUES)


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor of a publisher's checkpoint, without its values."""

    name: str
    shape: tuple[int, ...]
    is_float: bool
    same_as: str | None = None  # an earlier name of the same values

    def values(self) -> Tensor:
        """Return the values; tables of indices, which follow from the network, are zero."""
        if not self.is_float:
            return torch.zeros(self.shape, dtype=torch.int64)
        return seeded_tensor(self.same_as or self.name, self.shape)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A publisher's checkpoint by its names, and its encoder's features of one image."""

    name: str
    publisher: str  # whose, as the guide's table says it
    made_with: Mapping[str, str]  # repository, commit, class, versions of libraries
    wrapper: str | None  # the key of the checkpoint that holds the tensors
    beside: Mapping[str, Any]  # what else the checkpoint holds
    tensors: tuple[StoredTensor, ...]
    image_shape: tuple[int, ...]  # c x y z
    features: Mapping[str, np.ndarray]  # by level, `positions` of each; others by module
    norms: Mapping[str, float]  # the root of the mean square of a whole feature

    @property
    def num_levels(self) -> int:
        """Return the number of the encoder's features, named 0, 1, ... fine to coarse."""
        return sum(name.isdigit() for name in self.features)

    def checkpoint(self) -> dict[str, Any]:
        """Return what the publisher's file holds, with seeded weights."""
        state = {tensor.name: tensor.values() for tensor in self.tensors}
        beside = {key: _revived(value) for key, value in self.beside.items()}
        return {**beside, self.wrapper: state} if self.wrapper else {**state, **beside}

    def write(self, path: Path) -> Path:
        """Write the publisher's file."""
        torch.save(self.checkpoint(), path)
        return path

    def difference(self, level: str, feature: Tensor) -> tuple[float, float]:
        """Compare a feature (1, c, x, y, z) with the publisher's.

        Returns:
            The largest absolute difference of the kept values, and that relative to the root mean
            square of the publisher's whole feature.
        """
        flat = feature.detach().flatten().numpy()
        largest = float(np.abs(flat[positions(flat.size)] - self.features[level]).max())
        rms = float(np.sqrt(np.mean(np.square(flat, dtype=np.float64))))
        scale = self.norms[level]
        return max(largest, abs(rms - scale)), max(largest, abs(rms - scale)) / scale


def _revived(value: Any) -> Any:
    """Namespaces, which publishers' checkpoints hold, from what JSON can."""
    if isinstance(value, Mapping) and "Namespace" in value:
        return argparse.Namespace(**value["Namespace"])
    return value


@cache
def load(name: str) -> Reference:
    """Read a reference."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as held:
        about = json.loads(str(held["about"]))
        features = {key[2:]: held[key] for key in held.files if key.startswith("f:")}
    tensors = tuple(
        StoredTensor(name=key, shape=tuple(shape), is_float=bool(is_float), same_as=same_as)
        for key, shape, is_float, same_as in about.pop("tensors")
    )
    about["image_shape"] = tuple(about["image_shape"])
    return Reference(name=name, tensors=tensors, features=features, **about)


def save(reference: Reference) -> None:
    """Write a reference."""
    about = {
        "publisher": reference.publisher,
        "made_with": dict(reference.made_with),
        "wrapper": reference.wrapper,
        "beside": dict(reference.beside),
        "tensors": [[t.name, list(t.shape), t.is_float, t.same_as] for t in reference.tensors],
        "image_shape": list(reference.image_shape),
        "norms": dict(reference.norms),
    }
    features = {f"f:{level}": values for level, values in reference.features.items()}
    path = FOLDER / f"{reference.name}.npz"
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, about=np.array(json.dumps(about)), **features)
