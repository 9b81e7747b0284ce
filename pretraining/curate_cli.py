"""triad-curate: a tree of images becomes a volume store."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.errors import UserError

_RUN = "run"


class _SourceFirst(TyperGroup):
    """`triad-curate SOURCE STORE` is the main form; other commands stand beside it by name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the main command's name before arguments that name no command."""
        if args and args[0] not in {*self.commands, "--help", "--version"}:
            args = [_RUN, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the main command's help, and the other commands below it."""
        main_command = self.commands[_RUN]
        with type(ctx)(main_command, info_name=ctx.info_name) as own:
            main_command.format_help(own, formatter)
        rows = [
            (f"{ctx.info_name} {name}", command.get_short_help_str(90))
            for name, command in self.commands.items()
            if name != _RUN
        ]
        with formatter.section("Other commands (a SOURCE of such a name: write ./NAME)"):
            formatter.write_dl(rows)


app = make_app("Turn a tree of images into the volume store that pre-training reads.")
app.info.cls = _SourceFirst


@app.callback()
def options(version: VersionOption = False) -> None:
    """Turn a tree of images into the volume store that pre-training reads."""


@app.command(_RUN, hidden=True)
def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder of DICOM files in any nesting, BIDS, or NIfTI files."
        ),
    ],
    store: Annotated[
        Path,
        typer.Argument(metavar="STORE", help="Folder of the store; continued when it is there."),
    ],
    shape: Annotated[str, typer.Option(help="Voxels of each volume, x,y,z.")] = "256,256,128",
    spacing_mm: Annotated[
        float, typer.Option(help="Spacing of the resampling before the resize, mm.")
    ] = 1.0,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the dataset; default: the name of SOURCE.")
    ] = None,
    organ: Annotated[str, typer.Option(help="Label for the index, such as brain.")] = "",
    workers: Annotated[
        int, typer.Option(help="Processes on this machine; 0: one a core, as far as it pays.")
    ] = 0,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, such as tcp://node1:8786.")
    ] = None,
    min_slices: Annotated[int, typer.Option(help="Fewer slices are set aside; 1: off.")] = 8,
    max_spacing_mm: Annotated[
        float, typer.Option(help="Coarser images are set aside, mm; inf: off.")
    ] = 10.0,
    min_foreground: Annotated[
        float,
        typer.Option(help="Least share of voxels above 5 % of the range of values; 0: off."),
    ] = 0.01,
    max_clipped: Annotated[
        float,
        typer.Option(help="Largest share of the foreground at the highest value; 1: off."),
    ] = 0.02,
    reject_constant: Annotated[
        bool,
        typer.Option("--reject-constant/--keep-constant", help="Images with one value only."),
    ] = True,
    reject_nan: Annotated[
        bool, typer.Option("--reject-nan/--zero-nan", help="Images with NaN or infinite values.")
    ] = True,
    reject_other_modalities: Annotated[
        bool,
        typer.Option(
            "--reject-other-modalities/--keep-other-modalities",
            help="Images whose header says that they are not MR.",
        ),
    ] = True,
    reject_derived: Annotated[
        bool,
        typer.Option(
            "--reject-derived/--keep-derived",
            help="Maps (but ADC), projections, subtractions, phase images, screenshots.",
        ),
    ] = True,
    reject_duplicates: Annotated[
        bool,
        typer.Option("--reject-duplicates/--keep-duplicates", help="Voxels of another series."),
    ] = True,
    follow_links: Annotated[
        bool,
        typer.Option("--follow-links", help="Read files that a link outside of SOURCE leads to."),
    ] = False,
    id_salt: Annotated[
        str,
        typer.Option(
            envvar="TRIAD_ID_SALT",
            show_default=False,
            help="A secret that goes into the names of DICOM subjects, studies and series.",
        ),
    ] = "",
) -> None:
    """Curate SOURCE into STORE: RAS, 1 mm, resized, with description and statistics.

    Run it again after an interruption, or with more data: finished series are not touched. Of a
    series with time points the middle one is kept. Labels (*_seg, *_mask, ...) and derivatives are
    skipped. What is bad, ambiguous or breaks a rule is set aside in STORE/rejected.csv, with the
    reason. No personal field of a header is kept. STORE/summary.html shows what came of it.
    """
    from pretraining.curation.runner import curate
    from pretraining.curation.screening import QualityRules
    from pretraining.curation.source import find_all
    from pretraining.curation.workers import Workers
    from pretraining.store import VolumeStore

    _check_label("--organ", organ)
    name = _dataset_name(source, dataset)
    rules = QualityRules(
        reject_constant=reject_constant,
        reject_nan=reject_nan,
        min_foreground=min_foreground,
        max_clipped=max_clipped,
        min_slices=min_slices,
        max_spacing_mm=max_spacing_mm,
        reject_other_modalities=reject_other_modalities,
        reject_derived=reject_derived,
        reject_duplicates=reject_duplicates,
    )
    _check_folders(source, store)
    with Workers(workers, scheduler=scheduler) as team:
        found = find_all(
            source.resolve(),
            dataset=name,
            workers=team,
            salt=id_salt,
            follows_links=follow_links,
        )
        if not found.series and not found.bad_files:
            raise UserError(
                f"{source}: expected at least one image, DICOM, .nii or .nii.gz, got none "
                f"({found.num_skipped} labels or derivatives); name the folder that holds images"
            )
        target = VolumeStore.create(store, shape=_parse_shape(shape), spacing_mm=spacing_mm)
        summary = curate(
            found,
            target,
            dataset=name,
            organ=organ,
            rules=rules,
            workers=team,
            show_progress=True,
        )
    _print_summary(summary, target)


@app.command()
def catalogue(
    organ: Annotated[
        str, typer.Option(help="Only these: brain, breast or prostate; default: all.")
    ] = "",
) -> None:
    """Print the 36 collections that the paper pre-trained on: size, source, licence, layout."""
    from pretraining.curation.catalogue import LAYOUTS, collections

    chosen = [one for one in collections() if organ in ("", one.organ)]
    if not chosen:
        raise UserError(f"--organ: expected brain, breast or prostate, got {organ!r}")
    for one in chosen:
        typer.echo(
            f"{one.name}  ({one.organ}; {one.series:,} series, {one.subjects:,} subjects, "
            f"{one.studies:,} studies)"
        )
        typer.echo(f"    source:  {one.way}: {one.url}")
        typer.echo(f"    licence: {one.licence}, {one.licence_url}")
        typer.echo(f"    layout:  {LAYOUTS[one.layout]}")
    typer.echo(f"{len(chosen)} collections, {sum(one.series for one in chosen):,} series")
    typer.echo("to get one: triad-curate fetch COLLECTION --to FOLDER")


@app.command()
def fetch(
    collection: Annotated[
        str,
        typer.Argument(metavar="COLLECTION", help="Name, as `triad-curate catalogue` prints it."),
    ],
    to: Annotated[Path, typer.Option(help="Folder; the images go to TO/COLLECTION.")],
    patients: Annotated[
        int | None, typer.Option(min=1, help="Only so many patients, to try it; default: all.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would be, and stop.")
    ] = False,
) -> None:
    """Download a collection from the Imaging Data Commons, or say where to apply for it."""
    from pretraining.curation.catalogue import find_collection
    from pretraining.curation.fetch import download, select_series

    chosen = find_collection(collection)
    selection = select_series(chosen, num_patients=patients)
    folder = to / chosen.name
    typer.echo(
        f"{chosen.name}: {selection.num_series:,} MR series of {selection.num_patients:,} patients "
        f"in {selection.num_studies:,} studies, {selection.size_gb:,.1f} GB, licence "
        f"{', '.join(selection.licences)} (index {selection.index_version})"
    )
    typer.echo(f"in the paper: {chosen.series:,} series of {chosen.subjects:,} subjects")
    if not dry_run:
        folder.mkdir(parents=True, exist_ok=True)
        download(selection, folder)
    typer.echo(f"then: triad-curate {folder} STORE --organ {chosen.organ}")


@app.command()
def status(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store.")],
) -> None:
    """Set what a store holds against the paper's Table 1."""
    from pretraining.curation.catalogue import compare_with_paper
    from pretraining.store import VolumeStore, read_rejected

    opened = VolumeStore.open(store)
    table = compare_with_paper(opened)
    typer.echo(f"{'dataset':31}{'organ':10}{'series':>16}{'subjects':>16}{'studies':>16}")
    for row in table.itertuples():
        cells = [
            _share(getattr(row, name), getattr(row, f"paper_{name}"))
            for name in ("series", "subjects", "studies")
        ]
        typer.echo(f"{row.name:31}{row.organ:10}" + "".join(f"{cell:>16}" for cell in cells))
    rejected = read_rejected(opened.path)
    typer.echo(f"{len(opened):,} series in the store, {len(rejected):,} set aside")


def main() -> None:
    """Entry point of triad-curate."""
    run_app(app)


def _share(there: int, in_paper: int) -> str:
    return f"{there:,} of {in_paper:,}" if in_paper else f"{there:,}"


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


def _print_summary(summary: Any, store: Any) -> None:
    from pretraining.curation.runner import paths_file
    from pretraining.curation.summary import SUMMARY_FILE
    from pretraining.store import INDEX_FILE, REJECTED_FILE

    typer.echo(
        f"curated {summary.num_curated}, already there {summary.num_already_there}, "
        f"set aside {summary.num_rejected} series and {summary.num_bad_files} files, "
        f"skipped {summary.num_skipped} labels or derivatives"
    )
    typer.echo(f"{summary.num_in_store} series in {store.path / INDEX_FILE}")
    if summary.num_rejected or summary.num_bad_files:
        typer.echo(f"reasons of what was set aside: {store.path / REJECTED_FILE}")
    if paths_file(store).exists():
        typer.echo(f"paths of the DICOM series (may name persons): {paths_file(store)}")
    if not summary.num_in_store:
        raise UserError(
            f"{store.path}: expected at least one usable image, got none; "
            f"see {store.path / REJECTED_FILE}"
        )
    typer.echo(f"summary: {store.path / SUMMARY_FILE}")
