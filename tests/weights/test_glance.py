"""A weights file looked at without PyTorch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.weights.cli import main
from nnunet_triad.weights.file import WeightsInfo, encoder_tensors, save_tensors
from nnunet_triad.weights.glance import glance

SPEC = encoder_spec("swin_t")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "triad_swin_t.safetensors"
    save_tensors(path, encoder_tensors(build_encoder(SPEC)), WeightsInfo(spec=SPEC))
    return path


@pytest.mark.parametrize("options", [(), ("--json",), ("--tensors",), ("--json", "--tensors")])
def test_glance_says_what_the_tensors_say(
    file: Path,
    options: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = []
    for look in (glance, lambda path: None):
        monkeypatch.setattr("nnunet_triad.weights.glance.glance", look)
        monkeypatch.setattr(sys, "argv", ["triad-weights", "show", str(file), *options])
        with pytest.raises(SystemExit, match="0"):
            main()
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "swin_t" in printed[0]


def test_show_imports_no_pytorch(file: Path) -> None:
    code = (
        "import sys; from nnunet_triad.weights.cli import main\n"
        "try: main()\nfinally: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "show", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_what_is_not_plain_is_left_to_the_reader(file: Path, tmp_path: Path) -> None:
    found = glance(file)
    assert found is not None
    tensors = encoder_tensors(build_encoder(SPEC))
    assert found.num_parameters == sum(tensor.numel() for tensor in tensors.values())
    name = next(iter(tensors))
    for number, value in enumerate((torch.nan, torch.inf)):
        path = tmp_path / f"{number}.safetensors"
        broken = {**tensors, name: torch.full_like(tensors[name], value)}
        save_tensors(path, broken, WeightsInfo(spec=SPEC))
        assert glance(path) is None
    half = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    save_tensors(tmp_path / "bf16.safetensors", half, WeightsInfo(spec=SPEC))
    assert glance(tmp_path / "bf16.safetensors") is None
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:-10])
    assert glance(tmp_path / "cut.safetensors") is None
