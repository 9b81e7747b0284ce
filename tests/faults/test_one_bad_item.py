"""Whatever a single series, case or row raises sets it aside; the run goes on."""

import errno
import json
import os

import nibabel as nib
import numpy as np
import pytest

from nnunet_triad.errors import UserError, reason_of
from pretraining.curation.nifti_source import NiftiSeries
from pretraining.curation.runner import curate
from pretraining.curation.source import find_all
from pretraining.curation.workers import Workers
from pretraining.store import VolumeStore, read_rejected


@pytest.fixture
def tree(tmp_path):
    """Three images, of different voxels."""
    for number in range(3):
        voxels = np.random.default_rng(number).uniform(0, 1000, (16, 16, 16)).astype(np.float32)
        path = tmp_path / "tree" / f"sub-{number}_T1w.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    return tmp_path / "tree"


def run(tree):
    store = VolumeStore.create(tree.parent / "store", shape=(8, 8, 8))
    summary = curate(find_all(tree, dataset="D", workers=Workers(1)), store, dataset="D")
    return summary, read_rejected(store.path)["reason"].tolist()


@pytest.mark.parametrize(
    "error", [ZeroDivisionError, RecursionError, nib.spatialimages.HeaderDataError, AssertionError]
)
def test_a_series_that_raises_anything_is_set_aside(tree, monkeypatch, error):
    load = NiftiSeries.load

    def load_or_fail(series, rules):
        if "sub-1" in series.path.name:
            raise error("a secret of the file")
        return load(series, rules)

    monkeypatch.setattr(NiftiSeries, "load", load_or_fail)
    summary, reasons = run(tree)
    assert (summary.num_curated, summary.num_rejected) == (2, 1)
    assert reasons == [f"damaged, or of a kind that is not known here ({error.__name__})"]


def test_a_full_disk_ends_the_run(tree, monkeypatch):
    def fail(series, rules):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "store")

    monkeypatch.setattr(NiftiSeries, "load", fail)
    with pytest.raises(OSError, match="No space left"):
        run(tree)


def test_a_sidecar_nested_without_end_sets_its_image_aside(tree):
    (tree / "sub-1_T1w.json").write_text("[" * 100_000 + "]" * 100_000)
    summary, reasons = run(tree)
    assert (summary.num_curated, summary.num_rejected) == (2, 1)
    assert reasons == ["its sidecar is not JSON, or too large"]


def test_a_sidecar_of_a_gigabyte_is_not_read(tree):
    path = tree / "sub-1_T1w.json"
    path.write_text(json.dumps({"Modality": "MR"}))
    os.truncate(path, 1 << 30)  # sparse
    summary, reasons = run(tree)
    assert summary.num_curated == 2
    assert reasons == ["its sidecar is not JSON, or too large"]


def test_a_users_mistake_keeps_its_words_and_missing_memory_is_raised():
    assert reason_of(UserError("a.nii: expected b, got c")) == "a.nii: expected b, got c"
    with pytest.raises(MemoryError):
        reason_of(MemoryError())
