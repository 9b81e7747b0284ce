import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from matplotlib.figure import Figure

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.evaluation import read_results
from nnunet_triad.weights.file import WeightsInfo, save_weights
from registration.cli import main
from registration.manifest import Pair, write_manifest
from registration.model_file import load_model
from tests.commands import exit_code
from tests.layouts.registration import write_acdc
from tests.registration.heads import save


def run(capsys, *arguments):
    """Run the command; return its output."""
    code = exit_code(main, "triad-register", *arguments)
    found = capsys.readouterr()
    assert code == 0, found.err
    return found.out


def fail(capsys, *arguments):
    """Run the command with something wrong; return its one line."""
    assert exit_code(main, "triad-register", *arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


def test_two_files_are_registered_and_everything_is_written(
    pair_files, model_file, tmp_path, capsys
):
    out = tmp_path / "out"
    points = tmp_path / "points.csv"
    points.write_text("name,x,y,z\na,5,2,-4\nb,20,10,0\nfar,900,0,0\n")
    text = run(
        capsys, "apply", pair_files["moving"], pair_files["fixed"],
        "--model", model_file, "-o", out / "warped.nii.gz",
        "--displacement", out / "field.nii.gz", "--inverse",
        "--labels", pair_files["moving_labels"], "--fixed-labels", pair_files["fixed_labels"],
        "--points", points, "--affine", "moments", "--refine", 2,
    )  # fmt: skip
    for word in ("mean Dice:", "before", "after", "folding:", "inverse:", "peak memory"):
        assert word in text
    names = {path.name for path in out.iterdir()}
    assert names == {
        "warped.nii.gz", "warped.png", "warped.json", "warped_labels.nii.gz", "warped_points.csv",
        "field.nii.gz", "field_inverse.nii.gz", "field.json", "field_inverse.json",
    }  # fmt: skip
    field = sitk.DisplacementFieldTransform(
        sitk.ReadImage(str(out / "field.nii.gz"), sitk.sitkVectorFloat64)
    )
    moving = sitk.ReadImage(str(pair_files["moving"]), sitk.sitkFloat32)
    fixed = sitk.ReadImage(str(pair_files["fixed"]))
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, field, sitk.sitkLinear)).T
    np.testing.assert_allclose(nib.load(out / "warped.nii.gz").get_fdata(), theirs, atol=0.01)
    report = json.loads((out / "warped.json").read_text())
    assert set(report["dice"]) == {"before", "affine", "after"}
    moved = pd.read_csv(out / "warped_points.csv")
    assert moved["name"].tolist() == ["a", "b", "far"]
    assert moved.loc[2, ["x", "y", "z"]].isna().all()
    for row, start in zip(moved.itertuples(), ((5, 2, -4), (20, 10, 0)), strict=False):
        back = field.TransformPoint((-row.x, -row.y, row.z))
        assert np.linalg.norm(np.array(back) * (-1, -1, 1) - start) < 3


def test_field_is_applied_by_warp_and_checked_against_the_fixed_image(
    pair_files, model_file, tmp_path, capsys
):
    base = (
        "apply",
        pair_files["moving"],
        pair_files["fixed"],
        "--model",
        model_file,
        "--no-picture",
    )
    run(
        capsys,
        *base,
        "-o",
        tmp_path / "w.nii.gz",
        "--displacement",
        tmp_path / "f.nii.gz",
        "--affine",
        "none",
    )
    again = ("warp", pair_files["moving"], tmp_path / "f.nii.gz", "-o", tmp_path / "again.nii.gz")
    run(capsys, *again, "--fixed", pair_files["fixed"])
    one, other = (nib.load(tmp_path / f"{name}.nii.gz").get_fdata() for name in ("w", "again"))
    np.testing.assert_allclose(one, other, atol=1e-3)
    image = nib.load(pair_files["fixed"])
    smaller = tmp_path / "smaller.nii.gz"
    nib.save(image.slicer[:-2], smaller)
    line = fail(capsys, *again, "--fixed", smaller)
    assert "expected the grid of" in line


@pytest.fixture
def apply_command(pair_files, model_file):
    """The arguments of an `apply` without its output."""
    files = (pair_files["moving"], pair_files["fixed"])
    return ("apply", *files, "--model", model_file, "--affine", "none")


@pytest.mark.parametrize(
    ("output", "options"),
    [
        ("moving.nii.gz", ()),
        ("out/../fixed.nii.gz", ()),
        ("link.nii.gz", ()),
        ("moving.nii.gz", ("--labels", "moving_labels.nii.gz")),
        ("w.nii.gz", ("--displacement", "moving.nii.gz")),
        ("w.nii.gz", ("--displacement", "fixed.nii.gz", "--inverse")),
    ],
)
def test_input_is_no_output(
    output, options, apply_command, pair_files, tmp_path, monkeypatch, capsys
):
    (tmp_path / "out").mkdir()
    (tmp_path / "link.nii.gz").symlink_to(pair_files["moving"])
    before = {path: path.read_bytes() for path in tmp_path.glob("*.nii.gz")}
    monkeypatch.chdir(tmp_path)

    line = fail(capsys, *apply_command, "-o", output, *options)

    assert "expected an output that is none of the inputs" in line
    assert {path: path.read_bytes() for path in tmp_path.glob("*.nii.gz")} == before
    assert not list(tmp_path.glob("*.json")) + list(tmp_path.glob("*.png"))


def test_field_that_is_read_is_no_output_of_warp(pair_files, tmp_path, monkeypatch, capsys):
    moving, fixed = pair_files["moving"], pair_files["fixed"]
    for output in (moving, fixed, "../" + tmp_path.name + "/moving.nii.gz"):
        monkeypatch.chdir(tmp_path)
        arguments = ("warp", moving, fixed, "--fixed", fixed, "-o", output)
        assert "none of the inputs" in fail(capsys, *arguments)


@pytest.mark.parametrize("content", ['{"EchoTime": 0.003}', "[1, 2]", "no JSON"])
def test_sidecar_of_another_program_is_kept(content, apply_command, tmp_path, capsys):
    (tmp_path / "w.json").write_text(content)
    line = fail(capsys, *apply_command, "-o", tmp_path / "w.nii.gz")
    assert "w.json: expected no file, or a report of triad-register, got another one" in line
    assert (tmp_path / "w.json").read_text() == content
    assert not (tmp_path / "w.nii.gz").exists()


def test_picture_of_another_program_is_kept(apply_command, tmp_path, capsys):
    Figure().savefig(tmp_path / "w.png")
    content = (tmp_path / "w.png").read_bytes()
    line = fail(capsys, *apply_command, "-o", tmp_path / "w.nii.gz")
    assert "w.png: expected no file, or a picture that triad-register drew" in line
    assert (tmp_path / "w.png").read_bytes() == content


def test_same_command_replaces_its_own_results(apply_command, tmp_path, capsys):
    for _ in range(2):
        run(capsys, *apply_command, "-o", tmp_path / "w.nii.gz")
    assert (tmp_path / "w.png").is_file()


def test_evaluation_replaces_neither_manifest_nor_pictures_of_others(pair_files, tmp_path, capsys):
    manifest = tmp_path / "pairs.csv"
    write_manifest(manifest, [Pair(**pair_files, split="test")])
    command = ("evaluate", manifest, "--reference", "before", "-o")
    assert "none of the inputs" in fail(capsys, *command, manifest)
    (tmp_path / "results_dice.png").write_bytes(b"mine")
    line = fail(capsys, *command, tmp_path / "results.csv")
    assert "results_dice.png: expected no file, or a picture" in line
    assert not (tmp_path / "results.csv").exists()


def test_training_evaluation_and_comparison_run_as_commands(pair_files, tmp_path, capsys):
    pair = Pair(**pair_files)
    manifest = tmp_path / "pairs.csv"
    write_manifest(manifest, [pair, replace(pair, split="val"), replace(pair, split="test")])
    common = ("--network", "transmorph_t", "--epochs", 1, "--half-resolution", "--device", "cpu")
    text = run(capsys, "train", manifest, tmp_path / "run", *common)
    assert "model.safetensors" in text
    results = tmp_path / "results.csv"
    text = run(
        capsys, "evaluate", manifest, "-o", results, "--model", tmp_path / "run",
        "--reference", "before", "--device", "cpu",
    )  # fmt: skip
    assert "transmorph_t scratch: dice" in text
    table = read_results(results)
    assert set(table["architecture"]) == {"before", "transmorph_t"}
    assert {"dice", "dice_linear", "hd95", "sdlogj", "non_positive_jacobian"} <= set(
        table["metric"]
    )
    assert {path.name for path in tmp_path.glob("results_*.png")} == {
        "results_dice.png", "results_hd95.png", "results_overlay.png",
    }  # fmt: skip
    text = run(capsys, "compare", results, "transmorph_t/scratch", "before/none")
    assert "Wilcoxon" in text
    assert load_model(tmp_path / "run")[1].settings.intensity == "unit"


@pytest.mark.parametrize(("options", "expected"), [((), "zscore"), (("unit",), "unit")])
def test_the_networks_intensities_follow_the_weights(
    options, expected, pair_files, tmp_path, monkeypatch, capsys
):
    spec = encoder_spec("swin_t")
    info = WeightsInfo(spec=spec)
    save_weights(tmp_path / "triad_swin_t.safetensors", build_encoder(spec), info)
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path))
    write_manifest(tmp_path / "pairs.csv", [Pair(**pair_files)])
    given = ("--intensity", *options) if options else ()

    run(
        capsys, "train", tmp_path / "pairs.csv", tmp_path / "run", "--epochs", 1,
        "--network", "swinunetr_t", "--init", "triad", "--half-resolution",
        "--device", "cpu", *given,
    )  # fmt: skip

    network, info = load_model(tmp_path / "run")
    assert info.settings.intensity == expected
    assert network.is_standardized == (expected == "zscore")


def test_dataset_is_prepared_by_command(tmp_path, capsys):
    source = write_acdc(tmp_path)
    text = run(capsys, "prepare", "acdc", tmp_path / "out", "--source", source)
    assert "1 train, 2 val, 1 test" in text
    assert (tmp_path / "out" / "manifest.csv").is_file()


def test_wrong_input_is_one_line(pair_files, model_file, tmp_path, capsys):
    moving, fixed = pair_files["moving"], pair_files["fixed"]
    out = ("-o", tmp_path / "w.nii.gz")
    model = ("--model", model_file)
    slices = save(tmp_path / "2d.nii.gz", _Flat())
    for arguments, message in (
        (
            ("apply", tmp_path / "no.nii.gz", fixed, *model, *out),
            "of one number a voxel, got no file; check its path",
        ),
        (("apply", slices, fixed, *model, *out), "expected a 3D volume of at least 4 voxels"),
        (
            ("apply", moving, fixed, "--model", tmp_path / "no", *out),
            "expected a model of triad-register",
        ),
        (
            ("apply", moving, fixed, *model, "-o", tmp_path / "w.txt"),
            "expected an output that ends in",
        ),
        (
            ("apply", moving, fixed, *model, *out, "--affine", "b-spline"),
            "affine: expected none, moments",
        ),
        (("apply", moving, fixed, *model, *out, "--inverse"), "inverse: expected --displacement"),
        (
            ("apply", moving, fixed, *model, *out, "--fixed-labels", pair_files["fixed_labels"]),
            "fixed-labels: expected --labels LABELS beside it, got none",
        ),
        (
            ("apply", moving, fixed, *model, *out, "--labels", moving),
            "expected labels, whole numbers",
        ),
        (
            ("apply", moving, fixed, *model, *out, "--points", moving),
            "columns x, y, z (mm), got a binary",
        ),
        (
            ("apply", moving, fixed, *model, *out, "--device", "tpu"),
            "device: expected cpu, cuda or mps, got tpu",
        ),
        (("warp", moving, moving, *out), "expected a displacement field"),
        (("train", tmp_path / "no.csv", tmp_path / "r"), "expected a manifest"),
        (("train", moving, tmp_path / "r"), "expected a manifest"),
        (("train", moving, tmp_path / "r", "--preset", "brats"), "preset: expected one of ixi"),
        (
            ("train", moving, tmp_path / "r", "--spacing", "1,2"),
            "spacing: expected one number, or three as X,Y,Z",
        ),
        (("train", moving, tmp_path / "r", "--network", "vxm"), "network: expected one of"),
        (("evaluate", moving, *out), "model: expected --model or --reference"),
        (
            ("evaluate", moving, *out, "--split", "dev", *model),
            "split: expected train, val or test",
        ),
        (("compare", tmp_path / "no.csv", "a/b", "c/d"), "expected a results table"),
        (("prepare", "lpba", tmp_path, "--source", tmp_path), "dataset: expected one of"),
        (
            ("prepare", "ixi", tmp_path, "--source", tmp_path / "no"),
            "expected the dataset's folder",
        ),
    ):
        assert message in fail(capsys, *arguments)


def test_labels_on_another_grid_are_refused(pair_files, model_file, tmp_path, capsys):
    image = nib.load(pair_files["moving_labels"])
    nib.save(image.slicer[2:], tmp_path / "cut.nii.gz")
    line = fail(
        capsys, "apply", pair_files["moving"], pair_files["fixed"],
        "--model", model_file, "-o", tmp_path / "w.nii.gz", "--labels", tmp_path / "cut.nii.gz",
    )  # fmt: skip
    assert "expected the grid of its image" in line


class _Flat:
    """A two-dimensional image."""

    voxels = np.ones((20, 30), dtype=np.float32)
    affine = np.eye(4)


def test_missing_memory_is_told_in_one_line(
    pair_files, apply_command, model_file, tmp_path, monkeypatch, capsys
):
    def allocate(*_, **__):
        raise MemoryError("Unable to allocate 7.45 GiB for an array")

    monkeypatch.setattr("registration.apply_command.register", allocate)
    monkeypatch.setattr("registration.references.register", allocate)
    manifest = tmp_path / "pairs.csv"
    write_manifest(manifest, [Pair(**pair_files, split="test")])
    for command in (
        (*apply_command, "-o", tmp_path / "w.nii.gz"),
        ("evaluate", manifest, "--model", model_file, "-o", tmp_path / "results.csv"),
    ):
        line = fail(capsys, *command)
        assert "memory: expected enough to go on, got 'Unable to allocate 7.45 GiB" in line
        assert "--device cpu" in line
