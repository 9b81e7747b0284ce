"""One series from its source to its finished place in the store."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from isal import isal_zlib

from nnunet_triad.architectures.cpu.allocator import keep_freed_memory
from nnunet_triad.images import spacing_of, to_ras
from nnunet_triad.images.intensity import choose_storage_dtype, round_to_storage_dtype
from nnunet_triad.images.orientation import degrees_off
from nnunet_triad.images.resampling import AxisMatrices, iterate_planes, plan_resampling
from pretraining.curation.screening import check_grid, check_voxels
from pretraining.curation.series import LoadedSeries, RejectedSeriesError, Series
from pretraining.curation.settings import QualityRules
from pretraining.descriptions import describe
from pretraining.store import FORMAT_VERSION, VolumeStore

LEAST_OBLIQUE_DEG = 1.0  # that is said
MAX_EXTENT_MM = 4000.0  # of an axis; above that the header's spacing is nonsense


def process_series(
    series: Series, store: VolumeStore, *, organ: str = "", rules: QualityRules | None = None
) -> None:
    """Load a series, bring it to the store's grid and write it.

    Source: Triad, section 4.1: RAS, 1 mm, 256 x 256 x 128, uint16 or float32, a description.

    Raises:
        RejectedSeriesError: the series cannot be used; nothing was written.
        OSError: the store cannot be written to.
    """
    keep_freed_memory()
    rules = rules or QualityRules()
    loaded = series.load(rules)
    check_grid(loaded.volume.shape, spacing_of(loaded.affine), rules)
    _check_extent(loaded, store.spacing_mm)
    source = check_voxels(loaded.volume, rules)
    dtype, dtype_reason = choose_storage_dtype(source)
    turned, turned_affine = to_ras(source, loaded.affine)
    matrices, affine = plan_resampling(
        turned.shape,
        turned_affine,
        target_spacing_mm=store.spacing_mm,
        target_shape=store.volume_shape,
    )
    volume, statistics = _resample(turned, matrices, dtype)
    if statistics["minimum"] == statistics["maximum"] and rules.reject_constant:
        raise RejectedSeriesError("constant after resampling")
    x, y, z = (round(float(length), 4) for length in spacing_of(turned_affine))
    fields = replace(loaded.fields, spacing_mm=(x, y, z))  # along R-L, A-P, I-S
    sidecar = {
        "format_version": FORMAT_VERSION,
        **_identity(series, organ),
        **_geometry(loaded, volume, affine),
        "original_dtype": str(loaded.volume.dtype),
        "dtype": str(dtype),
        "dtype_reason": dtype_reason,
        **statistics,
        "crc32": isal_zlib.crc32(volume.data),
        "notes": [*loaded.notes, *_notes(loaded)],
        "description": describe(fields),
        "fields": fields.to_dict(),
    }
    store.write_series(series.series_id, volume, sidecar)


def _resample(
    source: np.ndarray, matrices: AxisMatrices, dtype: np.dtype
) -> tuple[np.ndarray, dict[str, float]]:
    """Return the stored voxels and their statistics, over the whole volume as nnU-Net takes them.

    Planes are converted and summed up while they are in the cache.
    """
    x, y, z = (matrix.shape[0] for matrix in matrices)
    volume = np.empty((x, y, z), dtype=dtype)
    total = total_of_squares = 0.0
    values = np.empty((y, z))
    lowest, highest = np.inf, -np.inf
    for row, plane in enumerate(iterate_planes(source, matrices)):
        round_to_storage_dtype(plane, dtype)
        volume[row] = plane
        lowest, highest = min(lowest, volume[row].min()), max(highest, volume[row].max())
        np.copyto(values, plane)
        total += values.sum()
        total_of_squares += np.vdot(values, values)
    mean = total / volume.size
    variance = max(total_of_squares / volume.size - mean**2, 0.0)
    statistics = {
        "mean": float(mean),
        "std": float(np.sqrt(variance)),
        "minimum": float(lowest),
        "maximum": float(highest),
    }
    return volume, statistics


def _check_extent(loaded: LoadedSeries, target_spacing_mm: Sequence[float]) -> None:
    spacing_mm = spacing_of(loaded.affine)
    extents_mm = spacing_mm * loaded.volume.shape
    if extents_mm.max() > MAX_EXTENT_MM:
        raise RejectedSeriesError(f"implausible extent of {extents_mm.max():.4g} mm along an axis")
    if extents_mm.min() < min(target_spacing_mm):
        text = " x ".join(f"{one:.3g}" for one in spacing_mm)
        raise RejectedSeriesError(
            f"smaller than a voxel of the store: {extents_mm.min():.3g} mm along an axis, "
            f"{text} mm between voxels"
        )


def _identity(series: Series, organ: str) -> dict[str, Any]:
    return {
        "series_id": series.series_id,
        "dataset": series.dataset,
        "subject": series.subject,
        "study": series.study,
        "series": series.series,
        "organ": organ,
        "source": series.source,
        "source_bytes": series.source_bytes,
    }


def _notes(loaded: LoadedSeries) -> list[str]:
    """Say how far an oblique grid is from the patient's axes, to which it is not rotated."""
    angle_deg = degrees_off(loaded.affine)
    if angle_deg < LEAST_OBLIQUE_DEG:
        return []
    return [f"oblique: axes up to {angle_deg:.0f} degrees from the patient's"]


def _geometry(loaded: LoadedSeries, volume: np.ndarray, affine: np.ndarray) -> dict[str, Any]:
    return {
        "original_shape": list(loaded.original_shape),
        "original_spacing_mm": spacing_of(loaded.affine).tolist(),
        "original_affine": loaded.affine.tolist(),
        "time_point": loaded.time_point,
        "shape": list(volume.shape),
        "spacing_mm": spacing_of(affine).tolist(),
        "affine": affine.tolist(),
    }
