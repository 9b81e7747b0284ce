"""Every image preprocessed once, into files that are named by content and settings.

Whole images become cubes (`KEY.npy`). Images that hold many samples (a scan with candidates) become
chunked volumes at the cubes' spacing (`KEY.b2nd`), of which a sample reads the chunks that it
touches. Values are float16: z-scores keep three digits. Loading a sample maps, converts and unmaps
a file, so that memory does not grow with the number of images: the operating system's page cache
does what a cache in memory would.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from classification.manifest import Manifest
from classification.preprocess import (
    Axis,
    centred_axes,
    index_map,
    isotropic_axes,
    normalise,
    preprocess,
    read_image,
    sample,
    smooth,
)
from classification.settings import PreprocessSettings
from nnunet_triad.errors import UserError, reason_of
from nnunet_triad.files import remove_leftovers, sha256, write_atomically, write_json
from nnunet_triad.images import Volume, image_files, spacing_of
from nnunet_triad.processes import worker_pool
from nnunet_triad.texts import MOST_OF_A_LIST, read_json
from nnunet_triad.training.stop_signal import KILLED_WORKER

FORMAT_VERSION = 1  # of the cached files; another one makes other keys
_HASHES_NAME = "hashes.json"
_CHUNK = 32  # voxels along each edge of a chunk
_LEFTOVER_S = 3600  # seconds after which a half-written file is a killed run's
_NUM_SHOWN = 3  # bad files that an error names


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What a source file was like, for the report on what was changed."""

    path: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    orientation: str
    num_filled: int
    affine: list[list[float]]  # of the cached volume, voxel to world
    low: float  # smallest value of the cached volume


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The cached files of a manifest."""

    size: int  # voxels along each edge of a sample
    files: tuple[tuple[Path, ...], ...]  # for each distinct image its channels' cached files
    facts: tuple[FileFacts, ...]  # of the distinct source files

    def load(
        self,
        image: int,
        *,
        centre_mm: NDArray | None = None,
        extent_mm: float | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Return a sample.

        Args:
            image: number of the distinct image.
            centre_mm: (3,), RAS, of a sample inside a scan.
            extent_mm: edge of that sample.
            out: is filled and returned, such as a place in a batch; default: a new tensor.

        Returns:
            (c, size, size, size) float32.
        """
        files = self.files[image]
        if out is None:
            out = torch.empty((len(files), *[self.size] * 3))
        for path, target in zip(files, out, strict=True):
            if centre_mm is None:
                self._read_cube(path, target)
            else:
                assert extent_mm is not None
                target.copy_(torch.from_numpy(self._crop(path, centre_mm, extent_mm)))
        return out

    def num_channels(self, image: int) -> int:
        """Return the channels of a sample of an image."""
        return len(self.files[image])

    def _read_cube(self, path: Path, target: Tensor) -> None:
        """Map the file, convert what lies behind its header, and let go of it."""
        length = path.stat().st_size // 2
        mapped = torch.from_file(str(path), shared=False, size=length, dtype=torch.float16)
        target.copy_(mapped[-(self.size**3) :].view((self.size,) * 3))

    def _crop(self, path: Path, centre_mm: NDArray, extent_mm: float) -> NDArray[np.float32]:
        affine, low = _read_geometry(path.with_suffix(".json"))
        source = blosc2.open(str(path), mode="r")
        centre = (np.linalg.inv(affine) @ [*centre_mm, 1.0])[:3]
        axes = centred_axes(
            source.shape, spacing_of(affine), centre, extent_mm=extent_mm, size=self.size
        )
        slabs, inner = zip(*(_slab(axis, self.size) for axis in axes), strict=True)
        block = np.asarray(source[slabs], dtype=np.float32)
        return sample(block, inner, shape=(self.size,) * 3, outside=low)

    def summary(self) -> str:
        """Return in one line what the images were like before they became cubes."""
        shapes = {fact.shape for fact in self.facts}
        spacings = np.array([fact.spacing_mm for fact in self.facts])
        orientations = sorted({fact.orientation for fact in self.facts})
        text = (
            f"images: {len(self.facts)} files of {len(shapes)} shapes, spacing "
            f"{spacings.min():.2g} to {spacings.max():.2g} mm, orientation "
            f"{', '.join(orientations)}; "
            f"resampled to {self.size}x{self.size}x{self.size}, RAS"
        )
        filled = [fact for fact in self.facts if fact.num_filled]
        if filled:
            text += (
                f"; {len(filled)} had NaN or infinity, replaced by their smallest value "
                f"(first {filled[0].path}: {filled[0].num_filled} voxels)"
            )
        return text


@dataclass(frozen=True, kw_only=True)
class _Job:
    source: Path
    target: Path
    settings: PreprocessSettings
    spacing_mm: float | None  # of a chunked volume; None: a cube


def build_cache(
    manifest: Manifest,
    settings: PreprocessSettings,
    folder: Path,
    *,
    workers: int = 0,
    is_quiet: bool = False,
) -> Cache:
    """Preprocess the manifest's images that are not cached yet.

    Args:
        manifest: names the images.
        settings: of the preprocessing.
        folder: of the cache; may be shared by several manifests and settings.
        workers: processes; 0 works in this one.
        is_quiet: show no progress bar.

    Raises:
        UserError: images are not usable (all are tried, the first ones are named), or the disk is
            too small.
    """
    remove_leftovers(folder, min_age_s=_LEFTOVER_S)
    sources = sorted({file for image in manifest.images for file in image})
    spacing = None if manifest.extent_mm is None else manifest.extent_mm / settings.size
    keys = _keys(sources, settings, spacing, folder)
    suffix = ".npy" if spacing is None else ".b2nd"
    target_of = {source: folder / f"{keys[source]}{suffix}" for source in sources}
    jobs = [
        _Job(source=source, target=target, settings=settings, spacing_mm=spacing)
        for source, target in target_of.items()
        if not target.with_suffix(".json").exists()  # written last
    ]
    if spacing is None:
        _check_room(folder, len(jobs) * settings.size**3 * 2)
    _run(jobs, workers=workers, is_quiet=is_quiet)
    facts = tuple(_read_facts(target.with_suffix(".json")) for target in target_of.values())
    files = tuple(tuple(target_of[file] for file in image) for image in manifest.images)
    return Cache(size=settings.size, files=files, facts=facts)


def _run(jobs: Sequence[_Job], *, workers: int, is_quiet: bool) -> None:
    complaints = []
    with tqdm(total=len(jobs), unit="image", desc="cache", disable=is_quiet or not jobs) as bar:
        for complaint in _results(jobs, workers):
            bar.update()
            if complaint:
                complaints.append(complaint)
    if complaints:
        more = len(complaints) - _NUM_SHOWN
        shown = "; ".join(complaints[:_NUM_SHOWN])
        raise UserError(shown + (f"; and {more} more such images" if more > 0 else ""))


def _results(jobs: Sequence[_Job], workers: int) -> Iterable[str | None]:
    if not workers or len(jobs) < 2:
        yield from map(_preprocess_file, jobs)
        return
    try:
        with worker_pool(workers) as pool:
            yield from pool.map(_preprocess_file, jobs)
    except BrokenProcessPool as error:
        raise UserError(KILLED_WORKER) from error


def _preprocess_file(job: _Job) -> str | None:
    """Write one cached file; return what is wrong with the image, if something is."""
    try:
        image = read_image(job.source)
    except Exception as error:  # one image does not hide what is wrong with the others
        told = "" if isinstance(error, UserError) else f"{job.source}: expected an image, got one "
        return told + reason_of(error)
    if job.spacing_mm is None:
        cube, affine = preprocess(image, job.settings)
        with write_atomically(job.target) as temporary:
            np.save(temporary, cube.astype(np.float16))
    else:
        cube, affine = _resample_scan(image, job.settings, job.spacing_mm)
        _write_chunked(job.target, cube.astype(np.float16))
    facts = FileFacts(
        path=str(job.source),
        shape=image.grid.shape,
        spacing_mm=tuple(image.grid.spacing_mm.tolist()),
        orientation=image.grid.orientation,
        num_filled=image.num_filled,
        affine=affine.tolist(),
        low=float(cube.min()),
    )
    write_json(job.target.with_suffix(".json"), asdict(facts))
    return None


def _resample_scan(
    image: Volume, settings: PreprocessSettings, spacing_mm: float
) -> tuple[NDArray, NDArray]:
    turned = image.to_ras()
    axes, shape = isotropic_axes(turned.grid.shape, turned.grid.spacing_mm, spacing_mm)
    normalised = normalise(turned.voxels, settings)
    return sample(smooth(normalised, axes), axes, shape=shape), turned.affine @ index_map(axes)


def _write_chunked(path: Path, volume: NDArray) -> None:
    chunks = tuple(min(_CHUNK, length) for length in volume.shape)
    compression = {"codec": blosc2.Codec.LZ4, "clevel": 1}
    array = blosc2.asarray(np.ascontiguousarray(volume), chunks=chunks, cparams=compression)
    content = array.to_cframe()
    with write_atomically(path, num_bytes=len(content)) as temporary:
        temporary.write_bytes(content)  # blosc2 itself says nothing of a full disk


def _slab(axis: Axis, size: int) -> tuple[slice, Axis]:
    """Return the part of a line that `size` samples touch, and the samples' place in it."""
    ends = axis.positions(size)[[0, -1]]
    start = int(np.clip(np.floor(ends[0]), 0, axis.length - 1))
    stop = int(np.clip(np.ceil(ends[1]) + 1, start + 1, axis.length))
    return slice(start, stop), Axis(first=axis.first - start, step=axis.step, length=stop - start)


def _keys(
    sources: Sequence[Path], settings: PreprocessSettings, spacing: float | None, folder: Path
) -> dict[Path, str]:
    """Return a name for each source from its bytes, the settings and the format."""
    recipe = json.dumps([FORMAT_VERSION, settings.to_dict(), spacing], sort_keys=True)
    hashes = _content_hashes(sources, folder)
    return {
        source: hashlib.sha256(f"{hashes[source]} {recipe}".encode()).hexdigest()[:32]
        for source in sources
    }


def _content_hashes(sources: Sequence[Path], folder: Path) -> dict[Path, str]:
    """Hash the files of each image; those whose size and time are known are not read."""
    path = folder / _HASHES_NAME
    known = _read_known(path)
    changed, result = False, {}
    for source in sources:
        parts = image_files(source)
        stamp = [[part.stat().st_size, part.stat().st_mtime_ns] for part in parts]
        name = str(source.resolve())
        match known.get(name):
            case [list(before), str(digest)] if before == stamp:
                result[source] = digest
            case _:
                result[source] = " ".join(sha256(part) for part in parts)
                known[name] = [stamp, result[source]]
                changed = True
    if changed:
        write_json(path, known)
    return result


def _read_known(path: Path) -> dict[str, Any]:
    """Return the hashes of an earlier run; none where the file is of another kind: hash again."""
    if not path.exists():
        return {}
    try:
        known = read_json(path, most_bytes=MOST_OF_A_LIST)
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _check_room(folder: Path, num_bytes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise UserError(
            f"{folder}: expected {num_bytes / 2**20:.3g} MiB free for the cache, got "
            f"{free / 2**20:.3g} MiB; choose another --cache"
        )


def _read_facts(path: Path) -> FileFacts:
    try:
        content = read_json(path)
        lists = {name: tuple(content[name]) for name in ("shape", "spacing_mm")}
        facts = FileFacts(**{**content, **lists})
        for numbers, shape in ((facts.affine, (4, 4)), (facts.spacing_mm, (3,)), (facts.low, ())):
            if np.asarray(numbers, dtype=np.float64).shape != shape:
                raise ValueError(numbers)
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}: expected what the cache says of an image, got something else; delete it, and "
            "run the same command again"
        ) from None
    return facts


@functools.lru_cache(maxsize=4096)
def _read_geometry(path: Path) -> tuple[NDArray[np.float64], float]:
    facts = _read_facts(path)
    return np.array(facts.affine), facts.low
