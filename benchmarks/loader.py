"""What reading crops costs a pre-training run: the time that steps wait, and memory.

python -m benchmarks.loader [--workers 2] [--folder DIR]

Waiting: a real run of Swin-T on this machine's CPU, whose cores the workers take from the step; and
steps that only sleep, as a GPU's step leaves the CPU alone, of decreasing length, at the paper's
batch of eight 96^3 crops. The first batches, for which the workers are started, do not count.
Memory: of the training process and of its workers, with a store of 100 and one of 131,170 rows.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.volumes import STORED_SHAPE, stored_volume
from nnunet_triad.files import write_table
from nnunet_triad.training.distributed import ProcessGroup
from pretraining.loop import timed
from pretraining.pretrain_data import crop_loader, load_data
from pretraining.settings import PretrainSettings
from pretraining.store import INDEX_FILE, VolumeStore
from pretraining.training import start_training, train_step

NUM_FILES = 4  # volumes on disk; the rows of an index repeat them
PAPER_ROWS = 131_170
WANTED_SHARE = 0.02
_SLEEPS_S = (1.0, 0.5, 0.25, 0.1)
_NUM_SKIPPED = 6  # batches: more than the workers read ahead


def main() -> None:
    """Print both tables."""
    arguments = _parse_arguments()
    if arguments.memory_of:
        print(json.dumps(measure_memory(arguments.memory_of, arguments.workers)))
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        for path, num_rows in ((small, 100), (large, PAPER_ROWS)):
            write_store(path, num_rows=num_rows)
        _print_waits(small, arguments.workers, num_batches=arguments.batches)
        _print_memory({100: small, PAPER_ROWS: large}, arguments.workers)


def write_store(path: Path, *, num_rows: int) -> None:
    """Write a store of a few volumes, and an index with many rows that point to them."""
    store = VolumeStore.create(path, shape=STORED_SHAPE)
    write_volumes(store, stored_volume())
    table = pd.read_csv(path / INDEX_FILE)
    repeated = table.iloc[np.arange(num_rows) % NUM_FILES]
    write_table(path / INDEX_FILE, repeated.sort_values("series_id"))


def write_volumes(store: VolumeStore, volume: np.ndarray) -> None:
    """Write a volume a few times, under other names."""
    for number in range(NUM_FILES):
        sidecar = {
            "series_id": f"BENCHMARK/sub-{number:06d}/ses-20010203/T1w-mprage-sagittal-{number}",
            **{"dataset": "BENCHMARK", "subject": f"sub-{number:06d}", "study": "ses-20010203"},
            **{"series": f"T1w-mprage-sagittal-{number}", "organ": "brain"},
            "description": "T1-weighted MRI, 3 T, Siemens Skyra, TR 2300 ms, TE 2.98 ms, 1 mm",
            **{"dtype": "uint16", "dtype_reason": "", "source": f"sub-{number}/T1w.nii.gz"},
            **{"mean": float(volume.mean()), "std": float(volume.std())},
            **{"minimum": float(volume.min()), "maximum": float(volume.max())},
        }
        store.write_series(str(sidecar["series_id"]), volume, sidecar)
    store.rebuild_index()


def _print_waits(store: Path, workers: int, *, num_batches: int) -> None:
    print(f"{workers} workers, {num_batches} steps counted, wanted: under {WANTED_SHARE:.0%}\n")
    print("| step | its median | median wait | wait / (wait + step) |")
    print("|---|---|---|---|")
    tiny = _settings(encoder="swin_t", batch_size=2, crop_size=(64, 64, 64), workers=workers)
    training = start_training(
        load_data(store, tiny), tiny, ProcessGroup(device=torch.device("cpu"))
    )
    _print_wait(
        "Swin-T, two 64^3 crops, on this CPU",
        *measure_wait(store, tiny, lambda batch: train_step(training, batch), num_batches),
    )
    paper = _settings(workers=workers)
    for seconds in _SLEEPS_S:
        step = lambda batch, seconds=seconds: time.sleep(seconds)  # noqa: E731
        name = f"sleeping {seconds:g} s, eight 96^3 crops"
        _print_wait(name, *measure_wait(store, paper, step, num_batches))


def _settings(**changes: object) -> PretrainSettings:
    values = {"objective_name": "paper", "log_ratio_weight": 0.0, **changes}
    return PretrainSettings.from_dict(values)


def measure_wait(store: Path, settings: PretrainSettings, step, num_batches: int):
    """Return the seconds of each step, and those that it waited for its batch."""
    steps = range(_NUM_SKIPPED + num_batches)
    group = ProcessGroup(device=torch.device("cpu"))
    loader = crop_loader(load_data(store, settings), settings, steps=steps, group=group)
    durations, waits = [], []
    for batch, wait in timed(loader):
        start = time.perf_counter()
        step(batch)
        durations.append(time.perf_counter() - start)
        waits.append(wait)
    return durations[_NUM_SKIPPED:], waits[_NUM_SKIPPED:]


def _print_wait(name: str, durations: list[float], waits: list[float]) -> None:
    share = sum(waits) / (sum(waits) + sum(durations))
    verdict = "yes" if share < WANTED_SHARE else "NO"
    print(
        f"| {name} | {np.median(durations):.3f} s | {np.median(waits) * 1e3:.2f} ms "
        f"| {share:.2%}: {verdict} |"
    )


def _print_memory(stores: dict[int, Path], workers: int) -> None:
    print("\n| rows of the index | opened in | training process | each worker (peak) |")
    print("|---|---|---|---|")
    for num_rows, path in stores.items():
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.loader"]
        command += ["--memory-of", str(path), "--workers", str(workers)]
        found = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
        each = ", ".join(f"{value:.0f}" for value in found["workers_mib"])
        print(
            f"| {num_rows} | {found['seconds']:.2f} s | {found['before_mib']:.0f} -> "
            f"{found['after_mib']:.0f} MiB | {each} MiB |"
        )


def measure_memory(store: Path, workers: int) -> dict[str, object]:
    """Open a store and read some batches; return seconds and the peaks of all processes, MiB."""
    settings = _settings(workers=workers)
    before = _peak_mib()
    start = time.perf_counter()
    data = load_data(store, settings)
    seconds = time.perf_counter() - start
    after = _peak_mib()
    loader = crop_loader(
        data, settings, steps=range(5), group=ProcessGroup(device=torch.device("cpu"))
    )
    peaks: dict[int | None, float] = {}
    for _ in loader:
        for worker in multiprocessing.active_children():
            peaks[worker.pid] = _peak_mib(worker.pid)
    return {
        "seconds": seconds,
        "before_mib": before,
        "after_mib": after,
        "workers_mib": list(peaks.values()),
    }


def _peak_mib(pid: int | str | None = "self") -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="for the stores, deleted again")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
