"""triad-curate: a tree of images becomes a volume store."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nnunet_triad.cli import VersionOption, make_app, run_app, takes_settings
from nnunet_triad.errors import UserError
from pretraining.curation.settings import MOST_LETTERS, CurationSettings

_RUN = "run"
_MOST_ENDINGS = 8  # that are named


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
@takes_settings()
def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of DICOM files in any nesting, BIDS, or NIfTI and other image files.",
        ),
    ],
    store: Annotated[
        Path,
        typer.Argument(metavar="STORE", help="Folder of the store; continued when it is there."),
    ],
    *,
    settings: CurationSettings,
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
    from pretraining.curation.source import find_all
    from pretraining.curation.workers import Workers
    from pretraining.store import VolumeStore

    plain = re.sub(r"[^A-Za-z0-9_-]", "-", source.resolve().name)[:MOST_LETTERS]
    name = settings.dataset or plain or "dataset"
    _check_folders(source, store)
    with Workers(settings.workers, scheduler=settings.scheduler) as team:
        found = find_all(
            source.resolve(),
            dataset=name,
            workers=team,
            salt=id_salt,
            follows_links=settings.follow_links,
        )
        if not found.series and not found.bad_files:
            raise UserError(
                f"{source}: expected at least one image, DICOM, .nii or .nii.gz, got none "
                f"({len(found.skipped)} labels or derivatives, "
                f"{_others(found.others)}); name the folder that holds images"
            )
        target = VolumeStore.create(store, shape=settings.shape, spacing_mm=settings.spacing_mm)
        summary = curate(
            found,
            target,
            dataset=name,
            organ=settings.organ,
            rules=settings.rules,
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


def _others(counts: Mapping[str, int]) -> str:
    """Say how many files are no images that are read, and the endings of most of them."""
    named = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_MOST_ENDINGS]
    text = ", ".join(f"{number} {name}" for name, number in named)
    rest = sum(counts.values()) - sum(number for _, number in named)
    text += f", {rest} more" if rest else ""
    return f"{sum(counts.values())} others" + (f" ({text})" if text else "")


def _print_summary(summary: Any, store: Any) -> None:
    from pretraining.curation.runner import paths_file
    from pretraining.curation.summary import SUMMARY_FILE
    from pretraining.store import INDEX_FILE, REJECTED_FILE

    typer.echo(
        f"curated {summary.num_curated}, already there {summary.num_already_there}, "
        f"set aside {summary.num_rejected} series and {summary.num_bad_files} files, "
        f"skipped {summary.num_skipped} labels or derivatives"
    )
    typer.echo(f"files: {summary.num_files} in series, {_others(summary.others)}")
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
