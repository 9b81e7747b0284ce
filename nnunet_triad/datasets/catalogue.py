"""The segmentation datasets that everybody has, one file each in `data/`: the paper's 17.

Source: section 4.2.1 of the paper for the numbers of cases; the datasets' own pages, publications
and tools for everything else. The decathlon's tasks are those of medicaldecathlon.com.
"""

import functools
from pathlib import Path

from nnunet_triad.datasets.spec import DatasetSpec
from nnunet_triad.datasets.spec_file import SUFFIXES, read_spec
from nnunet_triad.errors import UserError


@functools.cache
def known_datasets() -> dict[int, DatasetSpec]:
    """Return the datasets of `data/` by id."""
    files = sorted(Path(__file__).with_name("data").glob("*.toml"))
    return {spec.id: spec for spec in map(read_spec, files)}


def find_dataset(id_name_or_file: str) -> DatasetSpec:
    """Return a dataset by its id, its name, nnU-Net's name of its folder, or its description.

    Args:
        id_name_or_file: "501", "BraTS21", "Dataset501_BraTS21", or a file that ends in .toml or
            .json and describes a dataset that the catalogue does not have.

    Raises:
        UserError: there is none, the message lists the ids; or the file cannot be used.
    """
    if Path(id_name_or_file).suffix.lower() in SUFFIXES:
        return read_spec(Path(id_name_or_file))
    wanted = id_name_or_file.lower().replace("_", "-")
    for spec in known_datasets().values():
        names = (str(spec.id), spec.name, spec.folder_name)
        if wanted in (name.lower().replace("_", "-") for name in names):
            return spec
    known = ", ".join(f"{spec.id} {spec.name}" for spec in known_datasets().values())
    raise UserError(
        f"dataset: expected one of {known}, or a .toml or .json file, got {id_name_or_file}; see "
        "triad-dataset list"
    )
