"""triad-embed: the descriptions of a store become vectors."""

from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import DeviceOption, VersionOption, make_app, run_app
from nnunet_triad.errors import UserError
from nnunet_triad.files import only_process, remove_leftovers
from nnunet_triad.tables import read_table
from pretraining.store import VolumeStore
from pretraining.text_embeddings import (
    DEFAULT_MODEL,
    SUMMARY_FILE,
    VECTORS_FILE,
    find_model,
    update_embeddings,
)

app = make_app("Embed the imaging descriptions of a volume store with a frozen sentence model.")


@app.command()
def main_command(
    store: Annotated[Path, typer.Argument(help="Volume store, made by triad-curate.")],
    model: Annotated[
        str, typer.Option(help="Name on the Hugging Face hub, or folder of a local copy.")
    ] = DEFAULT_MODEL,
    revision: Annotated[
        str | None, typer.Option(help="Commit, tag or branch of a model on the hub.")
    ] = None,
    descriptions: Annotated[
        Path | None,
        typer.Option(
            help="Table (CSV) with the columns series_id and description, such as an edited copy "
            "of STORE/index.csv: they replace the store's own, which follow from the headers."
        ),
    ] = None,
    device: DeviceOption = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the vectors of another model.")
    ] = False,
    version: VersionOption = False,
) -> None:
    """Embed each distinct description of STORE once; a rerun embeds only new ones.

    A folder makes it work without a connection; a name is taken from the hub or its cache.
    """
    volumes = VolumeStore.open(store)
    if not len(volumes):
        raise UserError(f"{store}: expected at least one series, got none; run triad-curate first")
    texts = _read_descriptions(descriptions) if descriptions else {}
    sentence_model = find_model(model, revision=revision)
    refusal = (
        f"{store}: expected a store that no other triad-embed writes to, got one that one does; "
        "wait until it ends"
    )
    with only_process(store / ".embed.lock", refusal=refusal):
        for name in (VECTORS_FILE, SUMMARY_FILE):
            remove_leftovers(store, of=name)
        if texts:
            with volumes.only_writer():
                num_replaced = volumes.describe(texts)
            typer.echo(f"replaced {num_replaced} descriptions by those of {descriptions}")
        num_new, table = update_embeddings(
            store,
            volumes.records["description"].tolist(),
            sentence_model,
            device=device,
            overwrite=overwrite,
            show_progress=True,
        )
    typer.echo(f"embedded {num_new} of {len(table)} distinct descriptions, {len(volumes)} series")
    typer.echo(f"model {table.model_name}, revision {table.revision}, dimension {table.dimension}")
    typer.echo(f"vectors: {store / VECTORS_FILE}, summary: {store / SUMMARY_FILE}")


def _read_descriptions(path: Path) -> dict[str, str]:
    columns = ["series_id", "description"]
    table = read_table(path, "descriptions (CSV)", columns=columns)
    missing = [name for name in columns if name not in table]
    if missing or table.empty:
        raise UserError(
            f"{path}: expected rows with the columns {', '.join(columns)}, got the columns "
            f"{', '.join(table.columns)} and {len(table)} rows"
        )
    for name in columns:
        if (table[name] == "").any():
            line = table.index[table[name] == ""][0]
            raise UserError(f"{path}, line {line}: expected a {name}, got none")
    twice = table["series_id"][table["series_id"].duplicated()]
    if len(twice):
        raise UserError(
            f"{path}, line {twice.index[0]}: expected each series once, got {twice.iloc[0]} again"
        )
    return dict(zip(table["series_id"], table["description"], strict=True))


def main() -> None:
    """Entry point of triad-embed."""
    run_app(app)
