"""Small real brains as DICOM and NIfTI, and a curation that takes a fraction of a second."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_triad.phantom import SCANNERS, SEQUENCES, Acquisition, icbm_t1
from pretraining.curation.runner import CurationSummary, curate
from pretraining.curation.settings import QualityRules
from pretraining.curation.source import find_all
from pretraining.curation.workers import Workers
from pretraining.store import VolumeStore

SHAPE = (24, 30, 18)
SPACING_MM = 6.0


@pytest.fixture(scope="session")
def brain() -> Acquisition:
    """The ICBM T1 at 4 x 5 x 6 mm, 50 x 47 x 32 voxels, with the settings of a real sequence."""
    whole = icbm_t1()
    steps = (4, 5, 6)
    index = tuple(slice(None, None, step) for step in steps)
    return replace(
        whole,
        image=np.ascontiguousarray(np.rint(whole.image[index] * 4).astype(np.float32)),
        labels=np.ascontiguousarray(whole.labels[index]),
        affine=whole.affine @ np.diag([*steps, 1.0]),
        sequence=SEQUENCES["T1w"],
        scanner=SCANNERS[0],
        subject_name="sub-007",
    )


@pytest.fixture(scope="session")
def time_points(brain: Acquisition) -> list[Acquisition]:
    """Six time points: each is brighter than the one before."""
    return [replace(brain, image=brain.image + 10.0 * (brain.image > 0) * t) for t in range(6)]


@pytest.fixture
def write_nifti(brain: Acquisition) -> Callable[..., Path]:
    """Write a brain as NIfTI; `image`, `affine` or `dtype` may be given."""

    def write(path: Path, *, image=None, affine=None, dtype=np.int16) -> Path:  # type: ignore[no-untyped-def]
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.asarray(brain.image if image is None else image).astype(dtype)
        nib.save(nib.Nifti1Image(values, brain.affine if affine is None else affine), path)
        return path

    return write


@pytest.fixture
def curate_tree(tmp_path: Path) -> Callable[..., tuple[VolumeStore, CurationSummary]]:
    """Curate a tree into a store of tiny volumes, in this process unless told otherwise."""

    def run(  # type: ignore[no-untyped-def]
        source: Path, store: Path | None = None, *, workers=None, salt="", links=False, **rules
    ):
        team = workers or Workers(1)
        found = find_all(
            source.resolve(), dataset="DATA", workers=team, salt=salt, follows_links=links
        )
        target = VolumeStore.create(store or tmp_path / "store", shape=SHAPE, spacing_mm=SPACING_MM)
        summary = curate(found, target, dataset="DATA", rules=QualityRules(**rules), workers=team)
        return target, summary

    return run


@pytest.fixture
def reasons() -> Callable[[VolumeStore], list[str]]:
    """Return the reasons of a store's rejected series and files, in the order of the table."""
    from pretraining.store import read_rejected

    return lambda store: list(read_rejected(store.path)["reason"])
