"""An epoch of samples: this project's cache against MONAI's PersistentDataset and CacheDataset.

All three give the same values after the same random augmentation, read one after the other in one
process: CPU time, as all files are in the operating system's page cache. Memory is what each adds
to the process while it reads the epoch.

Run: python -m benchmarks.classification_cache [--images 60 --size 64 --rounds 5]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import CacheDataset, Dataset, PersistentDataset
from monai.transforms import (
    Compose,
    EnsureChannelFirst,
    LoadImage,
    NormalizeIntensity,
    Orientation,
    Resize,
)

from benchmarks.side_by_side import format_table, run_in_turn
from classification.augment import augment, build_augmentation
from classification.cache import build_cache
from classification.data import ClassificationData, SampleDataset
from classification.manifest import manifest_of
from classification.settings import PreprocessSettings, TrainSettings

OURS = "this project's cache"
TARGETS = {"MONAI PersistentDataset": 3.0, "MONAI CacheDataset": 1.0}
_SHAPE = (96, 110, 80)  # voxels of the source images
_MIB = 2**20


def main() -> None:
    """Measure and print."""
    options = _parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for is_augmented in (False,) if options.reading_alone else (False, True):
            report(Path(folder) / str(is_augmented), options, is_augmented=is_augmented)


def report(folder: Path, options: argparse.Namespace, *, is_augmented: bool) -> None:
    """Time an epoch of each alternative in turn; print the table and the memory."""
    files = write_images(folder / "images", options.images)
    settings = TrainSettings(encoder="swin_t", preprocess=PreprocessSettings(size=options.size))
    augmentation = build_augmentation(settings) if is_augmented else None
    before = resident()
    ours = open_ours(files, folder / "cache", settings, is_augmented=is_augmented)
    persistent = PersistentDataset(files, prepare(options.size), cache_dir=folder / "persistent")
    read = {
        OURS: epoch_of(ours, len(files)),
        "MONAI PersistentDataset": monai_epoch(persistent, augmentation),
    }
    growth = {name: growth_of(run) for name, run in read.items()}
    start = resident()
    cached = CacheDataset(files, prepare(options.size), progress=False)
    read["MONAI CacheDataset"] = monai_epoch(cached, augmentation)
    read["MONAI CacheDataset"]()
    growth["MONAI CacheDataset"] = resident() - start
    title = "with augmentation" if is_augmented else "reading alone"
    print(f"\n{len(files)} images of {options.size}^3, {title}; {before / _MIB:.0f} MiB before")
    timings = run_in_turn(read, num_rounds=options.rounds, clock=time.process_time)
    print(format_table(timings, ours=OURS, targets=TARGETS))
    print(", ".join(f"{name}: {value / _MIB:+.0f} MiB" for name, value in growth.items()))


def write_images(folder: Path, number: int) -> list[str]:
    """Write volumes of noise over a ramp, LAS, as .nii.gz."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    files = []
    for place in range(number):
        ramp = np.linspace(0, 400, _SHAPE[1])[None, :, None]
        values = (ramp + 50 * random.random(_SHAPE)).astype(np.int16)
        files.append(str(folder / f"{place:04d}.nii.gz"))
        nib.save(nib.Nifti1Image(values, np.diag([-2.0, 2.0, 2.0, 1.0])), files[-1])
    return files


def prepare(size: int) -> Compose:
    """Return MONAI's transforms that do what the cache did: they are deterministic."""
    return Compose(
        [
            LoadImage(image_only=True, dtype=np.float32),
            EnsureChannelFirst(),
            Orientation(axcodes="RAS", labels=None),
            NormalizeIntensity(),
            Resize((size,) * 3, mode="trilinear", anti_aliasing=True),
        ]
    )


def open_ours(
    files: Sequence[str], folder: Path, settings: TrainSettings, *, is_augmented: bool
) -> SampleDataset:
    """Return this project's samples, already cached."""
    manifest = manifest_of([Path(file) for file in files], ("only",))
    cache = build_cache(manifest, settings.preprocess, folder, is_quiet=True)
    data = ClassificationData(manifest=manifest, cache=cache)
    return SampleDataset(data, settings if is_augmented else None)


def epoch_of(dataset: SampleDataset, number: int) -> Callable[[], None]:
    """Return a function that reads each sample once."""

    def read() -> None:
        for row in range(number):
            dataset[0, row, row]["image"].sum()

    return read


def monai_epoch(dataset: Dataset, transform: Compose | None) -> Callable[[], None]:
    """Return a function that reads each sample once, with the same augmentation and seeds."""

    def read() -> None:
        for row in range(len(dataset)):
            image = dataset[row]
            if transform is not None:
                image = augment(transform, image, (0, 0, row))
            image.sum()

    return read


def growth_of(read: Callable[[], None]) -> int:
    """Return the bytes by which the process is larger after an epoch, once all is set up."""
    read()
    before = resident()
    read()
    return resident() - before


def resident() -> int:
    """Return the bytes that the process holds in memory now (Linux)."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reading-alone", action="store_true", help="Without augmentation only.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
