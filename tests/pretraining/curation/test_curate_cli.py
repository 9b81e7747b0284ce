"""The command as a user types it, with what goes wrong."""

import pandas as pd
import pytest

from nnunet_triad.phantom.dicom import write_dicom_series
from pretraining import curate_cli
from tests.commands import exit_code


@pytest.fixture
def triad_curate(capsys):
    """Run the command in this process; return its exit code and what it printed."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = exit_code(curate_cli.main, "triad-curate", *arguments)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def source(brain, write_nifti, tmp_path):
    write_dicom_series(brain, tmp_path / "source" / "dicom")
    write_nifti(tmp_path / "source" / "nifti" / "x_T2w.nii.gz", image=brain.image * 3)
    return tmp_path / "source"


def test_source_and_store_are_enough(triad_curate, source, tmp_path):
    store = tmp_path / "store"
    code, out, _ = triad_curate(
        source, store, "--shape", "24,30,18", "--spacing-mm", "6", "--organ", "brain"
    )
    assert code == 0
    assert "curated 2, already there 0, set aside 0 series and 0 files" in out
    assert f"summary: {store / 'summary.html'}" in out
    records = pd.read_csv(store / "index.csv")
    assert set(records["dataset"]) == {"source"}
    assert set(records["organ"]) == {"brain"}


def test_options_may_come_first(triad_curate, source, tmp_path):
    code, out, _ = triad_curate("--shape", "24,30,18", "--min-slices", 99, source, tmp_path / "s")
    assert code == 2
    assert "set aside 2 series" in out


def test_status_sets_the_store_against_the_paper(triad_curate, source, tmp_path):
    triad_curate(source, tmp_path / "s", "--shape", "24,30,18", "--dataset", "IXI")
    code, out, _ = triad_curate("status", tmp_path / "s")
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.startswith("IXI "))
    assert "2 of 1,090" in line
    assert "2 series in the store, 0 set aside" in out


def test_catalogue_prints_every_collection(triad_curate):
    code, out, _ = triad_curate("catalogue")
    assert code == 0
    assert "36 collections, 131,458 series" in out
    assert out.count("licence:") == 36


def test_help_shows_the_main_form_and_the_other_commands(triad_curate):
    code, out, _ = triad_curate("--help")
    assert code == 0
    for text in ("SOURCE", "STORE", "--scheduler", "--min-slices", "catalogue", "fetch", "status"):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "store"], "nowhere: expected a folder of images, got nothing there"),
        (["empty", "store"], "expected at least one image, DICOM, .nii or .nii.gz, got none"),
        (["source", "source/store"], "expected a store outside of the source"),
        (["source", "store", "--shape", "64,64"], "--shape: expected one whole number, or three"),
        (["source", "store", "--organ", "big toe"], "organ: expected letters, digits"),
        (["source", "store", "--dataset", "../x"], "dataset: expected letters, digits"),
        (
            ["source", "store", "--workers", "-2"],
            "workers: expected 0 or more and at most 1024, got -2",
        ),
        (
            ["source", "store", "--max-clipped", "7"],
            "--max-clipped: expected 0 or more",
        ),
        (["source", "store", "--scheduler", "x:y:z"], "--scheduler: expected the address of"),
        (["status", "empty"], "expected a volume store, got no store.json"),
        (["fetch", "MNIST", "--to", "x"], "COLLECTION: expected a name that"),
        (["fetch", "IXI", "--to", "x"], "IXI: expected a collection of the Imaging Data Commons"),
        (["catalogue", "--organ", "toe"], "--organ: expected brain, breast or prostate"),
    ],
)
def test_mistake_gives_one_line_and_exit_code_2(
    triad_curate, source, tmp_path, monkeypatch, arguments, message
):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    code, _, err = triad_curate(*arguments)
    assert code == 2
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert message in line
    assert "Traceback" not in err


def test_a_folder_of_a_long_name_gives_its_beginning(triad_curate, write_nifti, tmp_path):
    write_nifti(tmp_path / ("x" * 250) / "x_T2w.nii.gz")
    code, _, err = triad_curate(tmp_path / ("x" * 250), tmp_path / "store", "--shape", "24,30,18")
    assert code == 0, err
    assert set(pd.read_csv(tmp_path / "store" / "index.csv")["dataset"]) == {"x" * 64}
    code, _, err = triad_curate(tmp_path, tmp_path / "store", "--dataset", "x" * 65)
    assert code == 2
    assert err == "error: --dataset: expected at most 64 letters, got 65\n"
