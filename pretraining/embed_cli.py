"""triad-embed: the descriptions of a store become vectors."""

from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import DeviceOption, VersionOption, make_app, run_app
from nnunet_triad.errors import UserError
from nnunet_triad.files import only_process, remove_leftovers
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
    device: DeviceOption = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the vectors of another model.")
    ] = False,
    version: VersionOption = False,
) -> None:
    """Embed each distinct description of STORE once; a rerun embeds only new ones.

    A folder makes it work without a connection; a name is taken from the hub or its cache.
    """
    descriptions = VolumeStore.open(store).records["description"].tolist()
    if not descriptions:
        raise UserError(f"{store}: expected at least one series, got none; run triad-curate first")
    sentence_model = find_model(model, revision=revision)
    refusal = (
        f"{store}: expected a store that no other triad-embed writes to, got one that one does; "
        "wait until it ends"
    )
    with only_process(store / ".embed.lock", refusal=refusal):
        for name in (VECTORS_FILE, SUMMARY_FILE):
            remove_leftovers(store, of=name)
        num_new, table = update_embeddings(
            store,
            descriptions,
            sentence_model,
            device=device,
            overwrite=overwrite,
            show_progress=True,
        )
    num_series = len(descriptions)
    typer.echo(f"embedded {num_new} of {len(table)} distinct descriptions, {num_series} series")
    typer.echo(f"model {table.model_name}, revision {table.revision}, dimension {table.dimension}")
    typer.echo(f"vectors: {store / VECTORS_FILE}, summary: {store / SUMMARY_FILE}")


def main() -> None:
    """Entry point of triad-embed."""
    run_app(app)
