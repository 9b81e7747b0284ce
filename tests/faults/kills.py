"""Kill a command at any moment, start it again, and see whether it ends as if undisturbed."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil

from tests.benchmark import stand_in_commands
from tests.layouts import write_layout
from tests.pretraining.conftest import write_embeddings, write_store
from tests.pretraining.gtr_folder import write_gtr_folder

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MOST_KILLS = 3  # before the run that is let alone
ORPHANS_S = 30  # in which the processes of a killed command end, too


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A command on small data.

    Attributes:
        prepare: writes the data into a folder.
        program: module and arguments; {data} and {out} stand for folders.
        results: patterns of the files beside and below {out} that must be the same.
        variables: of the environment, as `program`.
        changes_data: each round gets a copy of the data.
    """

    prepare: Callable[[Path], None]
    program: tuple[str, ...]
    results: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    changes_data: bool = False


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


def write_pairs(folder: Path) -> None:
    """Write two images that are each other's moving one."""
    write_images(folder, number=2, length=16)
    names = [f"sub-{i}_T1w.nii.gz" for i in range(2)]
    rows = [f"{moving},{fixed},train" for moving, fixed in zip(names, names[::-1], strict=True)]
    (folder / "pairs.csv").write_text("\n".join(["moving,fixed,split", *rows, ""]))


def write_described_store(folder: Path) -> None:
    """Write a volume store, its vectors, and a sentence model."""
    write_store(folder / "store")
    write_embeddings(folder / "store")
    write_gtr_folder(folder / "model")


def write_bare_store(folder: Path) -> None:
    """Write a volume store and a sentence model."""
    write_store(folder / "store")
    write_gtr_folder(folder / "model")


def write_published(folder: Path) -> None:
    """Write a small BraTS 2021 as it is published."""
    write_layout(501, folder, num_cases=5)


def write_benchmark(folder: Path) -> None:
    """Write what two segmentation runs need, and a list of them; commands are stand-ins."""
    raw = folder / "raw" / "Dataset501_BraTS21"
    raw.mkdir(parents=True)
    about = {"labels": stand_in_commands.LABELS, "numTraining": 4, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(about))
    (folder / "slow").write_text("1")
    rows = [f"segmentation,BraTS21,{name},scratch" for name in ("unet", "swin_t")]
    header = "task,dataset,architecture,initialization"
    (folder / "runs.csv").write_text("\n".join([header, *rows, ""]))


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
    "features": Scenario(
        prepare=write_images,
        program=(
            *("nnunet_triad.features.cli", "{data}", "--encoder", "random:unet_t"),
            *("-o", "{out}/f.npz", "--device", "cpu"),
        ),
        results=("out/f.npz", "out/f.npz.json"),
    ),
    "register": Scenario(
        prepare=write_pairs,
        program=(
            *("registration.cli", "train", "{data}/pairs.csv", "{out}", "--network"),
            *("transmorph_unet_t", "--epochs", "3", "--device", "cpu", "--spacing", "1"),
        ),
        results=("out/model.safetensors",),
    ),
    "pretrain": Scenario(
        prepare=write_described_store,
        program=(
            *("pretraining.pretrain_cli", "{data}/store", "{out}", "--encoder", "unet_t"),
            *("--steps", "6", "--batch-size", "2", "--crop-size", "32,32,64", "--device", "cpu"),
            *("--checkpoint-every", "2", "--warmup-steps", "1"),
        ),
        results=("out/*.safetensors",),
    ),
    "embed": Scenario(
        prepare=write_bare_store,
        program=("pretraining.embed_cli", "{data}/store", "--model", "{data}/model"),
        results=("data/store/embeddings.*",),
        changes_data=True,
    ),
    "convert": Scenario(
        prepare=write_published,
        program=(
            *("nnunet_triad.datasets.cli", "convert", "501", "--source", "{data}", "--copy"),
            *("--processes", "2"),
        ),
        results=("out/Dataset501_BraTS21/**/*.*",),
        variables={"nnUNet_raw": "{out}"},
    ),
    "phantom": Scenario(
        prepare=lambda folder: folder.mkdir(),
        program=("nnunet_triad.phantom.cli", "bids", "{out}", "--subjects", "2", "--spacing-mm=8"),
        results=("out/**/*.*",),
    ),
    "phantom for nnU-Net": Scenario(
        prepare=lambda folder: folder.mkdir(),
        program=("nnunet_triad.phantom.cli", "nnunet", "{out}", "--subjects=2", "--spacing-mm=8"),
        results=("out/**/*.*",),
    ),
    "benchmark": Scenario(
        prepare=write_benchmark,
        program=(
            *("nnunet_triad.benchmark.cli", "run", "{out}", "--runs", "{data}/runs.csv"),
            *("--device", "cpu", "--launcher"),
            f"{sys.executable} {stand_in_commands.__file__} {{data}}",
        ),
        results=("out/results/*.csv",),
        variables={f"nnUNet_{n}": f"{{data}}/{n}" for n in ("raw", "preprocessed", "results")},
        changes_data=True,
    ),
}
IN_THE_SUITE = ("curate", "curate by two workers")


def start(scenario: Scenario, folder: Path, printed: str = "killed.txt") -> subprocess.Popen:
    """Start the command with its results, and what it prints, in `folder`."""
    own = folder / "data"
    places = {"data": own if own.exists() else folder.parent / "data", "out": folder / "out"}
    module, *arguments = (one.format(**places) for one in scenario.program)
    variables = {name: text.format(**places) for name, text in scenario.variables.items()}
    code = f"from {module} import main; main()"
    with (folder / printed).open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=file,
            stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        )


def undisturbed(scenario: Scenario, folder: Path) -> tuple[dict[str, str], float]:
    """Run the command once; return its results, and the seconds that it took."""
    scenario.prepare(folder.parent / "data")
    _make(scenario, folder)
    began = time.monotonic()
    code = start(scenario, folder, "printed.txt").wait()
    assert code == 0, (folder / "printed.txt").read_text()
    return results(scenario, folder), time.monotonic() - began


def disturbed(scenario: Scenario, folder: Path, *, seconds: float, seed: int) -> dict[str, str]:
    """Run the command with kills at random moments, then to its end; return its results."""
    draw = random.Random(seed)
    _make(scenario, folder)
    for _ in range(draw.randint(1, MOST_KILLS)):
        process = start(scenario, folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0, seconds))
        family = _family(process)
        process.send_signal(draw.choice(SIGNALS))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()
        _, left = psutil.wait_procs(family, timeout=ORPHANS_S)
        assert not left, f"processes that outlive the command: {left}"
    code = start(scenario, folder, "printed.txt").wait()
    assert code == 0, (folder / "printed.txt").read_text()
    return results(scenario, folder)


def _make(scenario: Scenario, folder: Path) -> None:
    folder.mkdir()
    if scenario.changes_data:
        shutil.copytree(folder.parent / "data", folder / "data")


def _family(process: subprocess.Popen) -> list[psutil.Process]:
    """Return the processes that a command started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


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
