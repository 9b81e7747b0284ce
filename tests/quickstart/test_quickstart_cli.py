"""What the quickstart refuses and says, and the whole way, on boxes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnunet_triad.evaluation import read_results
from nnunet_triad.quickstart import cli
from tests.commands import exit_code


@pytest.fixture
def run(boxes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command on the boxes without running its steps; return code, output and errors."""
    monkeypatch.setattr(cli, "run_steps", lambda *_, **__: None)
    monkeypatch.setattr(cli, "_conclude", lambda *_: None)

    def call(*options: str, images: str = "unlabelled", output: str = "out"):
        words = [boxes / images, boxes / "labelled", boxes / output, *options, "--device", "cpu"]
        code = exit_code(cli.main, "triad-quickstart", *words)
        return code, *capsys.readouterr()

    return call


def check_refused(result, *texts: str) -> None:
    code, _, errors = result
    assert code == 2, errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    for text in texts:
        assert text in errors


def test_what_is_done_and_left_out_is_said_before_it_begins(run, boxes: Path) -> None:
    code, out, errors = run()
    assert not code, errors
    assert "Labelled cases: 2, 1 channel each. Images of about 32 x 40 x 24 voxels." in out
    assert "The log-ratio loss is left out. These images come without descriptions" in out
    assert "On this CPU, if it is idle: about" in out
    assert "export nnUNet_def_n_proc=" in out
    begun = json.loads((boxes / "out" / "quickstart.json").read_text())
    assert (begun["encoder"], begun["variant"], begun["steps"]) == ("unet_t", "_demo", 300)


def test_same_command_goes_on_and_another_one_is_refused(run, boxes: Path) -> None:
    assert not run("--steps", "5")[0]
    assert not run("--steps", "5")[0]
    check_refused(run("--steps", "6"), "--steps: expected 5, with which", "choose another OUTPUT")
    shutil.copytree(boxes / "unlabelled", boxes / "others")
    check_refused(run("--steps", "5", images="others"), "IMAGES: expected", "unlabelled", "others")


def test_folder_with_other_files_is_refused_and_left_alone(run, boxes: Path) -> None:
    (boxes / "out").mkdir()
    (boxes / "out" / "thesis.txt").write_text("mine")
    check_refused(run(), "expected a new or an earlier quickstart's folder, got other files")
    assert (boxes / "out" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("output", ["unlabelled/out", "labelled", "."])
def test_output_among_the_images_is_refused(run, output: str) -> None:
    check_refused(run(output=output), "OUTPUT: expected a folder outside of")


def test_missing_and_empty_folders_are_named(run, boxes: Path) -> None:
    check_refused(run(images="nowhere"), "IMAGES: expected a folder", "nowhere")
    (boxes / "notes").mkdir()
    (boxes / "notes" / "readme.txt").write_text("no image")
    check_refused(run(images="notes"), "IMAGES: expected images", "got none")


def test_missing_labels_and_a_single_case_are_refused(run, boxes: Path) -> None:
    labels = boxes / "labelled" / "labelsTr"
    (labels / "box_3.nii.gz").unlink()
    check_refused(run(), "LABELLED: expected at least 2 cases", "got box_4 alone")
    shutil.rmtree(labels)
    check_refused(run(), "expected labels beside the images")


def test_labelled_image_among_the_unlabelled_is_refused(run, boxes: Path) -> None:
    copy = boxes / "unlabelled" / "another_name.nii.gz"
    shutil.copy(boxes / "labelled" / "imagesTr" / "box_3_0000.nii.gz", copy)
    check_refused(run(), "IMAGES: expected other images than LABELLED's", "another_name.nii.gz")


def test_subject_in_both_folders_is_refused(run, boxes: Path) -> None:
    for folder, name in (("unlabelled", "scan_0.nii.gz"), ("labelled", "imagesTr")):
        (boxes / folder / "sub-07").mkdir()
        (boxes / folder / name).rename(boxes / folder / "sub-07" / name)
    (boxes / "labelled" / "labelsTr").rename(boxes / "labelled" / "sub-07" / "labelsTr")
    check_refused(run(), "IMAGES: expected other subjects than LABELLED's", "sub-07 in both")


def test_case_that_is_named_as_an_unlabelled_image_is_warned_of(run, boxes: Path) -> None:
    (boxes / "unlabelled" / "scan_0.nii.gz").rename(boxes / "unlabelled" / "box_3.nii.gz")
    code, out, _ = run()
    assert not code
    assert "Warning: 1 labelled cases are named as unlabelled images are (box_3)" in out


def test_published_encoder_brings_its_architecture(run, boxes: Path) -> None:
    assert not run("--init", "voco-b")[0]
    assert not run("--init", "triad-mini", output="mini")[0]
    assert json.loads((boxes / "out" / "quickstart.json").read_text())["encoder"] == "swin_b"
    check_refused(run("--init", "voco-b", "--encoder", "unet", output="two"), "--encoder: expected")
    check_refused(run("--init", "nothing.pt", output="three"), "expected a weights file")


@pytest.mark.parametrize("variant", ["demo", "_nothing", "_demo_"])
def test_variant_that_no_trainer_has_is_refused_at_once(run, variant: str) -> None:
    check_refused(run("--variant", variant), "--variant: expected nothing, or suffixes as _demo")


@pytest.mark.long
def test_whole_way_ends_in_a_report_also_after_a_kill(boxes: Path) -> None:
    words = [boxes / "unlabelled", boxes / "labelled", boxes / "out", "--device", "cpu"]
    options = ("--steps", "2", "--variant", "_quick")
    code = "from nnunet_triad.quickstart.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, words), *options]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    while not (boxes / "out" / "nnUNet_preprocessed").exists():
        assert first.poll() is None
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "done before" in done.stdout
    assert "on 2 cases: too few cases to say (fewer than 6)" in done.stdout
    tables = [read_results(path) for path in (boxes / "out/benchmark/results").glob("*.csv")]
    cases = sorted(case for table in tables for case in table["case"])
    assert cases == ["box_3", "box_3", "box_4", "box_4"]  # each once by both initialisations
    page = (boxes / "out" / "report.html").read_text()
    assert "4 of 4 planned runs are finished" in page
    assert "too few cases to say" in page
