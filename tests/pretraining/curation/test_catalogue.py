"""Table 1 as data, its comparison with a store, and what the Imaging Data Commons would send."""

import subprocess
from dataclasses import replace

import pytest

from nnunet_triad.errors import UserError
from pretraining.curation import fetch
from pretraining.curation.catalogue import (
    ACCESS,
    LAYOUTS,
    collections,
    compare_with_paper,
    find_collection,
)


def test_catalogue_has_the_papers_rows_and_totals():
    rows = collections()
    assert len(rows) == len({one.name for one in rows}) == 36
    # What the rows of Table 1 add up to; the paper prints 131,170 and 19,721 beside 55,557.
    assert sum(one.series for one in rows) == 131_458
    assert sum(one.subjects for one in rows) == 19_720
    assert sum(one.studies for one in rows) == 55_557


def test_organs_add_up_as_section_4_1_says():
    by_organ = {
        organ: sum(one.series for one in collections() if one.organ == organ)
        for organ in ("brain", "breast", "prostate")
    }
    assert by_organ == {"brain": 51_112, "breast": 46_404, "prostate": 33_942}


def test_each_collection_has_a_known_access_layout_and_links():
    for one in collections():
        assert one.access in ACCESS and one.layout in LAYOUTS
        assert bool(one.idc_id) == (one.access == "idc")
        assert one.url.startswith("https://") and one.licence_url.startswith("https://")
        assert one.licence


@pytest.mark.parametrize("name", ["prostatex", "PROSTATEx", "pi-cai challenge", "PI CAI"])
def test_collection_is_found_in_any_spelling(name):
    assert find_collection(name).name in ("PROSTATEx", "PI-CAI")


def test_unknown_collection_is_an_error():
    with pytest.raises(UserError, match="expected a name that `triad-curate catalogue` prints"):
        find_collection("MNIST")


def test_store_is_compared_by_the_names_of_its_datasets(brain, write_nifti, tmp_path, curate_tree):
    write_nifti(tmp_path / "source" / "a" / "x.nii.gz")
    write_nifti(tmp_path / "source" / "a" / "y.nii.gz", image=brain.image * 2)
    store, _ = curate_tree(tmp_path / "source")
    table = compare_with_paper(store).set_index("name")
    assert len(table) == 37
    assert table.loc["DATA", ["series", "subjects", "studies", "paper_series"]].tolist() == [
        *(2, 1, 1),
        0,
    ]
    assert table.loc["IXI", ["series", "paper_series"]].tolist() == [0, 1090]
    store.records["dataset"] = "ixi"
    assert compare_with_paper(store).set_index("name").loc["IXI", "series"] == 2


@pytest.fixture(scope="module")
def prostate():
    pytest.importorskip("idc_index_data")
    return fetch.select_series(find_collection("Prostate-3T"))


def test_selection_lists_mr_series_with_size_and_licence(prostate):
    paper = prostate.collection
    assert prostate.num_series == paper.series == 64
    assert prostate.num_patients == paper.subjects
    assert 0.1 < prostate.size_gb < 1
    assert prostate.licences == [paper.licence]


def test_every_collection_of_the_commons_is_in_its_index_under_its_licence():
    index = pytest.importorskip("idc_index_data")
    import pandas as pd

    table = pd.read_parquet(
        index.IDC_INDEX_PARQUET_FILEPATH,
        columns=["collection_id", "license_short_name", "PatientID"],
        filters=[
            ("Modality", "==", "MR"),
            ("collection_id", "in", [one.idc_id for one in collections() if one.idc_id]),
        ],
    )
    for one in collections():
        if one.idc_id:
            rows = table[table["collection_id"] == one.idc_id]
            assert one.licence in set(rows["license_short_name"]), one.name
            # The index has grown since, or lost a few; it is the same collection.
            assert 0.8 < rows["PatientID"].nunique() / one.subjects < 1.3, one.name


def test_first_patients_are_selected(prostate):
    pytest.importorskip("idc_index_data")
    some = fetch.select_series(prostate.collection, num_patients=3)
    assert some.num_patients == 3
    assert set(some.table["PatientID"]) == set(sorted(set(prostate.table["PatientID"]))[:3])


def test_collection_that_the_index_does_not_know_is_one_line(prostate):
    renamed = replace(prostate.collection, idc_id="prostate_4t")
    with pytest.raises(UserError, match=r"expected MR series of prostate_4t in .* got none"):
        fetch.select_series(renamed)


def test_collection_elsewhere_says_where_to_apply():
    with pytest.raises(UserError, match=r"see https://brain-development\.org/ixi-dataset/"):
        fetch.select_series(find_collection("IXI"))


def test_download_hands_the_series_to_the_package(prostate, tmp_path, monkeypatch):
    idc_index = pytest.importorskip("idc_index")
    asked = {}

    class Client:
        def download_from_selection(self, **options):
            asked.update(options)

    monkeypatch.setattr(idc_index, "IDCClient", Client)
    fetch.download(prostate, tmp_path)
    assert asked["downloadDir"] == str(tmp_path)
    assert len(asked["seriesInstanceUID"]) == 64


def test_dry_run_prints_size_and_downloads_nothing(tmp_path):
    pytest.importorskip("idc_index_data")
    command = ["triad-curate", "fetch", "prostate-3t", "--to", str(tmp_path), "--dry-run"]
    result = run_command(command)
    assert result.returncode == 0
    assert "64 MR series of 64 patients in 64 studies, 0.3 GB, licence CC BY 3.0" in result.stdout
    assert not list(tmp_path.iterdir())


def run_command(command: list[str]) -> subprocess.CompletedProcess:
    import sys
    from pathlib import Path

    program = Path(sys.executable).with_name(command[0])
    return subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
