"""`triad-weights`, as a user types it."""

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from nnunet_triad.architectures import build_encoder, encoder_spec, plainconv_spec
from nnunet_triad.training import memory_estimate
from nnunet_triad.weights.cli import main
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.locate import load_weights
from tests.commands import exit_code
from tests.nnunet_plans import REQUIRES_IMPORT, layers

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = exit_code(main, "triad-weights", *arguments)
        return code, *capsys.readouterr()

    return call


def check_error(result: tuple[int, str, str], *parts: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(part in err for part in parts), err


@pytest.fixture
def swin_t(tmp_path: Path) -> Path:
    path = tmp_path / "triad_swin_t.safetensors"
    spec = encoder_spec("swin_t")
    save_weights(path, build_encoder(spec), WeightsInfo(spec=spec, pretraining_steps=1234))
    return path


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnUNet_preprocessed with the plans of a dataset of four channels, as nnU-Net writes them."""
    folder = tmp_path / "preprocessed" / "Dataset501_BraTS21"
    folder.mkdir(parents=True)
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 4,
            "features_per_stage": [32, 64, 128, 256],
            "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]],
            "n_conv_per_stage": [2] * 4,
            "n_conv_per_stage_decoder": [2] * 3,
            **layers(),
        },
        "_kw_requires_import": REQUIRES_IMPORT,
    }
    settings = {
        "batch_size": 2,
        "patch_size": [32, 64, 32],
        "spacing": [1, 1, 1],
        "data_identifier": "nnUNetPlans_3d_fullres",
        "normalization_schemes": ["ZScoreNormalization"] * 4,
        "use_mask_for_norm": [False] * 4,
        "architecture": architecture,
    }
    plans = {
        "dataset_name": folder.name,
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "transpose_forward": [0, 1, 2],
        "configurations": {"3d_fullres": settings, "2d": {**settings, "patch_size": [32, 64]}},
    }
    channels = {str(number): "MRI" for number in range(4)}
    labels = {"background": 0, "tumour": 1}
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(
        json.dumps({"channel_names": channels, "labels": labels, "file_ending": ".nii.gz"})
    )
    monkeypatch.setenv("nnUNet_preprocessed", str(folder.parent))
    monkeypatch.delenv("TRIAD_WEIGHTS", raising=False)
    return folder


def test_show_prints_architecture_size_and_hash(run: Run, swin_t: Path) -> None:
    shown = json.loads(run("show", swin_t, "--json")[1])
    assert shown["architecture"] == "swin_t"
    assert shown["parameters"] == load_weights(swin_t).num_parameters
    assert shown["pretraining_steps"] == 1234
    assert shown["use_v2"] is True
    assert len(shown["sha256"]) == 64


def test_show_tells_whose_checkpoint_it_is(run: Run, published: Callable[[str], Path]) -> None:
    code, out, _ = run("show", published("suprem"), "--tensors")
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert code == 0
    assert lines["source"] == "suprem"
    assert lines["licence"] == "CC BY-NC-ND 4.0"
    assert lines["use_v2"] == "no"
    assert lines["patch_embed.proj.weight"] == "12x1x2x2x2"


@pytest.mark.skipif(
    not memory_estimate.can_fake_gpu(), reason="this PyTorch needs a real GPU for it"
)
def test_check_reports_the_transfer_and_the_memory_of_each_network(
    run: Run, dataset: Path, swin_t: Path
) -> None:
    code, out, _ = run(
        "check", swin_t, "-d", 501, "-tr", "nnUNetTrainerTriadSwinT_frozen", "--json"
    )
    report = json.loads(out)
    assert code == 0
    assert list(report["adaptations"].values()) == ["1 -> 4 input channels"]
    assert report["fresh"]["tensors"] == 0
    memory = report["gpu_memory"]
    assert list(memory)[:6] == ["UNet", "UNetT", "SwinT", "SwinB", "SwinL", "SwinH"]
    totals = [memory[name]["total"] for name in ("SwinT", "SwinB", "SwinL", "SwinH")]
    assert totals == sorted(totals)
    for parts in memory.values():  # what nnU-Net publishes is 1.20 to 1.34 times such a count
        counted = parts["total"] + 10**9
        assert parts["low"] / counted == pytest.approx(7.7 / 5.9 - 0.105, abs=0.01)
        assert parts["high"] / counted == pytest.approx(22.7 / 17, abs=0.01)
    # Swin-H: weights, gradients and momentum of 1160.84 million parameters in fp32
    assert memory["SwinH"]["total"] > 3 * 4 * 1160.84e6


def test_check_prints_the_report_that_a_training_logs(
    run: Run, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = encoder_spec("unet")
    path = tmp_path / "triad_unet.safetensors"
    save_weights(path, build_encoder(spec), WeightsInfo(spec=spec))
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path))
    code, out, _ = run("check", "-d", dataset.name, "-tr", "nnUNetTrainerTriadUNet", "--no-memory")
    assert code == 0
    assert "1 -> 4 input channels, kernel 3x3x3 -> 1x3x3" in out
    assert load_weights(path).sha256 in out
    assert "100.0% of the encoder comes from the file" in out
    assert "GPU memory" not in out


def test_check_leaves_the_first_layer_alone_where_that_is_wanted(
    run: Run, dataset: Path, tmp_path: Path
) -> None:
    spec = encoder_spec("swin_t")
    info = WeightsInfo(spec=spec, intensity_normalization="window -175 250")
    path = tmp_path / "triad_swin_t.safetensors"
    save_weights(path, build_encoder(spec), info)
    plans = json.loads((dataset / "nnUNetPlans.json").read_text())
    scan = {"mean": 80.0, "std": 60.0, "percentile_00_5": -160.0, "percentile_99_5": 240.0}
    plans["foreground_intensity_properties_per_channel"] = {str(n): scan for n in range(4)}
    for settings in plans["configurations"].values():
        settings["normalization_schemes"] = ["CTNormalization"] * 4
    (dataset / "nnUNetPlans.json").write_text(json.dumps(plans))
    arguments = ("check", path, "-d", dataset.name, "--no-memory")
    mapped = run(*arguments, "-tr", "nnUNetTrainerTriadSwinT")[1]
    left = run(*arguments, "-tr", "nnUNetTrainerTriadSwinT", "--no-intensity")[1]
    as_suffix = run(*arguments, "-tr", "nnUNetTrainerTriadSwinT_asis")[1]
    assert left == as_suffix
    assert "x 0.141 +0.6" in mapped  # (60 z + 80 + 175) / 425
    assert "that is not made good" in left


def test_check_goes_on_where_memory_cannot_be_counted(
    run: Run, dataset: Path, swin_t: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_estimate, "can_fake_gpu", lambda: False)
    arguments = ("check", "-d", dataset.name, "-tr", "nnUNetTrainerTriadSwinT", swin_t)
    code, out, _ = run(*arguments)
    assert code == 0
    assert "of the encoder comes from the file" in out
    assert out.rstrip().splitlines()[-1].startswith("GPU memory was not counted: torch: expected")
    code, out, err = run(*arguments, "--json")
    assert code == 0
    assert json.loads(out)["gpu_memory"] == {}
    assert "GPU memory was not counted" in err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("-d", 502, "-tr", "nnUNetTrainerTriadSwinT"), ("-d: expected one folder Dataset502_*",)),
        (("-d", "/a", "-tr", "nnUNetTrainerTriadSwinT"), ("-d: expected one folder /a in",)),
        (("-d", 501, "-tr", "nnUNetTrainerTriadSwinX"), ("-tr: expected", "SwinX")),
        (
            ("-d", 501, "-tr", "nnUNetTrainerTriadSwinT_foo"),
            ("got nnUNetTrainerTriadSwinT_foo: no suffix _foo here; suffixes of", "_foo", "1epoch"),
        ),
        (("-d", 501, "-tr", "nnUNetTrainerScratchSwinT"), ("takes weights", "drop Scratch")),
        (("-d", 501, "-tr", "nnUNetTrainerTriadSwinT_1epoch_quick"), ("_1epoch and _quick",)),
        (
            ("-d", 501, "-tr", "nnUNetTrainerTriadSwinB"),
            ("weights of swin_b", "got swin_t", "use nnUNetTrainerTriadSwinT, or a file of swin_b"),
        ),
        (("-d", 501, "-tr", "nnUNetTrainerVoCoSwinT"), ("by voco, got triad's", "Triad trainer")),
        (("-d", 501, "-tr", "nnUNetTrainerTriadUNet"), ("weights of unet", "got swin_t")),
        (
            ("-d", 501, "-c", "3d_lowres", "-tr", "nnUNetTrainerTriadSwinT"),
            ("-c: expected one of",),
        ),
        (("-d", 501, "-c", "2d", "-tr", "nnUNetTrainerTriadSwinT"), ("expects a 3D one, got 2D",)),
        (("-d", 501, "-p", "Other", "-tr", "nnUNetTrainerTriadSwinT"), ("-p: expected plans",)),
    ],
)
def test_check_of_something_wrong_is_one_line(
    run: Run, dataset: Path, swin_t: Path, arguments: tuple, parts: tuple[str, ...]
) -> None:
    check_error(run("check", swin_t, *arguments), *parts)


def test_check_of_a_folder_takes_the_file_that_a_training_would(
    run: Run, dataset: Path, swin_t: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swin_t.with_name("notes.txt").touch()
    arguments = ("check", swin_t.parent, "-d", 501, "--no-memory")
    code, out, _ = run(*arguments, "-tr", "nnUNetTrainerTriadSwinT")
    assert code == 0
    assert load_weights(swin_t).sha256 in out
    check_error(
        run(*arguments, "-tr", "nnUNetTrainerVoCoSwinB"),
        "expected voco_swin_b.safetensors or VoCo_B_SSL_head.pt or VoComni_B.pt in it, got a "
        "folder that holds triad_swin_t.safetensors; name the file or "
        "hf://Luffy503/VoCo/VoCo_B_SSL_head.pt",
    )


def test_check_of_a_file_without_a_trainer_says_so(
    run: Run, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = plainconv_spec("unet_w", (24, 48, 96, 192))
    path = tmp_path / "triad_unet_w.safetensors"
    save_weights(path, build_encoder(spec), WeightsInfo(spec=spec))
    result = run("check", path, "-d", 501, "-tr", "nnUNetTrainerTriadUNet")
    check_error(result, "got unet_w", "no nnU-Net trainer takes unet_w, use a file of unet")
    assert "TRIAD_WEIGHTS" not in result[2]
    monkeypatch.setenv("TRIAD_WEIGHTS", str(path))
    again = run("check", "-d", 501, "-tr", "nnUNetTrainerTriadUNet")
    check_error(again, "no nnU-Net trainer takes unet_w")


def test_check_without_nnunet_s_folder_names_it(
    run: Run, swin_t: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    result = run("check", swin_t, "-d", 501, "-tr", "nnUNetTrainerTriadSwinT")
    check_error(result, "nnUNet_preprocessed: expected a folder")


def test_convert_and_export_write_what_is_read_again(
    run: Run, published: Callable[[str], Path], tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "w.safetensors", tmp_path / "c.pth"
    assert run("convert", published("nnssl resenc"), ours)[:2] == (0, f"{ours}\n")
    assert run("export", ours, theirs, "--input-channels", 2)[:2] == (0, f"{theirs}\n")
    assert load_weights(theirs).info.input_channels == 2
    assert load_weights(ours).info.source == load_weights(theirs).info.source == "nnssl"


def test_file_that_is_read_is_not_replaced(
    run: Run, published: Callable[[str], Path], swin_t: Path, tmp_path: Path
) -> None:
    before = swin_t.read_bytes()
    link = tmp_path / "link.safetensors"
    link.symlink_to(swin_t)
    for output in (swin_t, link):
        result = run("convert", swin_t, output, "--input-channels", 4)
        check_error(result, "expected an output that is none of the inputs")
    assert swin_t.read_bytes() == before
    checkpoint = tmp_path / "resenc.pth"
    shutil.copy(published("nnssl resenc"), checkpoint)
    check_error(run("export", checkpoint, checkpoint), "none of the inputs")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("show", "none.pt"), "got nothing at that path; check it, or name weights on the Hugging"),
        (("show", "."), "got a folder that holds triad_swin_t.safetensors; name the file"),
        (("show", "/"), "expected a weights file, got a folder without any; name the file"),
        (("show", "hf://lab"), "expected hf://ORG/NAME"),
        (("convert", "FILE", "w.pth"), "OUTPUT: expected NAME.safetensors, got w.pth"),
        (("export", "FILE", "w.pth"), "expected a PlainConv or ResEnc encoder"),
        (("export", "FILE", "w.pth", "--format", "onnx"), "--format: expected nnssl, got onnx"),
        (("push", "FILE", "noslash"), "expected hf://ORG/NAME"),
    ],
)
def test_wrong_input_is_one_line(
    run: Run, swin_t: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, part
) -> None:
    monkeypatch.chdir(tmp_path)
    check_error(run(*(swin_t if word == "FILE" else word for word in arguments)), part)


def test_pickle_with_code_is_one_line(run: Run, tmp_path: Path) -> None:
    torch.save({"state_dict": Fraction(1, 2)}, tmp_path / "c.pt")
    check_error(
        run("show", tmp_path / "c.pt"), "code of its own to load, fractions.Fraction, which"
    )
