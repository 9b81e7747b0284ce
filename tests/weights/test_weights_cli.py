"""`triad-weights show`."""

import json
import subprocess
import sys

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.weights import WeightsInfo, save_weights


def run(*arguments):
    command = [sys.executable, "-c", "from nnunet_triad.weights.cli import main; main()"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)


def test_show_prints_architecture_size_and_hash(tmp_path):
    spec = encoder_spec("swin_t")
    path = tmp_path / "w.safetensors"
    encoder = build_encoder(spec)
    save_weights(path, encoder, WeightsInfo(spec=spec, pretraining_steps=123))
    shown = json.loads(run("show", path, "--json").stdout)
    assert shown["architecture"] == "swin_t"
    assert shown["parameters"] == sum(p.numel() for p in encoder.parameters())
    assert shown["pretraining_steps"] == 123
    assert len(shown["sha256"]) == 64


def test_show_of_no_file_is_one_line_and_exit_code_2(tmp_path):
    result = run("show", tmp_path / "none")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "expected a weights file" in result.stderr
