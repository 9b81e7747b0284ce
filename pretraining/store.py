"""The volume store: what curation writes and pre-training reads.

    STORE/store.json                                   format version, shape, spacing
    STORE/volumes/DATASET/SUBJECT/STUDY/SERIES.b2nd    voxels, x y z, blosc2, blocks of 16^3
    STORE/volumes/DATASET/SUBJECT/STUDY/SERIES.json    sidecar: where it came from, statistics
    STORE/index.csv                                    one row a series, rebuilt from the sidecars
    STORE/rejected.csv                                 what was set aside, each with its reason

A volume is renamed into place before its sidecar: a series is finished when its sidecar is there.
A series whose voxels are those of another one keeps a sidecar that says so, without a volume.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pandas as pd

from nnunet_triad.errors import UserError
from nnunet_triad.files import (
    check_name,
    is_blank,
    only_process,
    remove_leftovers,
    write_atomically,
    write_json,
    write_table,
)
from nnunet_triad.tables import read_numbers, read_table
from nnunet_triad.texts import read_json
from nnunet_triad.training.settings import Triple

FORMAT_VERSION = 1
SETTINGS_FILE = "store.json"
INDEX_FILE = "index.csv"
REJECTED_FILE = "rejected.csv"
VOLUMES_FOLDER = "volumes"

# Measured on crops of 96^3 (benchmarks/store_reading.py): with bit shuffling LZ4 packs MRI nearly
# as well as Zstandard, and unpacks it twice as fast; small blocks waste little at a crop's border.
BLOCK = 16  # voxels an axis that are decompressed together
CHUNK = 64  # voxels an axis that lie together in the file

# Threads: twice as fast on a local disk, more where each file has to be waited for.
_NUM_READERS = 8

_ID_COLUMNS = ["dataset", "subject", "study", "series"]
_TEXT_COLUMNS = [
    "series_id",
    *_ID_COLUMNS,
    "organ",
    "description",
    "dtype",
    "dtype_reason",
    "source",
]
_FLOAT_COLUMNS = ["mean", "std", "minimum", "maximum"]
INDEX_COLUMNS = [*_TEXT_COLUMNS, *_FLOAT_COLUMNS]
REJECTED_COLUMNS = ["series_id", "dataset", "source", "reason"]


class VolumeStore:
    """A folder of volumes of one shape, of which any box can be read without the rest.

    Use `create` to write and `open` to read. Rows of `records` and the `index` of every method
    are the same, ordered by `series_id`.
    """

    def __init__(self, path: Path) -> None:
        settings = _read_settings(Path(path))
        self.path = Path(path)
        self.volume_shape: Triple = _triple(settings["shape"])
        self.spacing_mm: tuple[float, float, float] = tuple(settings["spacing_mm"])

    @functools.cached_property
    def records(self) -> pd.DataFrame:
        """The index table, one row a series, ordered by `series_id`; empty before there is one."""
        return _read_index(self.path)

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        shape: Triple = (256, 256, 128),
        spacing_mm: float | tuple[float, float, float] = 1.0,
    ) -> "VolumeStore":
        """Make an empty store, or open the one that is there with the same settings.

        Args:
            path: the store's folder; made when missing.
            shape: voxels of every volume, x y z.
            spacing_mm: spacing of the first resampling, before the resize to `shape`.

        Raises:
            UserError: `path` holds something else, or a store with other settings.
        """
        path = Path(path)
        check_name(path)
        wanted = {"shape": list(_checked_shape(shape)), "spacing_mm": _checked_spacing(spacing_mm)}
        if (path / SETTINGS_FILE).exists():
            found = _read_settings(path)
            for name, value in wanted.items():
                if found[name] != value:
                    raise UserError(
                        f"{path}: expected a store with {name} {value}, got {name} {found[name]}; "
                        "use that value, or another folder"
                    )
        elif path.exists() and (not path.is_dir() or not is_blank(path)):
            raise UserError(
                f"{path}: expected a volume store or an empty folder, got something else; "
                "name another folder"
            )
        else:
            write_json(
                path / SETTINGS_FILE,
                {"format": "triad volume store", "format_version": FORMAT_VERSION, **wanted},
            )
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "VolumeStore":
        """Open a store that curation has finished.

        Raises:
            UserError: no store there, another format version, or no index yet.
        """
        store = cls(path)
        if not (store.path / INDEX_FILE).is_file():
            raise UserError(
                f"{path}: expected {INDEX_FILE}, got a store whose curation was interrupted; "
                "run the same triad-curate command again"
            )
        return store

    def __len__(self) -> int:
        return len(self.records)

    def shape(self, index: int) -> Triple:
        """Return the volume's shape in voxels, x y z."""
        return _triple(self._array(index).shape)

    def read_crop(self, index: int, start: Triple, size: Triple) -> np.ndarray:
        """Read a box of the volume in row `index` of `records`, float32; see `read_box`."""
        box = self.read_box(str(self._columns["series_id"][index]), start, size)
        return box.astype(np.float32, copy=False)

    def read_box(self, series_id: str, start: Triple, size: Triple) -> np.ndarray:
        """Read a box of a volume; only the chunks that it touches are read, and not the index.

        Args:
            series_id: DATASET/SUBJECT/STUDY/SERIES.
            start: first voxel of the box, x y z.
            size: voxels of the box, x y z.

        Returns:
            (x, y, z) uint16 or float32, as stored; a new array.

        Raises:
            ValueError: the box reaches outside the volume.
            UserError: the volume's file is gone or damaged.
        """
        array = self._open_array(series_id)
        ends = [first + length for first, length in zip(start, size, strict=True)]
        is_inside = all(
            0 <= first < end <= extent
            for first, end, extent in zip(start, ends, array.shape, strict=True)
        )
        if not is_inside:
            raise ValueError(
                f"start: expected a box of size {tuple(size)} inside {tuple(array.shape)}, "
                f"got start {tuple(start)}"
            )
        box = tuple(slice(first, end) for first, end in zip(start, ends, strict=True))
        try:
            return np.asarray(array[box])
        except RuntimeError as error:
            raise _damaged(self.volume_path(series_id), error) from error

    def read_volume(self, index: int) -> np.ndarray:
        """Return the whole volume, (x, y, z) float32, the stored values."""
        return self.read_crop(index, (0, 0, 0), self.shape(index))

    def normalization(self, index: int) -> tuple[float, float]:
        """Return mean and standard deviation of the whole stored volume, for a z-score."""
        return float(self._columns["mean"][index]), float(self._columns["std"][index])

    def volume_path(self, series_id: str) -> Path:
        """Return where the voxels of `series_id` lie, whether they are there or not.

        Raises:
            UserError: the id would lead out of the store.
        """
        return self.path / VOLUMES_FOLDER / f"{_checked_id(series_id)}.b2nd"

    def sidecar_path(self, series_id: str) -> Path:
        """Return where the sidecar of `series_id` lies, whether it is there or not."""
        return self.path / VOLUMES_FOLDER / f"{_checked_id(series_id)}.json"

    def read_sidecar(self, series_id: str) -> dict[str, Any] | None:
        """Return the sidecar of a finished series, None for one that is not finished."""
        try:
            return read_json(self.sidecar_path(series_id))
        except FileNotFoundError:
            return None

    def voxel_checksums(self) -> list[str]:
        """Return for each volume what its sidecar says of its voxels; equal for equal voxels."""
        with ThreadPoolExecutor(_NUM_READERS) as pool:
            return list(pool.map(self._checksum, self._columns["series_id"]))

    def _checksum(self, series_id: str) -> str:
        sidecar = self.read_sidecar(series_id) or {}
        return " ".join(str(sidecar.get(name)) for name in ("crc32", "dtype", "mean", "std"))

    def write_series(self, series_id: str, volume: np.ndarray, sidecar: Mapping[str, Any]) -> None:
        """Write one series, the voxels first: after a crash it is finished or it is not there.

        Args:
            series_id: DATASET/SUBJECT/STUDY/SERIES.
            volume: (x, y, z), uint16 or float32, of the store's shape.
            sidecar: JSON-able; at least the columns of the index.
        """
        assert volume.shape == self.volume_shape and volume.dtype in (np.uint16, np.float32)
        path = self.volume_path(series_id)
        for file in (path, self.sidecar_path(series_id)):
            remove_leftovers(file.parent, of=file.name)
        content = _compress(volume)
        with write_atomically(path, num_bytes=len(content)) as temporary:
            temporary.write_bytes(content)
        write_json(self.sidecar_path(series_id), sidecar)

    def only_writer(self) -> AbstractContextManager[None]:
        """Hold the store: of two that write its index the last would leave out what the first has.

        Raises:
            UserError: another process holds it.
        """
        refusal = (
            f"{self.path}: expected a store that nobody writes to, got one that another command is "
            "writing to; wait until it ends"
        )
        return only_process(self.path / ".lock", refusal=refusal)

    def describe(self, texts: Mapping[str, str]) -> int:
        """Replace descriptions by others, and the index with them.

        Args:
            texts: a description by series id.

        Returns:
            How many are other ones than before.

        Raises:
            UserError: the store has no such series, or its sidecar is gone.
        """
        known = set(self.records["series_id"])
        unknown = sorted(set(texts) - known)
        if unknown:
            raise UserError(
                f"series_id: expected ids of {self.path / INDEX_FILE}, got {len(unknown)} that are "
                f"not there, first {unknown[0]}"
            )
        num_new = 0
        for series_id, text in texts.items():
            sidecar = self.read_sidecar(series_id)
            if sidecar is None:
                raise UserError(
                    f"{self.sidecar_path(series_id)}: expected the file beside a volume of the "
                    "index, got none; run triad-curate again"
                )
            if sidecar["description"] != text:
                write_json(self.sidecar_path(series_id), {**sidecar, "description": text})
                num_new += 1
        self.rebuild_index()  # also what a killed call left undone
        return num_new

    def mark_duplicate(self, series_id: str, *, of: str) -> None:
        """Take a finished series out: its sidecar says whose voxels it has, its volume goes."""
        sidecar = self.read_sidecar(series_id)
        assert sidecar is not None
        write_json(self.sidecar_path(series_id), {**sidecar, "duplicate_of": of})
        self.volume_path(series_id).unlink(missing_ok=True)

    def rebuild_index(self) -> None:
        """Write the index table anew from the sidecars, atomically."""
        rows = [
            {name: sidecar[name] for name in INDEX_COLUMNS}
            for sidecar in self.iterate_sidecars()
            if "duplicate_of" not in sidecar
        ]
        table = pd.DataFrame(rows, columns=INDEX_COLUMNS).sort_values("series_id")
        write_table(self.path / INDEX_FILE, table)
        for cached in ("records", "_columns"):
            self.__dict__.pop(cached, None)

    def iterate_sidecars(self) -> Iterator[dict[str, Any]]:
        """Yield the sidecar of each finished series, in no particular order."""
        for path in (self.path / VOLUMES_FOLDER).glob("*/*/*/*.json"):
            if not path.name.startswith("."):
                yield _read_whole_sidecar(path)

    def _array(self, index: int) -> blosc2.NDArray:
        return self._open_array(str(self._columns["series_id"][index]))

    def _open_array(self, series_id: str) -> blosc2.NDArray:
        path = self.volume_path(series_id)
        try:
            array = blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
            if array.shape != self.volume_shape:
                raise ValueError(array.shape)
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise _damaged(path, error) from error
        return array

    @functools.cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        """Columns as arrays, since pandas is slow at single cells."""
        return {name: self.records[name].to_numpy() for name in ("series_id", "mean", "std")}


def read_rejected(path: Path) -> pd.DataFrame:
    """Return the table of what was set aside, empty when nothing was."""
    file = Path(path) / REJECTED_FILE
    if not file.is_file():
        return pd.DataFrame(columns=REJECTED_COLUMNS)
    return read_table(file, "a table that triad-curate wrote", columns=REJECTED_COLUMNS)


def _read_whole_sidecar(path: Path) -> dict[str, Any]:
    """Return a sidecar that has all that the index takes from it."""
    try:
        content = read_json(path)
        numbers = [float(content[name]) for name in _FLOAT_COLUMNS]
        texts = [content[name] for name in _TEXT_COLUMNS]
        if len(numbers) + sum(isinstance(text, str) for text in texts) < len(INDEX_COLUMNS):
            raise TypeError("a field that is no text")
    except (KeyError, TypeError, ValueError) as error:
        raise _not_ours(path, error) from error
    return content


def _not_ours(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path}: expected a file that triad-curate wrote, got another one "
        f"({type(error).__name__}: {error}); delete it and run triad-curate again"
    )


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path}: expected a whole volume, got one that cannot be read ({type(error).__name__}); "
        "delete it with its .json, and run triad-curate again"
    )


def _compress(volume: np.ndarray) -> bytes:
    array = blosc2.empty(
        volume.shape,
        dtype=volume.dtype,
        chunks=tuple(min(CHUNK, extent) for extent in volume.shape),
        blocks=tuple(min(BLOCK, extent) for extent in volume.shape),
        cparams=blosc2.CParams(
            codec=blosc2.Codec.LZ4, clevel=5, filters=[blosc2.Filter.BITSHUFFLE], nthreads=1
        ),
    )
    array[...] = np.ascontiguousarray(volume)  # at once; blosc2.asarray goes chunk by chunk
    return array.to_cframe()


def _checked_id(series_id: str) -> str:
    parts = series_id.split("/")
    if len(parts) != 4 or any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise UserError(
            f"series_id: expected DATASET/SUBJECT/STUDY/SERIES, got {series_id!r}; "
            "the index may be damaged, run triad-curate again to rebuild it"
        )
    return series_id


def _read_settings(path: Path) -> dict[str, Any]:
    file = path / SETTINGS_FILE
    try:
        settings = read_json(file)
        version = settings["format_version"]
        _checked_shape(settings["shape"])
        _checked_spacing(tuple(settings["spacing_mm"]))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path}: expected a volume store, got no {SETTINGS_FILE}; make one with triad-curate"
        ) from None
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(
            f"{file}: expected the settings of a volume store, got something else; "
            "name another folder"
        ) from None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path}: expected a store of format version {FORMAT_VERSION}, got {version}; "
            "curate into another folder"
        )
    return settings


def _read_index(path: Path) -> pd.DataFrame:
    file = path / INDEX_FILE
    if not file.is_file():
        return pd.DataFrame(columns=INDEX_COLUMNS)
    table = read_table(file, "a table that triad-curate wrote", columns=INDEX_COLUMNS)
    missing = [name for name in INDEX_COLUMNS if name not in table]
    if missing:
        raise _not_ours(file, KeyError(missing[0]))
    numbers = read_numbers(file, table, _FLOAT_COLUMNS)
    for name, values in zip(_FLOAT_COLUMNS, numbers.T, strict=True):
        table[name] = values
    table.index = pd.RangeIndex(len(table))
    return table


def _checked_shape(shape: Triple) -> Triple:
    if len(shape) != 3 or any(int(extent) != extent or extent < 2 for extent in shape):
        raise UserError(
            f"--shape: expected three whole numbers of at least 2, such as 256,256,128, "
            f"got {','.join(map(str, shape))}"
        )
    return _triple(shape)


def _checked_spacing(spacing_mm: float | tuple[float, float, float]) -> list[float]:
    values = [spacing_mm] * 3 if isinstance(spacing_mm, int | float) else list(spacing_mm)
    if len(values) != 3 or any(not math.isfinite(value) or value <= 0 for value in values):
        raise UserError(f"--spacing-mm: expected a number above 0, got {spacing_mm}")
    return [float(value) for value in values]


def _triple(values: Any) -> Triple:
    x, y, z = (int(value) for value in values)
    return x, y, z
