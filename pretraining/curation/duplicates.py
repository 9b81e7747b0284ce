"""Series that hold the same voxels as another one, under whatever names and headers."""

from collections import defaultdict
from typing import Any

import numpy as np

from pretraining.store import VolumeStore


def set_aside_duplicates(store: VolumeStore) -> None:
    """Keep one series of each group with equal voxels.

    A checksum and the statistics find the groups; the voxels themselves are compared before one
    goes. The kept one is in the index already, or has the first id; so it does not depend on the
    order in which the series were finished, nor on an interruption.
    """
    groups: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for sidecar in store.iterate_sidecars():
        if "duplicate_of" in sidecar:  # its volume is there yet if the run was killed just then
            store.volume_path(sidecar["series_id"]).unlink(missing_ok=True)
        elif "crc32" in sidecar:
            key = tuple(sidecar[name] for name in ("crc32", "dtype", "mean", "std"))
            groups[key].append(sidecar["series_id"])
    indexed = set(store.records["series_id"])
    for group in groups.values():
        kept, *others = sorted(group, key=lambda name: (name not in indexed, name))
        for name in others:
            if np.array_equal(_voxels(store, name), _voxels(store, kept)):
                store.mark_duplicate(name, of=kept)


def find_duplicates(store: VolumeStore) -> dict[str, str]:
    """Return what was set aside: id -> the id of the series that has the same voxels."""
    return {
        sidecar["series_id"]: sidecar["duplicate_of"]
        for sidecar in store.iterate_sidecars()
        if "duplicate_of" in sidecar
    }


def _voxels(store: VolumeStore, name: str) -> np.ndarray:
    return store.read_box(name, (0, 0, 0), store.volume_shape)
