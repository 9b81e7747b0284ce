"""Folders of ONNX with a runner, and of TorchScript."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import SimpleITK
import torch
from torch import nn

from nnunet_triad.errors import UserError
from nnunet_triad.export import cli, networks
from nnunet_triad.export.model_folder import read_model
from tests.export.conftest import write_images
from tests.export.test_predict import theirs

# What the runner must not need; SciPy, too, is not asked for.
BLOCKED = ("torch", "nnunetv2", "nnunet_triad", "scipy", "monai", "nibabel", "skimage", "onnx")


def export(folder: Path, output: Path, to: str, *options: str) -> None:
    cli.app([str(folder), str(output), "--format", to, *options], standalone_mode=False)


def run_alone(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the runner where nothing of `BLOCKED` can be imported."""
    hidden = folder.parent / "hidden"
    hidden.mkdir(exist_ok=True)
    (hidden / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {BLOCKED!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    alone = {"PYTHONPATH": str(hidden), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", "import torch"], env=alone, capture_output=True)
    assert b"ModuleNotFoundError: torch" in done.stderr
    return subprocess.run(
        [sys.executable, folder / "predict.py", *arguments],
        env=alone,
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_runner_alone_gives_nnunet_s_labels(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_model("nnUNetTrainerScratchUNet", folds=(0, 1))
    fine = {"spacing": (0.7, 0.7, 0.7), "size": (24, 20, 26)}
    files = write_images(tmp_path / "images", name="a", **fine)
    write_images(tmp_path / "images", name="b", seed=1)
    output = tmp_path / "exported"
    export(folder, output, "onnx")
    assert sorted(path.name for path in output.iterdir()) == [
        *("fold_0.onnx", "fold_1.onnx", "model.json", "predict.py")
    ]
    assert capsys.readouterr().out.count("checked, largest difference") == 2
    done = run_alone(output, tmp_path / "images", "-o", tmp_path / "labels")
    assert done.returncode == 0, done.stderr
    assert "2/2 b: window" in done.stderr
    model = read_model(folder)
    expected = theirs(model, files, tmp_path)
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "labels/a.nii.gz")))
    assert len(np.unique(expected)) > 1
    assert np.mean(found == expected) >= 0.9999

    labels = tmp_path / "one.nrrd"
    done = run_alone(output, *files, "-o", labels, "--folds", "1", "--no-mirroring", "--step", "1")
    assert done.returncode == 0, done.stderr
    assert SimpleITK.ReadImage(str(labels)).GetSize() == fine["size"]
    before = labels.stat().st_mtime_ns
    done = run_alone(output, *files, "-o", labels, "--continue")
    assert (done.returncode, labels.stat().st_mtime_ns) == (0, before)

    for arguments, message in (
        ((*files, "-o", labels, "--folds", "7"), "folds: expected some of 0, 1, got 7"),
        ((files[0], "-o", labels), "images: expected 2 (MRI0, MRI1), got 1"),
        ((tmp_path, "-o", labels), "expected files such as CASE_0000.nii.gz, got none"),
        ((*files, "-o", labels, "--step", "0"), "--step: expected above 0 and at most 1"),
    ):
        done = run_alone(output, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr


def test_exported_network_takes_and_gives_what_the_json_says(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    export(make_model("nnUNetTrainerScratchResEncM"), tmp_path / "exported", "onnx")
    about = json.loads((tmp_path / "exported" / "model.json").read_text())
    session = onnxruntime.InferenceSession(tmp_path / "exported" / "model.onnx")
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    assert about["network_input"] == {"name": given.name, "shape": given.shape, "dtype": "float32"}
    assert about["network_output"]["shape"] == result.shape == [1, 3, 8, 12, 16]
    assert about["networks"][0]["file"] == "model.onnx"
    assert about["opset"] == 18


def test_torchscript_computes_the_same_on_another_window(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_model("nnUNetTrainerScratchUNet", folds=(0, 1))
    export(folder, tmp_path / "exported", "torchscript", "--folds", "1")
    module = torch.jit.load(tmp_path / "exported" / "model.pt")
    model = read_model(folder)
    window = model.example(5)
    torch.testing.assert_close(module(window), model.load("1")(window))
    about = json.loads((tmp_path / "exported" / "model.json").read_text())
    assert about["normalization"][1]["mean"] == 90
    assert about["networks"][0]["fold"] == "1"


def test_network_that_computes_otherwise_is_not_exported(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(network: nn.Module, image: torch.Tensor, path: Path) -> networks.Run:
        path.touch()
        return lambda window: network(window) + 1

    monkeypatch.setattr(networks, "_write_traced", write)
    with pytest.raises(UserError, match=r"got some that differ by 1 of .*; not exported"):
        export(make_model("nnUNetTrainerScratchUNet"), tmp_path / "exported", "torchscript")
    assert not [path for path in tmp_path.iterdir() if "exported" in path.name]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"reader": "Tiff3DIO"}, "image_reader_writer: expected SimpleITKIO or .*, got Tiff3DIO"),
        ({"resampling": "resample_torch_simple"}, "resampling_fn_data: expected .*torch_simple"),
    ],
)
def test_plan_that_the_runner_cannot_follow_is_refused(
    plan: dict[str, str], message: str, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        export(make_model("nnUNetTrainerScratchUNet", **plan), tmp_path / "exported", "onnx")
    assert not (tmp_path / "exported").exists()


@pytest.mark.long
@pytest.mark.parametrize("network", ["SwinT", "SwinBv1", "MedNeXtS", "PrimusM"])
@pytest.mark.parametrize("to", ["onnx", "torchscript"])
def test_every_family_leaves(
    network: str, to: str, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_model(f"nnUNetTrainerScratch{network}", patch=(32, 32, 40))
    if (network, to) == ("MedNeXtS", "torchscript"):
        with pytest.raises(UserError, match=r"PyTorch can trace.*; use --format onnx"):
            export(folder, tmp_path / "exported", to)
        return
    export(folder, tmp_path / "exported", to)  # which compares the logits
    assert (tmp_path / "exported" / "model.json").is_file()


def test_what_a_kill_left_is_gone_after_the_next_export(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    killed = (
        "import os, pathlib, sys\n"
        "from nnunet_triad.export.networks import _folder\n"
        "with _folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'fold_9.pt').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", killed, output], check=False)
    assert done.returncode == -9
    assert not output.exists()
    assert list(tmp_path.rglob("fold_9.pt"))

    export(make_model("nnUNetTrainerScratchUNet"), output, "torchscript")

    assert [path.name for path in tmp_path.glob("*out*")] == ["out"]
    assert sorted(path.name for path in output.iterdir()) == ["model.json", "model.pt"]


def test_two_exports_to_one_folder_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with (
        networks._folder(output),
        pytest.raises(UserError, match="another process exports to it"),
        networks._folder(output),
    ):
        pass
