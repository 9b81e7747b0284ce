"""Download of collections that the Imaging Data Commons holds, through its own package."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunet_triad.errors import UserError
from pretraining.curation.catalogue import Collection

_COLUMNS = [
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "license_short_name",
    "instanceCount",
    "series_size_MB",
]
FOLDERS = "%PatientID/%StudyInstanceUID/%SeriesInstanceUID"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The MR series of a collection, from the index that comes with the package."""

    collection: Collection
    table: pd.DataFrame
    index_version: str

    @property
    def num_series(self) -> int:
        """Number of series."""
        return len(self.table)

    @property
    def num_patients(self) -> int:
        """Number of patients."""
        return int(self.table["PatientID"].nunique())

    @property
    def num_studies(self) -> int:
        """Number of studies."""
        return int(self.table["StudyInstanceUID"].nunique())

    @property
    def size_gb(self) -> float:
        """Size of the files, in 10^9 bytes."""
        return float(self.table["series_size_MB"].astype(float).sum()) / 1e3

    @property
    def licences(self) -> list[str]:
        """Licences of the series, as the index names them."""
        return sorted(set(self.table["license_short_name"].astype(str)))


def select_series(collection: Collection, *, num_patients: int | None = None) -> Selection:
    """List the MR images of a collection, without segmentations and other analysis results.

    Args:
        collection: that the Imaging Data Commons holds.
        num_patients: only the first patients, in the order of their ids; default: all.

    Raises:
        UserError: it is not there, its index has no MR of it, or the package is not installed.
    """
    if not collection.idc_id:
        raise UserError(
            f"{collection.name}: expected a collection of the Imaging Data Commons, got one that "
            f"its owner gives out ({collection.way}, {collection.licence}); see {collection.url}, "
            f"then run: triad-curate FOLDER STORE --dataset {collection.name} "
            f"--organ {collection.organ}"
        )
    try:
        import idc_index_data
    except ImportError:
        raise UserError(
            "fetch: expected the package idc-index, got none; "
            "pip install '.[fetch]' in the checkout"
        ) from None
    index = idc_index_data.IDC_INDEX_PARQUET_FILEPATH
    assert index is not None
    table = pd.read_parquet(
        index,
        columns=[*_COLUMNS, "analysis_result_id"],
        filters=[("collection_id", "==", collection.idc_id), ("Modality", "==", "MR")],
    )
    table = table[table["analysis_result_id"].isna()][_COLUMNS]
    if table.empty:
        raise UserError(
            f"{collection.name}: expected MR series of {collection.idc_id} in the index "
            f"{idc_index_data.__version__}, got none; pip install --upgrade idc-index"
        )
    table = table.sort_values(["PatientID", "StudyInstanceUID", "SeriesInstanceUID"])
    if num_patients is not None:
        table = table[table["PatientID"].isin(sorted(set(table["PatientID"]))[:num_patients])]
    return Selection(
        collection=collection,
        table=table.reset_index(drop=True),
        index_version=idc_index_data.__version__,
    )


def download(selection: Selection, folder: Path) -> None:
    """Download series to FOLDER/PATIENT/STUDY/SERIES; files that are there are not sent again."""
    from idc_index import IDCClient

    IDCClient().download_from_selection(
        downloadDir=str(folder),
        seriesInstanceUID=list(selection.table["SeriesInstanceUID"]),
        dirTemplate=FOLDERS,
        use_s5cmd_sync=True,
        quiet=False,
    )
