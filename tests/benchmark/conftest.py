"""A benchmark whose commands are stand-ins, on nnU-Net's folders with two raw datasets."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from nnunet_triad.benchmark.environment import Environment

STAND_INS = Path(__file__).with_name("stand_in_commands.py")


@dataclass(frozen=True)
class Workplace:
    """The folders of a test, and what was called in them."""

    root: Path

    @property
    def environment(self) -> Environment:
        """As the command line would make it of the variables."""
        return Environment.current(
            self.root / "benchmark", device="cpu", launcher=tuple(shlex.split(self.launcher))
        )

    @property
    def launcher(self) -> str:
        return shlex.join([sys.executable, str(STAND_INS), str(self.root)])

    @property
    def calls(self) -> list[str]:
        """The commands that were started, in order."""
        path = self.root / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []

    def tell(self, name: str, text: str) -> None:
        """Tell the stand-ins to `fail` or to be `slow`."""
        (self.root / name).write_text(text)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    from tests.benchmark import stand_in_commands

    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    for number, dataset in ((501, "BraTS21"), (505, "Prostate")):
        folder = tmp_path / "raw" / f"Dataset{number}_{dataset}"
        folder.mkdir()
        about = {"labels": stand_in_commands.LABELS, "numTraining": 4, "file_ending": ".nii.gz"}
        (folder / "dataset.json").write_text(json.dumps(about))
    for name in ("ADNI", "IXI"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "manifest.csv").write_text("image,label,split\n")
    (tmp_path / "weights").mkdir()
    for name in ("triad_unet.safetensors", "triad_swin_b.safetensors", "VoComni_nnunet.pt"):
        (tmp_path / "weights" / name).touch()
    monkeypatch.setenv("TRIAD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    return Workplace(tmp_path)
