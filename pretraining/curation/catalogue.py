"""The collections that the paper pre-trained on (its Table 1), as data.

Source: Triad, Table 1, with two corrections. ISPY2 shows breasts, as the paper's own totals say.
The vestibular schwannoma's numbers are those of the collection "-SEG", not of "-MC-RC" that the
paper links to. Licences of what the Imaging Data Commons holds are those of its index; for the
others see their pages.
"""

import functools
import importlib.resources
import re
from dataclasses import dataclass

import pandas as pd

from nnunet_triad.errors import UserError
from nnunet_triad.tables import parse_table, rows_of
from pretraining.store import VolumeStore

ACCESS = {
    "idc": "Imaging Data Commons",
    "download": "download from its page",
    "apply": "application at its page",
    "controlled": "controlled access, see its page",
}
LAYOUTS = {
    "dicom": "DICOM in any nesting",
    "nifti_flat": "NIfTI files in one folder",
    "nifti_by_subject": "a folder of NIfTI files a subject",
    "bids": "BIDS",
    "metaimage_by_subject": "a folder of MetaImage files (.mha) a subject",
}


@dataclass(frozen=True, kw_only=True)
class Collection:
    """One row of Table 1.

    Attributes:
        name: as the paper has it, with `-` for spaces; the name of the dataset in a store.
        organ: "brain", "breast" or "prostate".
        series, subjects, studies: numbers in the paper.
        access: key of `ACCESS`.
        idc_id: its id in the Imaging Data Commons, "" when it is not there.
        url: its page.
        licence, licence_url: of the images.
        layout: key of `LAYOUTS`.
    """

    name: str
    organ: str
    series: int
    subjects: int
    studies: int
    access: str
    idc_id: str
    url: str
    licence: str
    licence_url: str
    layout: str

    @property
    def way(self) -> str:
        """How it is had, in words."""
        return ACCESS[self.access]


@functools.cache
def collections() -> tuple[Collection, ...]:
    """Return the 36 collections in the order of the paper."""
    text = importlib.resources.files("pretraining.curation") / "data" / "collections.csv"
    table = parse_table(text.read_text(encoding="utf-8"), "collections.csv: expected a table")
    return tuple(_collection(row) for _, row in rows_of(table))


def find_collection(name: str) -> Collection:
    """Return a collection by its name, in any spelling of case and punctuation.

    Raises:
        UserError: there is none.
    """
    found = [one for one in collections() if _key(one.name) == _key(name)]
    if not found:
        raise UserError(
            f"COLLECTION: expected a name that `triad-curate catalogue` prints, got {name!r}"
        )
    return found[0]


def compare_with_paper(store: VolumeStore) -> pd.DataFrame:
    """Set what a store holds against the paper's numbers.

    Returns:
        A row a collection and a row a dataset that is none: name, organ, and for series, subjects
        and studies what is there and what the paper has (0 for datasets that it does not name).
    """
    records = store.records
    number_of = {
        name: (
            len(rows),
            rows["subject"].nunique(),
            len(rows[["subject", "study"]].drop_duplicates()),
        )
        for name, rows in records.groupby("dataset")
    }
    by_key = {_key(str(name)): numbers for name, numbers in number_of.items()}
    known = {_key(one.name) for one in collections()}
    rows = []
    for one in collections():
        there = by_key.get(_key(one.name), (0, 0, 0))
        rows.append((one.name, one.organ, *there, one.series, one.subjects, one.studies))
    for name, numbers in number_of.items():
        if _key(str(name)) not in known:
            organs = sorted(set(records.loc[records["dataset"] == name, "organ"]) - {""})
            rows.append((str(name), ", ".join(organs), *numbers, 0, 0, 0))
    columns = ["name", "organ", "series", "subjects", "studies"]
    return pd.DataFrame(rows, columns=[*columns, *(f"paper_{name}" for name in columns[2:])])


def _collection(row: dict[str, str]) -> Collection:
    numbers = {name: int(row[name]) for name in ("series", "subjects", "studies")}
    return Collection(**{**row, **numbers})  # type: ignore[arg-type]


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removesuffix("challenge")
