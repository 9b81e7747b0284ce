"""triad-curate: a tree of images becomes a volume store."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.errors import UserError
from pretraining.curation.montage import MONTAGE_FILE
from pretraining.curation.nifti_source import find_series
from pretraining.curation.runner import CurationSummary, curate
from pretraining.curation.series import FoundSeries
from pretraining.store import INDEX_FILE, REJECTED_FILE, VolumeStore

app = make_app("Turn a tree of images into the volume store that pre-training reads.")


@app.command()
def main_command(
    source: Annotated[Path, typer.Argument(help="Folder with NIfTI files, BIDS or any layout.")],
    store: Annotated[Path, typer.Argument(help="Folder of the store; continued when it is there.")],
    shape: Annotated[str, typer.Option(help="Voxels of each volume, x,y,z.")] = "256,256,128",
    spacing_mm: Annotated[
        float, typer.Option(help="Spacing of the resampling before the resize, mm.")
    ] = 1.0,
    workers: Annotated[int, typer.Option(help="Processes; 0: one a core.")] = 0,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the dataset; default: the name of SOURCE.")
    ] = None,
    organ: Annotated[str, typer.Option(help="Label for the index, such as brain.")] = "",
    version: VersionOption = False,
) -> None:
    """Curate SOURCE into STORE: RAS, 1 mm, resized, with description and statistics.

    Run it again after an interruption, or with more data: finished series are not touched.
    Label files (*_seg, *_dseg, *_mask, ...) and derivatives are skipped. Bad or ambiguous
    images are set aside in STORE/rejected.csv with the reason. No personal field is kept.
    """
    if workers < 0:
        raise UserError(f"--workers: expected 0 or more, got {workers}")
    _check_label("--organ", organ)
    name = _dataset_name(source, dataset)
    found = _find(source, store, name)
    target = VolumeStore.create(store, shape=_parse_shape(shape), spacing_mm=spacing_mm)
    summary = curate(
        found,
        target,
        organ=organ,
        num_workers=workers or os.cpu_count() or 1,
        show_progress=True,
    )
    _print_summary(summary, target)


def main() -> None:
    """Entry point of triad-curate."""
    run_app(app)


def _find(source: Path, store: Path, dataset: str) -> FoundSeries:
    _check_folders(source, store)
    found = find_series(source.resolve(), dataset=dataset)
    if not found.series:
        raise UserError(
            f"{source}: expected at least one image, .nii or .nii.gz, got none "
            f"({found.num_skipped} labels or derivatives); name the folder that holds images"
        )
    return found


def _check_folders(source: Path, store: Path) -> None:
    if not source.is_dir():
        found = "a file" if source.exists() else "nothing there"
        raise UserError(f"{source}: expected a folder of images, got {found}; check the path")
    try:
        next(source.iterdir(), None)
    except PermissionError:
        raise UserError(
            f"{source}: expected a folder that can be read, got no permission; change its rights"
        ) from None
    inner, outer = store.resolve(), source.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise UserError(
            f"{store}: expected a store outside of the source, got one that shares a folder with "
            f"{source}; name another folder"
        )


def _dataset_name(source: Path, dataset: str | None) -> str:
    if dataset is None:
        return re.sub(r"[^A-Za-z0-9_-]", "-", source.resolve().name) or "dataset"
    if not dataset:
        raise UserError("--dataset: expected a name, got an empty one")
    _check_label("--dataset", dataset)
    return dataset


def _check_label(option: str, value: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]*", value):
        raise UserError(f"{option}: expected letters, digits, - and _ only, got {value!r}")


def _parse_shape(text: str) -> tuple[int, int, int]:
    if not re.fullmatch(r"\d+,\d+,\d+", text.replace(" ", "")):
        raise UserError(f"--shape: expected three whole numbers such as 256,256,128, got {text!r}")
    x, y, z = (int(number) for number in text.split(","))
    return x, y, z


def _print_summary(summary: CurationSummary, store: VolumeStore) -> None:
    typer.echo(
        f"curated {summary.num_curated}, already there {summary.num_already_there}, "
        f"set aside {summary.num_rejected}, skipped {summary.num_skipped} labels or derivatives"
    )
    typer.echo(f"{summary.num_in_store} series in {store.path / INDEX_FILE}")
    if summary.num_rejected:
        typer.echo(f"reasons of what was set aside: {store.path / REJECTED_FILE}")
    if not summary.num_in_store:
        raise UserError(
            f"{store.path}: expected at least one usable image, got none; "
            f"see {store.path / REJECTED_FILE}"
        )
    typer.echo(f"picture: {store.path / MONTAGE_FILE}")
