"""The command as a user types it: results, maps in the image's space, and one line a mistake."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from classification.cli import main
from classification.model_file import Description, build_network, save_model
from classification.saliency import saliency_map
from classification.settings import PreprocessSettings, TrainSettings
from tests.classification.volumes import draw_volume, write_nifti, write_rows
from tests.commands import exit_code

TINY = ("--encoder", "swin_t", "--size", "32", "--epochs", "1", "--batch-size", "3")
CLASSES = ("bright", "dark", "striped")


@pytest.fixture
def run(capsys):
    """Run the command; return exit code, output and errors."""

    def call(*arguments):
        code = exit_code(main, "triad-classify", *arguments)
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """A model with random weights."""
    settings = TrainSettings(encoder="swin_t", preprocess=PreprocessSettings(size=32))
    description = Description(classes=CLASSES, num_channels=1, initialization="scratch")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    network = build_network(settings, description)
    save_model(path, network, settings, description, epoch=1)
    return path


def test_train_goes_from_a_csv_to_figures(run, manifest_path, tmp_path):
    cache = ("--cache", tmp_path / "cache")
    code, text, _ = run("train", manifest_path, tmp_path / "run", *TINY, *cache)
    assert code == 0
    assert "train: 9 samples of 9 subjects (bright 3, dark 3, striped 3)" in text
    assert "resampled to 32x32x32, RAS" in text
    assert "peak memory" in text
    assert "balanced_accuracy" in text
    assert (tmp_path / "run" / "confusion.png").exists()
    code, text, _ = run("evaluate", tmp_path / "run", manifest_path, "--split", "val",
                        "--output", tmp_path / "val", *cache)  # fmt: skip
    assert code == 0
    assert len(pd.read_csv(tmp_path / "val" / "predictions.csv")) == 3
    kept = (tmp_path / "run" / "predictions.csv").read_bytes()
    for command in ("evaluate", "predict"):
        code, _, line = run(command, tmp_path / "run", manifest_path,
                            "--output", tmp_path / "run", *cache)  # fmt: skip
        assert code == 2
        assert "output: expected another folder than the run's" in line
    assert (tmp_path / "run" / "predictions.csv").read_bytes() == kept


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_saliency_lies_in_the_images_own_space(run, model_path, tmp_path, method):
    affine = np.diag([-2.0, 1.5, 3.0, 1.0])
    affine[:3, 3] = (4, 5, 6)
    image = write_nifti(tmp_path / "a.nii.gz", draw_volume(1, 0), affine)
    code, _, _ = run("predict", model_path, image, "--saliency", method,
                        "--output", tmp_path / "out")  # fmt: skip
    assert code == 0
    found = nib.load(tmp_path / "out" / f"a_000_{method}.nii.gz")
    assert found.shape == (20, 26, 17)
    np.testing.assert_array_equal(found.affine, affine)
    assert found.get_fdata().std() > 0
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table.filter(like="p_").sum(axis=1).iloc[0] == pytest.approx(1)


def test_occlusion_finds_the_voxels_that_a_network_looks_at():
    class Corner(torch.nn.Module):
        """Class 1 by the brightness of one corner."""

        def forward(self, image):
            score = 5 * image[:, :, :8, :8, :8].mean(dim=(1, 2, 3, 4))
            return torch.stack([torch.zeros_like(score), score], dim=1)

    class Holder:
        network = Corner()

    image = torch.zeros(1, 1, 32, 32, 32)
    image[..., :8, :8, :8] = 1
    values = saliency_map(Holder(), image, "occlusion")
    inside, outside = values[:8, :8, :8], values[12:, 12:, 12:]
    assert inside.min() > 0.004
    assert np.abs(outside).max() < 1e-4


@pytest.mark.parametrize(
    ("command", "name"), [("predict", "predictions.csv"), ("evaluate", "metrics.csv")]
)
def test_manifest_is_not_replaced_by_the_results(run, model_path, tmp_path, command, name):
    write_nifti(tmp_path / "a.nii.gz", draw_volume(0, 0))
    manifest = write_rows(tmp_path / name, [("a.nii.gz", "dark", "test", "s")])
    before = manifest.read_bytes()
    code, _, line = run(command, model_path, manifest, "--output", tmp_path)
    assert code == 2
    assert "expected an output that is none of the inputs" in line
    assert manifest.read_bytes() == before


def test_image_is_not_replaced_by_the_map_of_another(run, model_path, tmp_path):
    images = [
        write_nifti(tmp_path / f"{name}.nii.gz", draw_volume(0, 0))
        for name in ("a", "a_000_gradcam")
    ]
    before = images[1].read_bytes()
    code, _, line = run("predict", model_path, *images, "--saliency", "gradcam",
                        "--output", tmp_path)  # fmt: skip
    assert code == 2
    assert "a_000_gradcam.nii.gz: expected an output that is none of the inputs" in line
    assert images[1].read_bytes() == before


def mistakes(folder, manifest_path, model_path):
    """Return arguments and the beginning of the line that they bring about."""
    rgb = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    write_nifti(folder / "rgb.nii.gz", rgb, np.eye(4))
    write_nifti(folder / "flat.nii.gz", np.zeros((4, 5, 6), np.float32))
    write_nifti(folder / "good.nii.gz", draw_volume(0, 0))
    rows = [("good.nii.gz", "other", "test", "s")]
    other = write_rows(folder / "other.csv", rows)
    two = write_rows(folder / "two.csv", [("good.nii.gz|good.nii.gz", "dark", "test", "s")])
    train = ("train", manifest_path)
    return [
        ((*train, "--size", "50"), "--size: expected a multiple of 32"),
        ((*train, "--encoder", "resnet"), "--encoder: expected one of unet"),
        ((*train, "--init", folder / "no.pt"), "--init: expected scratch, a weights file"),
        ((*train, "--mode", "zero-shot"), "--mode: expected finetune, linear-probe or knn"),
        ((*train, "--window", "400"), "--window: expected two numbers as LOW,HIGH"),
        ((*train, "--device", "tpu"), "--device: expected cpu, cuda or mps"),
        ((*train, manifest_path), f"{manifest_path}: expected a folder"),
        (("train", folder / "no.csv"), f"{folder / 'no.csv'}: expected a manifest"),
        (
            ("predict", model_path, folder / "rgb.nii.gz"),
            f"{folder / 'rgb.nii.gz'}: expected a whole",
        ),
        (("predict", model_path, folder / "flat.nii.gz"), f"{folder / 'flat.nii.gz'}: expected an"),
        (("predict", model_path, folder / "no.nii"), "INPUTS: expected files"),
        (("predict", folder / "no.pt", folder / "good.nii.gz"), f"{folder / 'no.pt'}: expected"),
        (("predict", model_path, two), f"{two}: expected 1 channels"),
        (("predict", model_path, folder / "good.nii.gz", "--saliency", "x"), "saliency: expected"),
        (("evaluate", model_path, other), f"{other}: expected labels of bright, dark, striped"),
        (("evaluate", model_path, manifest_path, "--split", "x"), f"{manifest_path}: expected"),
        ((*train, "--preset", "brats"), "--preset: expected one of adni"),
        (("compare", folder), "RUNS: expected two or more"),
        (("prepare", "mnist", "--source", folder, "--output", folder), "DATASET: expected"),
    ]


def test_mistakes_are_one_line_and_exit_code_2(
    run, manifest_path, model_path, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for arguments, line in mistakes(tmp_path, manifest_path, model_path):
        code, _, printed = run(*arguments)
        assert code == 2, (arguments, printed)
        assert printed.splitlines()[-1].startswith(f"error: {line}"), (arguments, printed)
        assert "Traceback" not in printed


def test_missing_weights_are_told_before_any_image_is_read(run, manifest_path, tmp_path):
    init = ("--init", tmp_path / "no.pt")
    code, _, _ = run("train", manifest_path, tmp_path / "run", *init, "--cache", tmp_path / "cache")
    assert code == 2
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--preset", "adni"), (96, None, "natural", None)),
        (("--preset", "organmnist3d"), (64, (0, 255), "natural", None)),
        (("--preset", "luna16"), (64, (-1000, 400), "balanced", 4000)),
        (("--preset", "luna16", "--sampling", "natural", "--size", "32", "--window=0,1"),
         (32, (0, 1), "natural", 4000)),
        ((), (64, None, "natural", None)),
    ],
)  # fmt: skip
def test_preset_fills_what_is_not_given(run, options, expected, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        "classification.commands.train_manifest",
        lambda path, output, settings, **others: asked.append(settings),
    )
    run("train", tmp_path / "m.csv", *options)
    (settings,) = asked
    cube = settings.preprocess
    found = (cube.size, cube.window, settings.sampling, settings.samples_per_epoch)
    assert found == expected
    assert cube.intensity == ("window" if cube.window else "zscore")


def test_help_lists_the_commands(run):
    code, text, _ = run("--help")
    assert code == 0
    assert all(name in text for name in ("train", "predict", "evaluate", "compare", "prepare"))


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_missing_memory_is_told_in_one_line(
    run, model_path, manifest_path, tmp_path, monkeypatch, command
):
    def allocate(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0")

    monkeypatch.setattr("classification.commands.predict_samples", allocate)
    code, _, line = run(command, model_path, manifest_path,
                        "--output", tmp_path / "out", "--cache", tmp_path / "cache")  # fmt: skip
    assert code == 2
    assert "memory: expected enough to go on, got 'CUDA out of memory" in line
    assert line.splitlines()[-1].endswith("try --device cpu, or a machine with more memory")
