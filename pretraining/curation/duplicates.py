"""Series that hold the same voxels as another one, under whatever names and headers."""

from collections import defaultdict

from pretraining.store import VolumeStore


def set_aside_duplicates(store: VolumeStore) -> None:
    """Keep one series of each group with equal voxels.

    The kept one is in the index already, or has the first id; so it does not depend on the order in
    which the series were finished, nor on an interruption.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for sidecar in store.iterate_sidecars():
        if "duplicate_of" not in sidecar and "sha256" in sidecar:
            groups[sidecar["sha256"]].append(sidecar["series_id"])
    indexed = set(store.records["series_id"])
    for group in groups.values():
        kept, *others = sorted(group, key=lambda name: (name not in indexed, name))
        for name in others:
            store.mark_duplicate(name, of=kept)


def find_duplicates(store: VolumeStore) -> dict[str, str]:
    """Return what was set aside: id -> the id of the series that has the same voxels."""
    return {
        sidecar["series_id"]: sidecar["duplicate_of"]
        for sidecar in store.iterate_sidecars()
        if "duplicate_of" in sidecar
    }
