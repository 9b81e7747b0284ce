"""Crops a second: one normalised 96^3 crop as a float32 tensor, from the store and otherwise.

python -m benchmarks.store_reading
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import blosc2
import nibabel as nib
import numpy as np
import torch
from monai.transforms import Compose, LoadImage, RandSpatialCrop
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params
from torch import Tensor

from benchmarks.side_by_side import format_table, run_in_turn
from benchmarks.volumes import stored_volume
from pretraining.sampling import CropPlan, read_crop
from pretraining.store import VolumeStore

CROP = (96, 96, 96)
SERIES = "BENCHMARK/sub-001/ses-001/T1w"
OURS = "the store: uint16, LZ4, blocks of 16^3"
FLOOR = "memory-mapped uint16 .npy, in the page cache"
TARGETS = {
    "MONAI: LoadImage of .nii.gz, RandSpatialCrop": 40.0,
    "nibabel: whole .nii.gz, crop": 20.0,
    "blosc2 float32, ZSTD 8, nnU-Net's chunks": 2.5,
    FLOOR: -10.0,
}


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    volume = stored_volume()
    with tempfile.TemporaryDirectory() as folder:
        alternatives = _alternatives(volume, Path(folder))
        timings = run_in_turn(alternatives, num_rounds=9, num_warmups=1, num_calls=2)
        sizes = ", ".join(
            f"{path.name} {path.stat().st_size / 1e6:.1f} MB"
            for path in sorted(Path(folder).rglob("*"))
            if path.suffix in (".b2nd", ".gz", ".npy")
        )
    print(format_table(timings, ours=OURS, targets=TARGETS))
    print(f"\nfiles: {sizes}")


def _alternatives(volume: np.ndarray, folder: Path) -> dict[str, Callable[[], Tensor]]:
    mean, std = float(volume.mean()), float(volume.std())
    nifti = folder / "volume.nii.gz"
    nib.save(nib.Nifti1Image(volume, np.eye(4)), nifti)
    np.save(folder / "volume.npy", volume)
    return {
        OURS: _from_store(volume, folder, mean, std),
        "MONAI: LoadImage of .nii.gz, RandSpatialCrop": _from_monai(nifti, mean, std),
        "nibabel: whole .nii.gz, crop": _from_nibabel(nifti, mean, std),
        "blosc2 float32, ZSTD 8, nnU-Net's chunks": _from_blosc2(
            volume, folder / "zstd8.b2nd", blosc2.Codec.ZSTD, 8
        ),
        "blosc2 float32, LZ4HC 5, nnU-Net's chunks (2.8.1's default)": _from_blosc2(
            volume, folder / "lz4hc5.b2nd", blosc2.Codec.LZ4HC, 5
        ),
        FLOOR: _from_memory_map(folder / "volume.npy", mean, std),
    }


def _starts(shape: tuple[int, ...]) -> Callable[[], tuple[int, int, int]]:
    """Return a function that gives the next of many random places, the same for everyone."""
    num_starts = [1 + size - crop for size, crop in zip(shape, CROP, strict=True)]
    places = itertools.cycle(np.random.default_rng(0).integers(num_starts, size=(512, 3)).tolist())
    return lambda: tuple(next(places))


def _box(start: tuple[int, int, int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + size) for first, size in zip(start, CROP, strict=True))


def _normalized(values: np.ndarray, mean: float, std: float) -> Tensor:
    result = np.subtract(values, np.float32(mean), dtype=np.float32)
    result /= np.float32(std)
    return torch.from_numpy(np.ascontiguousarray(result))[None]


def _from_store(volume: np.ndarray, folder: Path, mean: float, std: float) -> Callable[[], Tensor]:
    store = VolumeStore.create(folder / "store")
    store.write_series(SERIES, volume, {"series_id": SERIES})
    next_start = _starts(volume.shape)

    def read() -> Tensor:
        plan = CropPlan(
            step=0,
            k=0,
            volume=0,
            name=SERIES,
            mean=mean,
            std=std,
            start=next_start(),
            is_flipped=(False, False, False),
        )
        return torch.from_numpy(read_crop(store, plan, size=CROP))[None]

    return read


def _from_monai(path: Path, mean: float, std: float) -> Callable[[], Tensor]:
    transform = Compose(
        [
            LoadImage(image_only=True, ensure_channel_first=True),
            RandSpatialCrop(CROP, random_size=False),
        ]
    )
    return lambda: (transform(path) - mean) / std


def _from_nibabel(path: Path, mean: float, std: float) -> Callable[[], Tensor]:
    next_start = _starts(nib.Nifti1Image.from_filename(path).shape)

    def read() -> Tensor:
        image = nib.Nifti1Image.from_filename(path)
        return _normalized(np.asanyarray(image.dataobj)[_box(next_start())], mean, std)

    return read


def _from_blosc2(
    volume: np.ndarray, path: Path, codec: blosc2.Codec, level: int
) -> Callable[[], Tensor]:
    """Normalised before it is stored, as nnU-Net does."""
    blocks, chunks = comp_blosc2_params((1, *volume.shape), CROP)
    values = ((volume - volume.mean()) / volume.std()).astype(np.float32)[None]
    blosc2.asarray(
        np.ascontiguousarray(values),
        chunks=chunks,
        blocks=blocks,
        cparams={"codec": codec, "clevel": level},
        urlpath=str(path),
        mode="w",
    )
    next_start = _starts(volume.shape)

    def read() -> Tensor:
        array = blosc2.open(str(path), mode="r", dparams={"nthreads": 1}, mmap_mode="r")
        return torch.from_numpy(array[(0, *_box(next_start()))])[None]

    return read


def _from_memory_map(path: Path, mean: float, std: float) -> Callable[[], Tensor]:
    next_start = _starts(np.load(path, mmap_mode="r").shape)
    return lambda: _normalized(np.load(path, mmap_mode="r")[_box(next_start())], mean, std)


if __name__ == "__main__":
    main()
