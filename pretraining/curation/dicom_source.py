"""Series of a tree of DICOM files, in any nesting, with several series in a folder or not."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pretraining.curation.dicom_scan import Instance, Unusable, pseudonym
from pretraining.curation.dicom_series import DicomSeries
from pretraining.curation.series import BadFile, FoundSeries, Series


def group_series(
    seen: Iterable[Instance | Unusable], *, root: Path, dataset: str, salt: str
) -> FoundSeries:
    """Group files by their SeriesInstanceUID.

    Ids: names that stand for the patient's id, the study's and the series' UID (see `pseudonym`).
    No path and no name of a person is in them, so that the store can be given away.

    Args:
        seen: what the files are.
        root: the tree.
        dataset: first part of every id.
        salt: see `pseudonym`.
    """
    groups: dict[str, list[Instance]] = defaultdict(list)
    bad_files = []
    for one in seen:
        if isinstance(one, Instance):
            groups[one.series].append(one)
        else:
            bad_files.append(hidden(one.path, one.reason, root=root, salt=salt))
    series: list[Series] = [_series(groups[name], dataset=dataset) for name in sorted(groups)]
    return FoundSeries(series=series, bad_files=bad_files)


def hidden(path: Path, reason: str, *, root: Path, salt: str) -> BadFile:
    """Return a bad file under a name that does not tell its path, which may hold a person's."""
    relative = path.relative_to(root).as_posix()
    return BadFile(source=pseudonym("file-", relative, salt=salt), path=path, reason=reason)


def scan_in_chunks(
    paths: Sequence[Path],
    scan: Callable[[Sequence[list[Path]]], Iterable[list[Instance | Unusable]]],
    *,
    chunk: int = 256,
) -> list[Instance | Unusable]:
    """Scan files, a chunk of them at a time so that workers have something to do.

    Args:
        paths: files.
        scan: chunks -> what their files are, in any order.
        chunk: files a task.
    """
    chunks = [list(paths[start : start + chunk]) for start in range(0, len(paths), chunk)]
    seen = [one for part in scan(chunks) for one in part]
    return sorted(seen, key=lambda one: one.path)


def _series(instances: list[Instance], *, dataset: str) -> DicomSeries:
    owners = {(one.patient, one.study) for one in instances}
    first = instances[0]
    return DicomSeries(
        dataset=dataset,
        subject=first.patient,
        study=first.study,
        series=first.series,
        path=first.path.parent,
        source=f"DICOM series of {len(instances)} files",
        source_bytes=sum(one.num_bytes for one in instances),
        instances=tuple(one.path for one in instances),
        num_owners=len(owners),
    )
