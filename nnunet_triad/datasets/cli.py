"""`triad-dataset`: segmentation datasets, from a download to nnU-Net."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnunet_triad.cli import JsonOption, VersionOption, make_app, run_app, takes_settings
from nnunet_triad.datasets.convert_case import ConversionOptions
from nnunet_triad.errors import UserError

if TYPE_CHECKING:
    from nnunet_triad.datasets.spec import DatasetSpec
    from nnunet_triad.datasets.splits import Split
    from nnunet_triad.datasets.status import DatasetStatus

app = make_app(
    "Convert segmentation datasets to nnU-Net's format, and split them: the paper's 17, or one of "
    "your own, by a file that describes it.\n\n"
    "nnU-Net's own commands plan, train and predict: nnUNetv2_plan_and_preprocess -d ID "
    "--verify_dataset_integrity, then nnUNetv2_train ID 3d_fullres 0 -tr nnUNetTrainerTriadSwinB."
)

_Dataset = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Id or name, such as 501 or BraTS21 (see list), or the file that describes a dataset "
        "of your own (.toml, .json).",
    ),
]


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


@app.command("list")
def list_datasets(
    dataset: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="Say everything about this one; an id, name or file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the 17 datasets, or all that is known of one: layout, labels, licence, access."""
    from nnunet_triad.datasets import find_dataset, known_datasets

    chosen = [find_dataset(dataset)] if dataset else list(known_datasets().values())
    if as_json:
        print(json.dumps([_fields(spec) for spec in chosen], indent=2))
    elif dataset:
        _print_fields(_fields(chosen[0]))
    else:
        header = ("id", "name", "modality", "channels", "labels", "cases", "anatomy")
        _print_table(header, [_list_row(spec) for spec in chosen])


@app.command()
def describe(
    source: Annotated[Path, typer.Argument(help="Folder of labelled images, NIfTI.")],
    output: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The description.")],
    number: Annotated[
        int, typer.Option("--id", min=1, max=999, help="Of the dataset in nnU-Net.")
    ] = 601,
    name: Annotated[str, typer.Option(help="Of the dataset.")] = "Own",
    modality: Annotated[str, typer.Option(help="MRI or CT.")] = "MRI",
) -> None:
    """Guess from the files of a folder how a dataset of your own lies there, and write it down.

    Known are two folders (images and labels), files NAME and NAME_seg side by side, and a folder a
    case. Read the file, give the labels their names, then: triad-dataset convert FILE.toml --source
    SOURCE.
    """
    from nnunet_triad.datasets.describe import describe as write_down
    from nnunet_triad.datasets.spec_file import read_spec
    from nnunet_triad.files import write_atomically

    if modality not in ("MRI", "CT"):
        raise UserError(f"--modality: expected MRI or CT, got {modality}")
    if output.suffix != ".toml" or output.exists():
        got = "a file that is there" if output.exists() else output.name
        raise UserError(f"FILE.toml: expected a new file that ends in .toml, got {got}")
    if not source.is_dir():
        raise UserError(f"SOURCE: expected a folder, got {source}")
    text, guess = write_down(source.resolve(), number=number, name=name, modality=modality)
    with write_atomically(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    spec = read_spec(output)
    num_cases = len(spec.layout.find_cases(source.resolve(), spec))
    print(f"{output}: {num_cases} cases, images {', '.join(guess.images)}, label {guess.label}")
    print(f"next: triad-dataset convert {output} --source {source}")


@app.command()
@takes_settings()
def convert(
    dataset: _Dataset,
    source: Annotated[
        Path, typer.Option(help="Folder into which the dataset's archives were unpacked.")
    ],
    *,
    options: ConversionOptions,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that read, check and write cases.")
    ] = min(4, os.cpu_count() or 1),
) -> None:
    """Convert a dataset to nnUNet_raw and check every file; run again to finish a stopped run."""
    from nnunet_triad.datasets import find_dataset
    from nnunet_triad.datasets.convert import convert_dataset

    spec = find_dataset(dataset)
    summary = convert_dataset(
        spec,
        source,
        options=options,
        num_processes=processes,
        show_progress=True,
    )
    tests = f" and {summary.num_test} test cases" if summary.num_test else ""
    print(f"{summary.folder}: {summary.num_training} training cases{tests}")
    if summary.num_training != (spec.num_cases or summary.num_training):
        print(f"note: {spec.num_cases:,} cases were expected")
    for names in summary.twins:
        print(f"note: the same image in {', '.join(names)}; splits keep them together")
    if summary.num_patients < summary.num_training:
        _split_by_patient_if_possible(spec)
    print(f"next: nnUNetv2_plan_and_preprocess -d {spec.id} --verify_dataset_integrity")


@app.command()
def status(
    dataset: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Only this one; an id, name or file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what nnU-Net's folders hold of each dataset, against the number of cases expected."""
    from nnunet_triad.datasets import find_dataset, known_datasets
    from nnunet_triad.datasets.raw_folder import nnunet_folder
    from nnunet_triad.datasets.status import dataset_status

    nnunet_folder("nnUNet_raw")
    chosen = [find_dataset(dataset)] if dataset else list(known_datasets().values())
    rows = [_status_row(dataset_status(spec)) for spec in chosen]
    header = ("id", "name", "raw", "cases", "expected", "test", "preprocessed", "splits", "trained")
    if as_json:
        print(json.dumps([dict(zip(header, row, strict=True)) for row in rows], indent=2))
    else:
        _print_table(header, rows)


@app.command()
def split(
    dataset: _Dataset,
    from_file: Annotated[
        Path | None,
        typer.Option("--from", help="MONAI or VoCo data list (.json), or a table (.csv)."),
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(help="Table (.csv) with columns case and patient.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out listed cases that are not converted.")
    ] = False,
    folds: Annotated[int, typer.Option(min=2, max=1000, help="Folds, where no list is given.")] = 5,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace splits that are there already.")
    ] = False,
) -> None:
    """Write splits_final.json: from a list, or five folds that keep each patient's cases together.

    Also for a dataset that you made for nnU-Net yourself, by the id of its folder in nnUNet_raw.
    Fewer patients give a fold each. Without this command nnU-Net makes its own five folds
    at the first training, and stops there if there are fewer than five cases.
    """
    from nnunet_triad.datasets.raw_folder import nnunet_folder
    from nnunet_triad.datasets.splits import SPLITS_FILE, write_splits
    from nnunet_triad.files import check_outputs

    name, rows = _training_cases(dataset)
    folder = nnunet_folder("nnUNet_preprocessed") / name
    check_outputs([folder / SPLITS_FILE], [from_file, patients])
    rows = _with_patients(rows, patients) if patients else rows
    splits = _listed_splits(rows, from_file, partial) if from_file else _folds(rows, folds)
    path = write_splits(folder, splits, is_overwritten=overwrite)
    sizes = ", ".join(f"{len(fold['train'])}+{len(fold['val'])}" for fold in splits)
    print(f"{path}: {len(splits)} {'fold' if len(splits) == 1 else 'folds'}, train+val {sizes}")


def _training_cases(dataset: str) -> tuple[str, list[dict[str, str]]]:
    """Return the folder's name and the training cases of a dataset, described here or not."""
    from nnunet_triad.datasets import find_dataset
    from nnunet_triad.datasets.raw_folder import find_raw_folder, raw_folder
    from nnunet_triad.datasets.records import CASES_FILE, read_cases, read_undescribed_cases

    found = find_raw_folder(dataset)
    try:
        folder = raw_folder(find_dataset(dataset))
    except UserError:
        if found is None:
            raise
        return found.name, read_undescribed_cases(found)
    if found not in (None, folder):
        return found.name, read_undescribed_cases(found)
    rows = read_cases(folder / CASES_FILE)
    return folder.name, [row for row in rows if row["is_training"] == "1"]


def _listed_splits(rows: list[dict[str, str]], file: Path, is_partial: bool) -> "list[Split]":
    from nnunet_triad.datasets.layouts.checks import join_some
    from nnunet_triad.datasets.split_files import read_list
    from nnunet_triad.datasets.splits import split_from_list

    result = split_from_list(read_list(file), rows, is_partial=is_partial)
    if result.num_unknown:
        print(f"note: {result.num_unknown} listed cases are not converted and left out")
    if result.num_unused:
        print(f"note: {result.num_unused} converted cases are not listed and will not be used")
    if result.divided_patients:
        print(
            f"warning: {len(result.divided_patients)} patients have cases on both sides "
            f"({join_some(result.divided_patients)}); the validation is biased"
        )
    return result.splits


def _folds(rows: list[dict[str, str]], num_folds: int) -> "list[Split]":
    from nnunet_triad.datasets.splits import split_by_patient

    patients = {row["case"]: row["patient"] for row in rows}
    return split_by_patient(patients, num_folds=num_folds)


def _with_patients(rows: list[dict[str, str]], file: Path) -> list[dict[str, str]]:
    from nnunet_triad.datasets.layouts.checks import join_some
    from nnunet_triad.datasets.split_files import read_patients

    patients = read_patients(file)
    missing = [row["case"] for row in rows if row["case"] not in patients]
    if missing:
        raise UserError(
            f"{file}: expected a patient for each case, got none for {len(missing)} "
            f"({join_some(missing)}); add them"
        )
    return [{**row, "patient": patients[row["case"]]} for row in rows]


def _split_by_patient_if_possible(spec: "DatasetSpec") -> None:
    """Write folds by patient right away: nnU-Net's own would not know of patients."""
    from nnunet_triad.datasets.raw_folder import preprocessed_folder, raw_folder
    from nnunet_triad.datasets.records import CASES_FILE, read_cases
    from nnunet_triad.datasets.splits import NUM_FOLDS, write_splits

    rows = [r for r in read_cases(raw_folder(spec) / CASES_FILE) if r["is_training"] == "1"]
    try:
        path = write_splits(preprocessed_folder(spec), _folds(rows, NUM_FOLDS))
    except UserError as error:
        print(f"note: no splits by patient were written ({error})")
    else:
        print(f"{path}: folds that keep each patient's cases together")


def _fields(spec: "DatasetSpec") -> dict[str, object]:
    return {
        "id": spec.id,
        "name": spec.name,
        "folder": spec.folder_name,
        "anatomy": spec.anatomy,
        "modality": spec.modality,
        "cases": spec.num_cases,
        "channels": list(spec.channels),
        "labels": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in spec.labels.items()
        },
        "published_label_values": {str(k): v for k, v in spec.source_values.items()},
        "layout": spec.layout.description,
        "licence": spec.licence,
        "url": spec.url,
        "access": spec.access,
        "reference": spec.reference,
        "notes": list(spec.notes),
    }


def _print_fields(fields: dict[str, object]) -> None:
    width = max(map(len, fields))
    for name, value in fields.items():
        if not value:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        lines = value if isinstance(value, list) and name == "notes" else [value]
        for number, line in enumerate(lines):
            text = ", ".join(map(str, line)) if isinstance(line, list) else line
            print(f"{name.replace('_', ' ') if not number else '':{width}}  {text}")


def _list_row(spec: "DatasetSpec") -> tuple[str, ...]:
    return (
        str(spec.id),
        spec.name,
        spec.modality,
        str(len(spec.channels)),
        str(len(spec.labels) - 1),
        f"{spec.num_cases:,}",
        spec.anatomy,
    )


def _status_row(status: "DatasetStatus") -> tuple[str, ...]:
    raw = f"conflict: {status.conflicts[0].name}" if status.conflicts else status.raw
    return (
        str(status.spec.id),
        status.spec.name,
        raw or "-",
        str(status.num_training or "-"),
        f"{status.spec.num_cases:,}" if status.spec.num_cases else "-",
        str(status.num_test or "-"),
        ", ".join(f"{name} {number}" for name, number in status.preprocessed.items()) or "-",
        "yes" if status.has_splits else "-",
        "; ".join(f"{name} {','.join(folds)}" for name, folds in status.trained.items()) or "-",
    )


def _print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def main() -> None:
    """Run the command."""
    run_app(app)
