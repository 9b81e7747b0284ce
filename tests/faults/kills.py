"""Kill a command at any moment, start it again, and see whether it ends as if undisturbed."""

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MOST_KILLS = 3  # before the run that is let alone


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A command on small data.

    Attributes:
        prepare: writes the data into a folder.
        program: module and arguments; {data} and {out} stand for folders.
        results: patterns of the files below {out} that must be the same.
    """

    prepare: Callable[[Path], None]
    program: tuple[str, ...]
    results: tuple[str, ...]


def write_images(folder: Path, *, number: int = 6, length: int = 32) -> None:
    """Write cubes of noise on a ramp."""
    folder.mkdir(parents=True)
    for index in range(number):
        noise = np.random.default_rng(index).uniform(0, 200, (length,) * 3)
        voxels = (noise + 20 * np.arange(length)).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / f"sub-{index}_T1w.nii.gz")


def write_classes(folder: Path) -> None:
    """Write images of two classes and their manifest."""
    write_images(folder)
    rows = [f"sub-{i}_T1w.nii.gz,{i % 2},{('train', 'val', 'test')[i // 2]}" for i in range(6)]
    (folder / "manifest.csv").write_text("\n".join(["image,label,split", *rows, ""]))


_STORE = ("out/index.csv", "out/rejected.csv", "out/volumes/**/*.*")
SCENARIOS = {
    "curate": Scenario(
        prepare=write_images,
        program=("pretraining.curate_cli", "{data}", "{out}", "--shape", "16,16,16"),
        results=_STORE,
    ),
    "curate by two workers": Scenario(
        prepare=write_images,
        program=(
            *("pretraining.curate_cli", "{data}", "{out}", "--shape", "16,16,16"),
            *("--workers", "2"),
        ),
        results=_STORE,
    ),
    "classify": Scenario(
        prepare=write_classes,
        program=(
            *("classification.cli", "train", "{data}/manifest.csv", "{out}", "--size", "32"),
            *("--encoder", "unet", "--epochs", "2", "--batch-size", "2", "--device", "cpu"),
        ),
        results=("out/model.pt", "out/predictions.csv"),  # the log has seconds
    ),
}
IN_THE_SUITE = ("curate", "curate by two workers")


def start(scenario: Scenario, folder: Path, printed: str = "killed.txt") -> subprocess.Popen:
    """Start the command with its results, and what it prints, in `folder`."""
    module, *arguments = scenario.program
    filled = [one.format(data=folder.parent / "data", out=folder / "out") for one in arguments]
    code = f"from {module} import main; main()"
    with (folder / printed).open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", code, *filled],
            stdout=file,
            stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def undisturbed(scenario: Scenario, folder: Path) -> tuple[dict[str, str], float]:
    """Run the command once; return its results, and the seconds that it took."""
    scenario.prepare(folder.parent / "data")
    folder.mkdir()
    began = time.monotonic()
    code = start(scenario, folder, "printed.txt").wait()
    assert code == 0, (folder / "printed.txt").read_text()
    return results(scenario, folder), time.monotonic() - began


def disturbed(scenario: Scenario, folder: Path, *, seconds: float, seed: int) -> dict[str, str]:
    """Run the command with kills at random moments, then to its end; return its results."""
    draw = random.Random(seed)
    folder.mkdir()
    for _ in range(draw.randint(1, MOST_KILLS)):
        process = start(scenario, folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0, seconds))
        process.send_signal(draw.choice(SIGNALS))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()
    code = start(scenario, folder, "printed.txt").wait()
    assert code == 0, (folder / "printed.txt").read_text()
    return results(scenario, folder)


def results(scenario: Scenario, folder: Path) -> dict[str, str]:
    """Return the hash of each result."""
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in scenario.results
        for path in folder.glob(pattern)
        if path.is_file()
    }
    assert found
    return found
