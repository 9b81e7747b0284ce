"""Everything that a source holds: NIfTI in BIDS or any layout, DICOM in any nesting, or both."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pretraining.curation.dicom_scan import COMPRESSED_SUFFIXES, Instance, Unusable, scan_files
from pretraining.curation.dicom_source import group_series, hidden, scan_in_chunks
from pretraining.curation.nifti_source import find_series
from pretraining.curation.series import FoundSeries
from pretraining.curation.tree import Tree
from pretraining.curation.workers import WorkerDiedError, Workers

# Names that are never DICOM, so that they are not opened.
_OTHER_SUFFIXES = (
    *(".nii", ".json", ".tsv", ".csv", ".txt", ".md", ".html", ".pdf", ".xml", ".xlsx"),
    *(".png", ".jpg", ".bval", ".bvec", ".py", ".zip", ".tar", ".gz"),
)


def find_all(
    root: Path,
    *,
    dataset: str,
    workers: Workers,
    salt: str = "",
    follows_links: bool = False,
) -> FoundSeries:
    """Find the series of a tree.

    A BIDS dataset (it has dataset_description.json) is NIfTI only: what it keeps in `sourcedata`
    are the same images once more.

    Args:
        root: the tree, resolved.
        dataset: first part of every id.
        workers: who reads the headers of DICOM files.
        salt: see `dicom_scan.pseudonym`.
        follows_links: links to files outside of the tree count.
    """
    tree = Tree(root=root, follows_links=follows_links)
    paths = list(tree.files())
    found = find_series(paths, root=root, dataset=dataset)
    taken = {*found.skipped, *(path for one in found.series for path in one.files)}
    if not (root / "dataset_description.json").exists():
        candidates = [path for path in paths if path not in taken and _may_be_dicom(path)]
        seen = scan_in_chunks(candidates, partial(_scan, workers=workers, salt=salt))
        found += group_series(seen, root=root, dataset=dataset, salt=salt)
        if seen:  # paths of a DICOM tree may hold names of persons
            tree.bad_files = [
                hidden(bad.path, bad.reason, root=root, salt=salt) for bad in tree.bad_files
            ]
    taken |= {path for one in found.series for path in one.files}
    taken |= {bad.path for bad in found.bad_files}
    others = Counter(_ending(path) for path in paths if path not in taken)
    if tree.num_hidden:
        others["hidden"] = tree.num_hidden
    return replace(found, bad_files=found.bad_files + tree.bad_files, others=others)


def _may_be_dicom(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(COMPRESSED_SUFFIXES) or not name.endswith(_OTHER_SUFFIXES)


def _ending(path: Path) -> str:
    """Return what a file is called by; a name may end in anything, a person's included."""
    ending = path.suffix.lower()
    is_ending = re.fullmatch(r"\.[a-z][a-z0-9_]{0,5}", ending) is not None
    return ending if is_ending else "no ending"


def _scan(
    chunks: Sequence[list[Path]], *, workers: Workers, salt: str
) -> Iterable[list[Instance | Unusable]]:
    for chunk, result in workers.run(partial(scan_files, salt=salt), chunks):
        if isinstance(result, WorkerDiedError):
            yield [Unusable(path=path, reason=str(result)) for path in chunk]
        else:
            yield result
