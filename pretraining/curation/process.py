"""One series from its source to its finished place in the store."""

from typing import Any

import numpy as np

from nnunet_triad.preprocessing import (
    choose_storage_dtype,
    resample_and_resize,
    spacing_of,
    to_ras,
    to_storage_dtype,
)
from pretraining.curation.series import LoadedSeries, RejectedSeriesError, Series
from pretraining.descriptions import describe
from pretraining.store import FORMAT_VERSION, VolumeStore

MAX_EXTENT_MM = 4000.0  # of an axis; above that the header's spacing is nonsense


def process_series(series: Series, store: VolumeStore, *, organ: str = "") -> None:
    """Load a series, bring it to the store's grid and write it.

    Source: Triad, section 4.1: RAS, 1 mm, 256 x 256 x 128, uint16 or float32, a description.

    Raises:
        RejectedSeriesError: the series cannot be used; nothing was written.
        OSError: the store cannot be written to.
    """
    loaded = series.load()
    _check_extent(loaded)
    dtype, dtype_reason = choose_storage_dtype(loaded.volume)
    turned, turned_affine = to_ras(loaded.volume, loaded.affine)
    resampled, affine = resample_and_resize(
        turned, turned_affine, target_spacing_mm=store.spacing_mm, target_shape=store.volume_shape
    )
    volume = to_storage_dtype(resampled, dtype)
    if volume.min() == volume.max():
        raise RejectedSeriesError("constant after resampling")
    sidecar = {
        "format_version": FORMAT_VERSION,
        **_identity(series, organ),
        **_geometry(loaded, volume, affine),
        "original_dtype": str(loaded.volume.dtype),
        "dtype": str(dtype),
        "dtype_reason": dtype_reason,
        **_statistics(volume),
        "description": describe(loaded.fields),
        "fields": loaded.fields.to_dict(),
    }
    store.write_series(series.series_id, volume, sidecar)


def _check_extent(loaded: LoadedSeries) -> None:
    extent_mm = float(np.max(spacing_of(loaded.affine) * loaded.volume.shape))
    if extent_mm > MAX_EXTENT_MM:
        raise RejectedSeriesError(f"implausible extent of {extent_mm:.4g} mm along an axis")


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


def _statistics(volume: np.ndarray) -> dict[str, float]:
    """Statistics of the stored values, over the whole volume, as nnU-Net's z-score takes them."""
    return {
        "mean": float(volume.mean(dtype=np.float64)),
        "std": float(volume.std(dtype=np.float64)),
        "minimum": float(volume.min()),
        "maximum": float(volume.max()),
    }
