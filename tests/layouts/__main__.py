"""`python -m tests.layouts ID FOLDER`: a small tree as a published segmentation dataset unpacks."""

from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import make_app, run_app
from nnunet_triad.errors import UserError
from tests.layouts import find_layout, write_layout

app = make_app("Write a small tree as a published segmentation dataset unpacks.")


@app.command()
def layout(
    dataset: Annotated[
        str, typer.Argument(metavar="ID", help="501 to 517, or a name such as MM-WHS-MRI.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where to write: new or empty.")],
    cases: Annotated[int, typer.Option(help="Labelled cases; nnU-Net's five folds need 5.")] = 5,
    test_cases: Annotated[
        int, typer.Option(help="Further cases, for datasets whose test part is published.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of the subjects.")] = 0,
) -> None:
    """A small tree in the layout of one of the 17 segmentation datasets, for triad-dataset."""
    if cases < 1 or test_cases < 0 or seed < 0:
        raise UserError(
            f"--cases, --test-cases, --seed: expected 1, 0 and 0 or more, got {cases}, "
            f"{test_cases} and {seed}; correct them"
        )
    dataset_id = find_layout(dataset)
    path = write_layout(dataset_id, folder, num_cases=cases, num_test=test_cases, seed=seed)
    print(f"{path}: next, triad-dataset convert {dataset_id} --source {path}")


def main() -> None:
    """Run the command."""
    run_app(app)


if __name__ == "__main__":
    main()
