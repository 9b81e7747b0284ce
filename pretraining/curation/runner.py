"""Curation of a whole source: write what is new, set aside what is bad, and go on."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from nnunet_triad.errors import reason_of
from nnunet_triad.files import remove_leftovers, write_json, write_table
from nnunet_triad.tables import read_table
from pretraining.curation.dicom_series import DicomSeries
from pretraining.curation.duplicates import find_duplicates, set_aside_duplicates
from pretraining.curation.montage import MONTAGE_FOLDER
from pretraining.curation.process import process_series
from pretraining.curation.series import FoundSeries, RejectedSeriesError, Series
from pretraining.curation.settings import QualityRules
from pretraining.curation.summary import save_summary
from pretraining.curation.workers import WorkerDiedError, Workers
from pretraining.store import (
    REJECTED_COLUMNS,
    REJECTED_FILE,
    VOLUMES_FOLDER,
    VolumeStore,
    read_rejected,
)

RULES_FILE = "curation.json"

Rejections = list[tuple[Series, str]]  # each with its reason


@dataclass(frozen=True, kw_only=True)
class CurationSummary:
    """What a run did, in numbers of series; the last four are files.

    Attributes:
        num_files: of the series.
        num_bad_files: that belong to none.
        num_skipped: labels and derivatives.
        others: by ending, that are none of these.
    """

    num_curated: int
    num_already_there: int
    num_rejected: int
    num_in_store: int
    num_files: int
    num_bad_files: int
    num_skipped: int
    others: dict[str, int]


def curate(
    found: FoundSeries,
    store: VolumeStore,
    *,
    dataset: str,
    organ: str = "",
    rules: QualityRules | None = None,
    workers: Workers | None = None,
    show_progress: bool = False,
) -> CurationSummary:
    """Bring what a source has into a store; finished series are not touched again.

    Neither the volumes nor the tables depend on the number of workers.

    Args:
        found: the series of one dataset.
        store: where they go.
        dataset: the first part of their ids.
        organ: a label for the index, such as "brain"; it is not part of a description.
        rules: what is set aside.
        workers: who does it; default: this process.
        show_progress: draw a bar with a rate and an end time.

    Raises:
        UserError: another run is writing to the store, or a cluster went away.
    """
    rules = rules or QualityRules()
    with store.only_writer():
        _remove_leftovers(store)
        write_json(store.path / RULES_FILE, {**asdict(rules), "organ": organ})
        unique, rejections = _without_duplicates(found.series, store)
        to_do, num_finished, changed = _without_finished(unique, store, rules)
        rejections += changed
        tasks = _run(to_do, store, organ=organ, rules=rules, workers=workers or Workers(1))
        bar = tqdm(tasks, total=len(to_do), desc="curate", unit="series", disable=not show_progress)
        failed = [(series, reason) for series, reason in bar if reason]
        if rules.reject_duplicates:
            set_aside_duplicates(store)
        copies = _copies(unique, store)
        rejections += failed + copies
        _write_rejected(store, rejections, found, dataset=dataset)
        _write_paths(store, found, dataset=dataset)
        store.rebuild_index()
        save_summary(store)
    new = {one.series_id for one in to_do}
    num_new_copies = sum(one.series_id in new for one, _ in copies)
    return CurationSummary(
        num_curated=max(len(to_do) - len(failed) - num_new_copies, 0),
        num_already_there=num_finished - (len(copies) - num_new_copies),
        num_rejected=len(rejections),
        num_in_store=len(store),
        num_files=sum(len(one.files) for one in found.series),
        num_bad_files=len(found.bad_files),
        num_skipped=len(found.skipped),
        others=dict(found.others.most_common()),
    )


def paths_file(store: VolumeStore) -> Path:
    """Return the table of paths of DICOM series: beside the store, not in it."""
    return store.path.with_name(f"{store.path.name}_paths.csv")


def _remove_leftovers(store: VolumeStore) -> None:
    """Remove the half-written files of a run that was killed; nobody else writes here now."""
    table = paths_file(store)
    remove_leftovers(table.parent, of=table.name)
    volumes = (store.path / VOLUMES_FOLDER).glob("*/*/*")
    for folder in (store.path, store.path / MONTAGE_FOLDER, *volumes):
        remove_leftovers(folder)


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
    series: Sequence[Series], store: VolumeStore, rules: QualityRules
) -> tuple[list[Series], int, Rejections]:
    """Leave out what is in the store, and set aside what is there under this id from elsewhere."""
    to_do: list[Series] = []
    rejections: Rejections = []
    num_finished = 0
    for one in series:
        sidecar = store.read_sidecar(one.series_id)
        if sidecar is None or ("duplicate_of" in sidecar and not rules.reject_duplicates):
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
    to_do: Sequence[Series],
    store: VolumeStore,
    *,
    organ: str,
    rules: QualityRules,
    workers: Workers,
) -> Iterator[tuple[Series, str]]:
    """Process series and yield each with the reason for its rejection, "" where it was written."""
    task = partial(_process, store=store, organ=organ, rules=rules)
    for series, result in workers.run(task, to_do):
        if isinstance(result, WorkerDiedError):
            yield series, f"{result}: out of memory, or a defect of a library"
        else:
            yield series, result


def _process(series: Series, *, store: VolumeStore, organ: str, rules: QualityRules) -> str:
    try:
        process_series(series, store, organ=organ, rules=rules)
    except RejectedSeriesError as error:
        return str(error)
    except MemoryError:
        return "too large for the memory of a worker"
    except Exception as error:  # one series never ends the run
        return reason_of(error)
    return ""


def _copies(series: Sequence[Series], store: VolumeStore) -> Rejections:
    duplicate_of = find_duplicates(store)
    return [
        (one, f"same voxels as {duplicate_of[one.series_id]}")
        for one in series
        if one.series_id in duplicate_of
    ]


def _write_rejected(
    store: VolumeStore, rejections: Rejections, found: FoundSeries, *, dataset: str
) -> None:
    """Replace the rows of this dataset; those of others stay."""
    before = read_rejected(store.path)
    rows = [(one.series_id, one.dataset, one.source, reason) for one, reason in rejections]
    rows += [("", dataset, bad.source, bad.reason) for bad in found.bad_files]
    now = pd.DataFrame(rows, columns=REJECTED_COLUMNS)
    table = pd.concat([before[before["dataset"] != dataset], now])
    table = table.sort_values(["dataset", "source", "series_id", "reason"])
    write_table(store.path / REJECTED_FILE, table)


def _write_paths(store: VolumeStore, found: FoundSeries, *, dataset: str) -> None:
    """Say where the series of a DICOM tree lie, for those who may know it."""
    dicom = [one for one in found.series if isinstance(one, DicomSeries)]
    rows = [(dataset, one.series_id, str(one.path)) for one in dicom]
    if not rows:
        return
    rows += [(dataset, bad.source, str(bad.path)) for bad in found.bad_files]
    columns = ["dataset", "name", "path"]
    file = paths_file(store)
    now = pd.DataFrame(rows, columns=columns)
    if file.is_file():
        before = read_table(file, "a table that triad-curate wrote", columns=columns)
        now = pd.concat([before[before["dataset"] != dataset], now])
    write_table(file, now)
