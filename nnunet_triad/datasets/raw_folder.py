"""The dataset's folders in nnU-Net's three places: where they are, and whose."""

import errno
import os
from pathlib import Path

from nnunet_triad.datasets.spec import DatasetSpec
from nnunet_triad.errors import UserError

VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def nnunet_folder(variable: str) -> Path:
    """Return one of nnU-Net's folders.

    Raises:
        UserError: the variable is not set.
    """
    value = os.environ.get(variable)
    if not value:
        raise UserError(
            f"{variable}: expected a folder in the environment, got none; "
            f"export {variable}=/path/to/{variable}"
        )
    return Path(value)


def find_raw_folder(dataset: str) -> Path | None:
    """Return the folder in nnUNet_raw of an id or a name, None where there is none.

    Args:
        dataset: "21" or "Dataset021_Own".

    Raises:
        UserError: nnUNet_raw is not set, or several folders have the id.
    """
    number = f"{int(dataset):03d}" if dataset.isascii() and dataset.isdecimal() else ""
    folders = [path for path in nnunet_folder("nnUNet_raw").glob("Dataset*_*") if path.is_dir()]
    found = [
        path
        for path in sorted(folders)
        if dataset == path.name or number == path.name[7:].split("_")[0]
    ]
    if len(found) > 1:
        raise UserError(
            f"id {dataset}: expected one folder in nnUNet_raw, got "
            f"{', '.join(path.name for path in found)}; give one of them another id"
        )
    return found[0] if found else None


def raw_folder(spec: DatasetSpec) -> Path:
    """Return where the converted dataset is, or will be."""
    return nnunet_folder("nnUNet_raw") / spec.folder_name


def preprocessed_folder(spec: DatasetSpec) -> Path:
    """Return where nnU-Net keeps the dataset's plans, splits and preprocessed cases."""
    return nnunet_folder("nnUNet_preprocessed") / spec.folder_name


def other_datasets(spec: DatasetSpec) -> list[Path]:
    """Return the folders in nnU-Net's three places that have the id and another name."""
    return [
        path
        for variable in VARIABLES
        if os.environ.get(variable)
        for path in sorted(Path(os.environ[variable]).glob(f"Dataset{spec.id:03d}_*"))
        if path.name != spec.folder_name
    ]


def refuse_other_dataset(spec: DatasetSpec) -> None:
    """Raise when the id is another dataset's; nnU-Net refuses two names of one id later on.

    Raises:
        UserError: a folder in nnUNet_raw, nnUNet_preprocessed or nnUNet_results has the id.
    """
    for path in other_datasets(spec):
        raise UserError(
            f"id {spec.id}: expected {spec.folder_name} or nothing in nnU-Net's folders, "
            f"got {path}; move it elsewhere, or give it another id"
        )


def make_writable(folder: Path) -> None:
    """Make `folder`, and raise when nothing can be written into it.

    Raises:
        UserError: the folder is read-only, or its place cannot be made.
    """
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UserError(
            f"{folder}: expected a folder that can be written to, got one that cannot "
            f"({error.strerror}); change its permissions, or point nnUNet_raw elsewhere"
        ) from error
