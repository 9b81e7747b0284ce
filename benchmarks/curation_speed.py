"""Curation of one compressed NIfTI volume on one core, from reading to the finished series.

Wall time includes the sync to the disk. With --cpu: time of the processor, for a shared machine.

    python -m benchmarks.curation_speed [--cpu]
"""

import argparse
import gzip
import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from isal import igzip
from monai.transforms import Compose, LoadImage, Orientation, Resize, SaveImage, Spacing
from threadpoolctl import threadpool_limits

from benchmarks.side_by_side import format_table, run_in_turn
from benchmarks.volumes import STORED_SHAPE, write_source
from pretraining.curation.nifti_source import find_series
from pretraining.curation.process import process_series
from pretraining.store import VolumeStore

OURS = "ours: isal, one banded product, LZ4, synced to the disk"
TARGETS = {
    "MONAI: load, Orientation, Spacing, Resize, save .nii.gz": 3.0,
    "gunzip alone (Python's zlib)": -1.7,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="time of the processor")
    is_cpu = parser.parse_args().cpu
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, threadpool_limits(1):
        folder = Path(name)
        path = write_source(folder / "source")
        alternatives = {
            OURS: _ours(path, folder),
            "MONAI: load, Orientation, Spacing, Resize, save .nii.gz": _monai(path, folder),
            "gunzip alone (Python's zlib)": lambda: _unpack(gzip.GzipFile, path),
            "gunzip alone (isal)": lambda: _unpack(igzip.IGzipFile, path),
        }
        clock = time.process_time if is_cpu else time.perf_counter
        timings = run_in_turn(alternatives, num_rounds=11, clock=clock)
    print(format_table(timings, ours=OURS, targets=TARGETS))


def _unpack(opener: Callable[[Path], gzip.GzipFile], path: Path) -> bytes:
    with opener(path) as file:
        return file.read()


def _ours(path: Path, folder: Path) -> Callable[[], None]:
    store = VolumeStore.create(folder / "store")
    (series,) = find_series([path], root=folder / "source", dataset="BENCHMARK").series
    numbers = itertools.count()
    return lambda: process_series(replace(series, series=f"T1w-{next(numbers)}"), store)


def _monai(path: Path, folder: Path) -> Callable[[], object]:
    transform = Compose(
        [
            LoadImage(image_only=True, ensure_channel_first=True),
            Orientation("RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacing(1.0, mode="bilinear"),
            Resize(STORED_SHAPE, mode="trilinear"),
            SaveImage(folder / "monai", output_dtype="uint16", print_log=False, resample=False),
        ]
    )
    return lambda: transform(path)


if __name__ == "__main__":
    main()
