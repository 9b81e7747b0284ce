"""An epoch of batches: this project's cache against MONAI's PersistentDataset and CacheDataset.

All three give the same values in batches of eight, from PyTorch's DataLoader in one process: CPU
time, as all files are in the operating system's page cache. With augmentation, the seeds and so the
changes are the same too, but for the numbers in the noise; MONAI's datasets let its `Compose` make
them, ours computes the same values in its own way. Memory is what each adds to the process while it
reads the epoch.

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
from monai.data import CacheDataset, Dataset, MetaTensor, PersistentDataset
from monai.transforms import (
    Compose,
    EnsureChannelFirst,
    EnsureType,
    LoadImage,
    NormalizeIntensity,
    Orientation,
    Resize,
)
from torch.utils.data import DataLoader

from benchmarks.side_by_side import format_table, run_in_turn
from classification.augment import monai_augmentation, seed_of
from classification.cache import build_cache
from classification.data import Batches, ClassificationData, SampleDataset
from classification.manifest import manifest_of
from classification.settings import PreprocessSettings, TrainSettings
from nnunet_triad.training.loader import make_loader

OURS = "this project's cache"
TARGETS = {"MONAI PersistentDataset": 3.0, "MONAI CacheDataset": 1.0}
BATCH_SIZE = 8  # the default of triad-classify
_SHAPE = (96, 110, 80)  # voxels of the source images
_MIB = 2**20


def main() -> None:
    """Measure and print."""
    options = _parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for is_augmented in (False,) if options.reading_alone else (False, True):
            report(Path(folder), options, is_augmented=is_augmented)


def report(folder: Path, options: argparse.Namespace, *, is_augmented: bool) -> None:
    """Time an epoch of each alternative in turn; print the table and the memory."""
    files = write_images(folder / "images", options.images)
    settings = TrainSettings(encoder="swin_t", preprocess=PreprocessSettings(size=options.size))
    augmentation = monai_augmentation(settings) if is_augmented else None
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
    """Write volumes of noise over a ramp, LAS, as .nii.gz, unless they are there."""
    if folder.exists():
        return sorted(map(str, folder.iterdir()))
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
            EnsureType(track_meta=False),  # a plain tensor costs least to hand out
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
    """Return a function that reads each sample once, in batches."""

    def read() -> None:
        batches = Batches(np.arange(number), BATCH_SIZE)
        for batch in make_loader(dataset.batch, batches, workers=0, device=torch.device("cpu")):
            batch["image"].sum()

    return read


class Augmented(torch.utils.data.Dataset[torch.Tensor]):
    """MONAI's dataset followed by MONAI's augmentation, with the seeds of ours."""

    def __init__(self, dataset: Dataset, transform: Compose | None) -> None:
        self.dataset, self.augmentation = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> torch.Tensor:
        image = self.dataset[row]
        if self.augmentation is not None:
            image = self.augmentation.set_random_state(seed=seed_of((0, 0, row)))(image)
        return image.as_tensor() if isinstance(image, MetaTensor) else image


def monai_epoch(dataset: Dataset, transform: Compose | None) -> Callable[[], None]:
    """Return a function that reads each sample once, in batches, as plain tensors."""

    def read() -> None:
        for images in DataLoader(Augmented(dataset, transform), batch_size=BATCH_SIZE):
            images.sum()

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
