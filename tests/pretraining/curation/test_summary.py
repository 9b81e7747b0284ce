"""The summary page: its numbers are the store's, and it needs nothing beside itself."""

import re
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest

from nnunet_triad.phantom import SCANNERS
from nnunet_triad.phantom.dicom import DicomOptions, write_dicom_series
from pretraining.curation.montage import TILE, save_montage
from pretraining.curation.summary import counts, kind_of_reason, summarize
from pretraining.store import INDEX_COLUMNS, VolumeStore


@pytest.fixture
def store(brain, tmp_path, curate_tree):
    for number in range(1, 4):
        volume = replace(brain, image=brain.image * number, scanner=SCANNERS[number % 2])
        options = DicomOptions(series_number=number)
        write_dicom_series(volume, tmp_path / "source", options=options)
    options = DicomOptions(series_number=9, missing_slices=(4,))
    write_dicom_series(brain, tmp_path / "source", options=options)
    (tmp_path / "source" / "a.dcm").touch()
    return curate_tree(tmp_path / "source")[0]


def test_summary_counts_what_the_store_holds(store):
    (dataset,) = summarize(store)
    assert (dataset.name, dataset.num_series, dataset.num_subjects) == ("DATA", 3, 1)
    assert dataset.num_studies == store.records["study"].nunique() == 2
    assert {row.name: row.number for row in dataset.sequences} == {"T1-weighted": 3}
    assert {row.name: row.number for row in dataset.manufacturers} == {"GE": 2, "Siemens": 1}
    assert {row.name: row.number for row in dataset.reasons} == {
        "missing slices": 1,
        "empty file": 1,
    }


def test_page_is_whole_in_itself(store):
    page = (store.path / "summary.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "T1-weighted" in page and "missing slices" in page


def test_montage_shows_each_series_of_a_small_dataset(store):
    picture = matplotlib.image.imread(store.path / "montages" / "DATA.png")
    height, width = picture.shape
    assert 3 * TILE < width < 3.2 * TILE
    thirds = [picture[height // 3 :, k * width // 3 : (k + 1) * width // 3] for k in range(3)]
    assert all((third < 0.2).mean() > 0.1 for third in thirds)  # dark around a brain


def test_montage_has_right_on_the_right_and_anterior_at_the_top(tmp_path):
    volume = np.full((24, 40, 8), 100, dtype=np.uint16)
    volume[18:, 30:] = 1000  # right, anterior
    store = VolumeStore.create(tmp_path / "store", shape=volume.shape)
    sidecar = dict.fromkeys(INDEX_COLUMNS, "a") | {"series_id": "a/a/a/a", "mean": 1.0, "std": 1.0}
    store.write_series("a/a/a/a", volume, sidecar | {"minimum": 0.0, "maximum": 0.0})
    store.rebuild_index()
    picture = matplotlib.image.imread(save_montage(store, "a"))
    tile = picture[-TILE - 10 : -10]
    columns = np.flatnonzero((tile < 0.5).any(axis=0))  # without the white around it
    tile = tile[:, columns[0] : columns[-1] + 1]
    assert tile.shape == (TILE, TILE * 24 // 40)
    is_bright = tile > 0.5
    half_x, half_y = tile.shape[1] // 2, tile.shape[0] // 2
    assert is_bright[:half_y, half_x:].sum() == is_bright.sum() > 0


def test_names_are_escaped(store):
    store.records["description"] = "MRI, <script>alert(1)</script>. Manufacturer: x."
    from pretraining.curation.summary import save_summary

    page = save_summary(store).read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_counts_add_up_what_is_rare():
    rows = counts(["a"] * 5 + ["b"] * 7 + [f"rare {number}" for number in range(30)])
    assert [(row.name, row.number) for row in rows[:2]] == [("b", 7), ("a", 5)]
    assert rows[-1].name == "12 others" and rows[-1].number == 12
    assert sum(row.share for row in rows) == pytest.approx(1)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("missing slices: 2 of 38, the first after slice 5", "missing slices"),
        ("too few slices (6, wanted 8)", "too few slices"),
        ("same voxels as D/a/b/c", "same voxels as another series"),
        ("derived: T2 map", "derived: T2 map"),
        ("not MR but modality CT", "not MR but modality CT"),
    ],
)
def test_reasons_are_grouped_without_what_is_particular(reason, kind):
    assert kind_of_reason(reason) == kind
