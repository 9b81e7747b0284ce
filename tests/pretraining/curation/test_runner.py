"""A whole curation: it goes on after anything, and its result depends on the source alone."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.phantom.dicom import DicomOptions, write_dicom_series
from pretraining.curation import runner
from pretraining.store import VolumeStore, read_rejected

NUM_SERIES = 8


@pytest.fixture
def source(brain, write_nifti, tmp_path) -> Path:
    """Eight brains of different brightness, one that is a copy, and two bad ones."""
    root = tmp_path / "source"
    for number in range(NUM_SERIES):
        write_nifti(root / f"sub-{number}" / "T1w.nii.gz", image=brain.image * (1 + number / 10))
    write_nifti(root / "sub-8" / "T1w.nii.gz", image=brain.image)
    write_nifti(root / "sub-9" / "T1w.nii.gz", image=np.ones((20, 20, 20)))
    (root / "sub-a").mkdir()
    (root / "sub-a" / "T1w.nii.gz").touch()
    return root


def content(store: VolumeStore) -> dict[str, bytes]:
    """Return every file that tells something about the source."""
    return {
        path.relative_to(store.path).as_posix(): path.read_bytes()
        for path in sorted(store.path.rglob("*"))
        if path.is_file()
        and path.name != ".lock"
        and path.suffix != ".png"
        # The page names the store's folder.
        and path.suffix != ".html"
    }


def test_rerun_changes_nothing_and_touches_no_finished_volume(source, curate_tree):
    store, first = curate_tree(source)
    before = content(store)
    times = {path: path.stat().st_mtime_ns for path in store.path.rglob("*.b2nd")}
    store, second = curate_tree(source)
    assert content(store) == before
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*.b2nd")} == times
    assert (first.num_curated, first.num_already_there) == (NUM_SERIES, 0)
    assert (second.num_curated, second.num_already_there) == (0, NUM_SERIES)
    assert first.num_rejected == second.num_rejected == 3
    assert first.num_in_store == second.num_in_store == NUM_SERIES


def test_more_data_are_added_to_what_is_there(brain, source, write_nifti, curate_tree):
    shutil.move(source / "sub-3", source.parent / "later")
    curate_tree(source)
    shutil.move(source.parent / "later", source / "sub-3")
    store, summary = curate_tree(source)
    assert summary.num_curated == 1
    assert len(store) == NUM_SERIES


def test_copies_under_other_names_are_set_aside_once_and_for_all(source, curate_tree):
    store, _ = curate_tree(source)
    copy, original = "DATA/sub-8/study/T1w", "DATA/sub-0/study/T1w"
    assert not store.volume_path(copy).exists()
    assert copy not in set(store.records["series_id"])
    rejected = read_rejected(store.path).set_index("series_id")["reason"]
    assert rejected[copy] == f"same voxels as {original}"

    store, summary = curate_tree(source, reject_duplicates=False)

    assert summary.num_curated == 1
    assert len(store) == NUM_SERIES + 1
    np.testing.assert_array_equal(
        store.read_box(copy, (0, 0, 0), store.volume_shape),
        store.read_box(original, (0, 0, 0), store.volume_shape),
    )


def test_first_id_is_kept_of_copies_whatever_was_finished_first(source, curate_tree, tmp_path):
    whole, _ = curate_tree(source, tmp_path / "whole")
    partial = VolumeStore.create(tmp_path / "partial", shape=whole.volume_shape, spacing_mm=6.0)
    copy = "DATA/sub-8/study/T1w"  # finished before a crash, unlike the original
    volume = whole.read_box("DATA/sub-0/study/T1w", (0, 0, 0), whole.volume_shape)
    sidecar = {**(whole.read_sidecar(copy) or {})}
    sidecar.pop("duplicate_of")
    partial.write_series(copy, volume, sidecar)
    partial, _ = curate_tree(source, tmp_path / "partial")
    assert content(partial) == content(whole)


def test_volume_of_a_copy_goes_though_the_run_was_killed_once_it_was_marked(source, curate_tree):
    store, _ = curate_tree(source)
    before = content(store)
    left = store.volume_path("DATA/sub-8/study/T1w")
    shutil.copy(store.volume_path("DATA/sub-0/study/T1w"), left)
    curate_tree(source)
    assert content(store) == before


def _curate_and_die(curate_tree, source, store, after_s) -> None:
    # Time of the processor, so that it does not matter what else runs there.
    signal.setitimer(signal.ITIMER_PROF, after_s)
    signal.signal(signal.SIGPROF, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    curate_tree(source, store)
    os._exit(0)


def test_sigkill_at_ten_moments_loses_nothing_and_the_result_is_the_same(
    source, curate_tree, tmp_path, monkeypatch
):
    # The page and its pictures come last, and take longer than all else.
    monkeypatch.setattr(runner, "save_summary", lambda store: None)
    expected, _ = curate_tree(source, tmp_path / "expected")
    start_s = time.process_time()
    curate_tree(source, tmp_path / "once more")
    duration_s = time.process_time() - start_s
    random = np.random.default_rng(3)
    context = multiprocessing.get_context("fork")
    killed = tmp_path / "killed"
    num_killed = 0
    for moment in random.permutation(np.linspace(0.02, 0.75, 10)):
        target = tmp_path / f"killed-{moment:.2f}"
        process = context.Process(
            target=_curate_and_die, args=(curate_tree, source, target, moment * duration_s)
        )
        process.start()
        process.join()
        num_killed += process.exitcode == -signal.SIGKILL
        if not (target / "store.json").exists():
            continue
        store = VolumeStore(target)
        for sidecar in store.iterate_sidecars():  # what is called finished is whole
            if "duplicate_of" not in sidecar:
                box = store.read_box(sidecar["series_id"], (0, 0, 0), store.volume_shape)
                assert zlib.crc32(box.data) == sidecar["crc32"]
        shutil.rmtree(killed, ignore_errors=True)
        target.rename(killed)
        store, _ = curate_tree(source, killed)
        assert content(store) == content(expected)
    assert num_killed >= 5


def test_full_disk_stops_with_the_finished_series_kept(source, curate_tree, tmp_path, monkeypatch):
    expected, _ = curate_tree(source, tmp_path / "expected")
    write = VolumeStore.write_series
    num_written = 0

    def fill_disk(store, series_id, volume, sidecar):
        nonlocal num_written
        num_written += 1
        if num_written == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(store.path))
        write(store, series_id, volume, sidecar)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(VolumeStore, "write_series", fill_disk)
        curate_tree(source, tmp_path / "full")
    store = VolumeStore(tmp_path / "full")
    assert sum(1 for _ in store.iterate_sidecars()) == 3
    with pytest.raises(UserError, match=r"index.csv, got a store whose curation was interrupted"):
        VolumeStore.open(tmp_path / "full")
    store, _ = curate_tree(source, tmp_path / "full")
    assert content(store) == content(expected)


def test_full_disk_in_the_middle_of_a_file_leaves_no_half_of_it(
    source, curate_tree, tmp_path, monkeypatch
):
    def write_half(path, data):
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Path, "write_bytes", write_half)
        curate_tree(source, tmp_path / "full")
    assert not list((tmp_path / "full" / "volumes").rglob("*.*"))


def test_store_of_another_version_is_refused(source, curate_tree):
    store, _ = curate_tree(source)
    settings = store.path / "store.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "format_version": 99}))
    with pytest.raises(UserError, match="expected a store of format version 1, got 99"):
        curate_tree(source)


def test_second_writer_is_refused(source, curate_tree):
    store, _ = curate_tree(source)
    with (
        store.only_writer(),
        pytest.raises(UserError, match="another command is writing to"),
    ):
        curate_tree(source)


def test_rejected_rows_of_other_datasets_stay(source, curate_tree):
    store, _ = curate_tree(source)
    file = store.path / "rejected.csv"
    table = pd.read_csv(file)
    other = table.assign(dataset="OTHER")
    pd.concat([table, other]).to_csv(file, index=False)
    curate_tree(source)
    again = pd.read_csv(file)
    assert (again["dataset"] == "OTHER").sum() == (again["dataset"] == "DATA").sum() == 3


def test_rules_and_organ_are_saved_beside_the_volumes(source, curate_tree):
    store, _ = curate_tree(source, min_slices=5)
    saved = json.loads((store.path / "curation.json").read_text())
    assert saved["min_slices"] == 5
    assert saved["reject_nan"] is True


def test_paths_of_dicom_series_lie_beside_the_store(brain, curate_tree, tmp_path):
    folder = tmp_path / "source" / "Doe^Jane"
    write_dicom_series(brain, folder)
    options = DicomOptions(series_number=2)
    write_dicom_series(replace(brain, image=brain.image * 2), folder / "b", options=options)
    (folder / "bad.dcm").touch()
    store, _ = curate_tree(tmp_path / "source")
    table = pd.read_csv(runner.paths_file(store))
    assert set(table["path"]) == {str(folder), str(folder / "b"), str(folder / "bad.dcm")}
    assert set(store.records["series_id"]) < set(table["name"])
    (bad,) = read_rejected(store.path)["source"]
    assert table.set_index("name")["path"][bad] == str(folder / "bad.dcm")


def test_equal_checksums_alone_make_no_copy(source, curate_tree):
    store, _ = curate_tree(source, reject_duplicates=False)
    names = [f"DATA/sub-{number}/study/T1w" for number in (1, 2)]
    for name in names:  # as if two unlike volumes had the same checksum and statistics
        sidecar = store.read_sidecar(name) or {}
        sidecar |= {"crc32": 1, "mean": 2.0, "std": 3.0}
        store.sidecar_path(name).write_text(json.dumps(sidecar))
    store, _ = curate_tree(source)
    assert set(names) < set(store.records["series_id"])


def test_half_written_files_of_a_killed_run_are_removed_everywhere(source, curate_tree):
    store, _ = curate_tree(source)
    before = content(store)
    series = store.volume_path("DATA/sub-0/study/T1w").parent
    leftovers = [
        store.path / ".index.csv.abcd1234.csv",
        store.path / "montages" / ".DATA.png.abcd1234.png",
        series / ".T1w.json.abcd1234.json",
        store.path.parent / f".{runner.paths_file(store).name}.abcd1234.csv",
    ]
    for path in leftovers:
        path.write_text("half")
    store, _ = curate_tree(source)
    assert not [path for path in leftovers if path.exists()]
    assert content(store) == before
