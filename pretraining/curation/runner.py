"""Curation of a whole source: write what is new, set aside what is bad, and go on."""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import pandas as pd
from tqdm import tqdm

from nnunet_triad.errors import UserError
from pretraining.curation.montage import MONTAGE_FILE, save_montage
from pretraining.curation.process import process_series
from pretraining.curation.series import FoundSeries, RejectedSeriesError, Series
from pretraining.store import (
    REJECTED_COLUMNS,
    REJECTED_FILE,
    VolumeStore,
    read_rejected,
    write_table,
)

try:
    import fcntl
except ImportError:  # Windows has other locks; there nothing guards against a second writer
    fcntl = None  # type: ignore[assignment]

Rejections = list[tuple[Series, str]]  # each with its reason


@dataclass(frozen=True, kw_only=True)
class CurationSummary:
    """What a run did, in numbers of series."""

    num_curated: int
    num_already_there: int
    num_rejected: int
    num_skipped: int
    num_in_store: int


def curate(
    found: FoundSeries,
    store: VolumeStore,
    *,
    organ: str = "",
    num_workers: int = 1,
    show_progress: bool = False,
) -> CurationSummary:
    """Bring what a source has into a store; finished series are not touched again.

    Neither the volumes nor the tables depend on the number of workers.

    Args:
        found: the series of one dataset.
        store: where they go.
        organ: a label for the index, such as "brain"; it is not part of a description.
        num_workers: processes; 1 works in this one.
        show_progress: draw a bar with a rate and an end time.

    Raises:
        UserError: another run is writing to the store, a worker was ended, or nothing was usable.
    """
    with _only_writer(store):
        unique, rejections = _without_duplicates(found.series, store)
        to_do, num_finished, changed = _without_finished(unique, store)
        rejections += changed
        tasks = _run(to_do, store, organ=organ, num_workers=num_workers)
        bar = tqdm(tasks, total=len(to_do), desc="curate", unit="series", disable=not show_progress)
        failed = [(series, reason) for series, reason in bar if reason]
        rejections += failed
        _write_rejected(store, rejections, datasets={series.dataset for series in found.series})
        num_curated = len(to_do) - len(failed)
        store.rebuild_index()
        if len(store) and (num_curated or not (store.path / MONTAGE_FILE).exists()):
            save_montage(store)
    return CurationSummary(
        num_curated=num_curated,
        num_already_there=num_finished,
        num_rejected=len(rejections),
        num_skipped=found.num_skipped,
        num_in_store=len(store),
    )


def _without_duplicates(
    series: Sequence[Series], store: VolumeStore
) -> tuple[list[Series], Rejections]:
    """Set aside all series that share an id, except one that is in the store already."""
    by_id: dict[str, list[Series]] = {}
    for one in series:
        by_id.setdefault(one.series_id, []).append(one)
    unique: list[Series] = []
    rejections: Rejections = []
    for series_id, group in by_id.items():
        sidecar = store.read_sidecar(series_id) if len(group) > 1 else None
        for one in group:
            others = ", ".join(other.source for other in group if other is not one)
            if not others or (sidecar and sidecar["source"] == one.source):
                unique.append(one)
            else:
                rejections.append((one, f"same name as {others}"))
    return unique, rejections


def _without_finished(
    series: Sequence[Series], store: VolumeStore
) -> tuple[list[Series], int, Rejections]:
    """Leave out what is in the store, and set aside what is there under this id from elsewhere."""
    to_do: list[Series] = []
    rejections: Rejections = []
    num_finished = 0
    for one in series:
        sidecar = store.read_sidecar(one.series_id)
        if sidecar is None:
            to_do.append(one)
        elif sidecar["source"] != one.source:
            rejections.append((one, f"same name as {sidecar['source']}, which is in the store"))
        elif sidecar["source_bytes"] != one.source_bytes:
            reason = f"not the file that is in the store, which had {sidecar['source_bytes']} bytes"
            rejections.append((one, reason))
        else:
            num_finished += 1
    return to_do, num_finished, rejections


def _run(
    to_do: Sequence[Series], store: VolumeStore, *, organ: str, num_workers: int
) -> Iterator[tuple[Series, str]]:
    """Process series and yield each with the reason for its rejection, "" where it was written."""
    if num_workers == 1 or len(to_do) < 2:
        for one in to_do:
            yield one, _process(one, store, organ)
        return
    pool = ProcessPoolExecutor(
        min(num_workers, len(to_do)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_end_with_parent,
    )
    try:
        futures = {pool.submit(_process, one, store, organ): one for one in to_do}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise UserError(
            f"--workers: expected memory for {num_workers} processes, got one that was ended by "
            "the system; run again with fewer, finished series are kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _process(series: Series, store: VolumeStore, organ: str) -> str:
    try:
        process_series(series, store, organ=organ)
    except RejectedSeriesError as error:
        return str(error)
    return ""


def _end_with_parent() -> None:
    """End this worker when the main process is gone, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _write_rejected(store: VolumeStore, rejections: Rejections, *, datasets: set[str]) -> None:
    """Replace the rows of these datasets; those of others stay."""
    before = read_rejected(store.path)
    now = pd.DataFrame(
        [(one.series_id, one.dataset, one.source, reason) for one, reason in rejections],
        columns=REJECTED_COLUMNS,
    )
    table = pd.concat([before[~before["dataset"].isin(datasets)], now])
    write_table(store.path / REJECTED_FILE, table.sort_values(["dataset", "source"]))


@contextlib.contextmanager
def _only_writer(store: VolumeStore) -> Iterator[None]:
    """Hold the store's lock; the system frees it when this process ends, however it ends."""
    with (store.path / ".lock").open("w") as file:
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{store.path}: expected a store that nobody writes to, got one that another "
                "triad-curate is writing to; wait until it ends"
            ) from None
        yield
