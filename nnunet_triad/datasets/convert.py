"""A whole dataset: from its published folders to nnU-Net's raw folder.

What has been finished is never done again, so that a conversion that was killed goes on where it
stopped and ends with the same files. `dataset.json` is written last: before, nnU-Net does not take
the folder for a dataset.
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_triad.datasets.case import Case
from nnunet_triad.datasets.convert_case import (
    ENDING,
    UNFINISHED,
    ConversionOptions,
    ConvertedCase,
    convert_case,
)
from nnunet_triad.datasets.layouts.checks import join_some
from nnunet_triad.datasets.raw_folder import make_writable, raw_folder, refuse_other_dataset
from nnunet_triad.datasets.records import Journal, row_of, sources_of, version_of
from nnunet_triad.datasets.spec import DatasetSpec
from nnunet_triad.errors import UserError, reason_of
from nnunet_triad.files import only_process, remove_leftovers, write_json
from nnunet_triad.processes import worker_pool

_READER_WITHOUT_ITK = "NibabelIOWithReorient"


@dataclass(frozen=True, kw_only=True)
class ConversionSummary:
    """What a conversion did.

    Attributes:
        folder: the dataset in nnUNet_raw.
        num_training: cases with a label, those of earlier runs included.
        num_test: cases without one.
        num_converted: cases of this run.
        twins: groups of cases that have the same image.
        num_patients: of the training cases; twins count as one.
    """

    folder: Path
    num_training: int
    num_test: int
    num_converted: int
    twins: tuple[tuple[str, ...], ...]
    num_patients: int


def convert_dataset(
    spec: DatasetSpec,
    source: Path,
    *,
    options: ConversionOptions | None = None,
    num_processes: int = 1,
    show_progress: bool = False,
) -> ConversionSummary:
    """Convert a dataset, or finish a conversion.

    Args:
        spec: which.
        source: the folder into which its archives were unpacked.
        options: links or copies.
        num_processes: processes; 1 works in this one.
        show_progress: draw a bar with a rate and an end time.

    Raises:
        UserError: the source is incomplete or does not fit, or the target cannot be used, or
        another process converts into it.
    """
    options = options or ConversionOptions()
    folder = raw_folder(spec)
    refuse_other_dataset(spec)
    cases = _unique(spec.layout.find_cases(source, spec))
    make_writable(folder)
    refusal = (
        f"{folder}: expected a dataset that nobody converts, got one that another triad-dataset "
        "is converting; wait until it ends"
    )
    lock = folder.with_name(f".{folder.name}.lock")  # beside it, so that nothing is left in it
    with only_process(lock, refusal=refusal):
        remove_leftovers(folder)
        return _convert_cases(
            spec, source, cases, options, num_processes=num_processes, show_progress=show_progress
        )


def _convert_cases(
    spec: DatasetSpec,
    source: Path,
    cases: dict[str, Case],
    options: ConversionOptions,
    *,
    num_processes: int,
    show_progress: bool,
) -> ConversionSummary:
    """Convert what is not finished; this process alone writes into the folder."""
    folder = raw_folder(spec)
    journal = Journal(folder)
    rows = {
        name: row
        for name, row in journal.read().items()
        if name in cases and _is_finished(spec, row, cases[name], source, options)
    }
    _refuse_strangers(folder, cases)
    to_do = [case for name, case in cases.items() if name not in rows]
    if to_do:
        (folder / "dataset.json").unlink(missing_ok=True)
        journal.start()
    converted = _run(spec, to_do, folder, options, num_processes)
    bar = tqdm(converted, total=len(to_do), desc=spec.name, unit="case", disable=not show_progress)
    problems = []
    for case, result in bar:
        if isinstance(result, str):
            problems.append((case.name, result))
        else:
            rows[case.name] = row_of(result, source, is_copied=options.is_copied)
            journal.add(rows[case.name])
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    _refuse_problems(problems, len(cases))
    rows, twins = _join_twins(rows)
    journal.finish(rows.values())
    write_json(folder / "dataset.json", dataset_json(spec, list(rows.values())))
    return _summary(folder, list(rows.values()), len(to_do), twins)


def dataset_json(spec: DatasetSpec, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Return the content of nnU-Net's `dataset.json`."""
    content: dict[str, Any] = {
        "channel_names": {str(i): name for i, name in enumerate(spec.channels)},
        "labels": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in spec.labels.items()
        },
        "numTraining": sum(row["is_training"] == "1" for row in rows),
        "file_ending": ENDING,
        "name": spec.name,
        "reference": spec.reference,
        "licence": spec.licence,
    }
    if spec.regions_class_order:
        content["regions_class_order"] = list(spec.regions_class_order)
    if any(row["is_itk"] == "0" for row in rows):
        content["overwrite_image_reader_writer"] = _READER_WITHOUT_ITK
    return content


def _summary(
    folder: Path, rows: list[dict[str, str]], num_converted: int, twins: tuple[tuple[str, ...], ...]
) -> ConversionSummary:
    training = [row for row in rows if row["is_training"] == "1"]
    return ConversionSummary(
        folder=folder,
        num_training=len(training),
        num_test=len(rows) - len(training),
        num_converted=num_converted,
        twins=twins,
        num_patients=len({row["patient"] for row in training}),
    )


def _unique(cases: list[Case]) -> dict[str, Case]:
    unique: dict[str, Case] = {}
    for case in cases:
        other = unique.setdefault(case.name, case)
        if other is not case:
            raise UserError(
                f"{case.name}: expected one case of this id, got {other.images[0]} and "
                f"{case.images[0]}; remove one of the two"
            )
    return unique


def _is_finished(
    spec: DatasetSpec, row: dict[str, str], case: Case, source: Path, options: ConversionOptions
) -> bool:
    """Return whether the row describes this case, made in this way, and its files are there."""
    expected = (sources_of(case, source), version_of(case), str(int(options.is_copied)))
    if (row["sources"], row.get("version"), row["is_copied"]) != expected:
        return False
    folder = raw_folder(spec)
    images = folder / ("imagesTr" if case.has_label else "imagesTs")
    paths = [images / f"{case.name}_{i:04d}{ENDING}" for i in range(len(spec.channels))]
    if case.has_label:
        paths.append(folder / "labelsTr" / f"{case.name}{ENDING}")
    return all(path.exists() and _leads_into(path, source) for path in paths)


def _leads_into(path: Path, source: Path) -> bool:
    if not path.is_symlink():
        return True
    return path.readlink().is_relative_to(source.absolute())


def _refuse_strangers(folder: Path, cases: dict[str, Case]) -> None:
    """Raise when the folder holds cases of another source, which nnU-Net would train on too."""
    there = {path.name.removesuffix(ENDING) for path in folder.glob(f"labelsTr/[!.]*{ENDING}")} | {
        path.name.removesuffix(ENDING)[:-5] for path in folder.glob(f"images*/[!.]*{ENDING}")
    }
    strangers = sorted(there - cases.keys())
    if strangers:
        raise UserError(
            f"{folder}: expected only the {len(cases)} cases of the source, got {len(strangers)} "
            f"others ({join_some(strangers)}); move the folder elsewhere, or name their source too"
        )


def _run(
    spec: DatasetSpec,
    cases: list[Case],
    folder: Path,
    options: ConversionOptions,
    num_processes: int,
) -> Iterator[tuple[Case, ConvertedCase | str]]:
    """Yield each case with what became of it: the record, or the reason why not."""
    if num_processes == 1 or len(cases) < 2:
        for case in cases:
            yield case, _try(spec, case, folder, options)
        return
    with worker_pool(num_processes) as pool:
        futures = {pool.submit(_try, spec, case, folder, options): case for case in cases}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise UserError(
                f"{spec.name}: expected {num_processes} processes to work, got one that was ended "
                "(out of memory?); run again with fewer --processes, finished cases are kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _try(
    spec: DatasetSpec, case: Case, folder: Path, options: ConversionOptions
) -> ConvertedCase | str:
    try:
        return convert_case(spec, case, folder, options)
    except UserError as error:
        return str(error)
    except Exception as error:  # one case never ends the run
        return f"{case.name}: expected files that can be read, got some {reason_of(error)}"


def _refuse_problems(problems: list[tuple[str, str]], num_cases: int) -> None:
    if not problems:
        return
    problems.sort()
    (_, first), *others = problems
    more = f"; so are {join_some(name for name, _ in others)}" if others else ""
    raise UserError(
        f"{first} ({len(problems)} of {num_cases} cases cannot be converted{more}; "
        "the others are kept, run again once this is mended)"
    )


def _join_twins(
    rows: dict[str, dict[str, str]],
) -> tuple[dict[str, dict[str, str]], tuple[tuple[str, ...], ...]]:
    """Give cases with the same image one patient, so that no split parts them."""
    by_image: dict[str, list[str]] = {}
    for name in sorted(rows):
        by_image.setdefault(rows[name]["sha256"], []).append(name)
    twins = tuple(tuple(names) for names in by_image.values() if len(names) > 1)
    joined = dict(rows)
    for names in twins:
        patients = {joined[name]["patient"] for name in names}  # with all that they have
        one = {"patient": joined[names[0]]["patient"]}
        joined |= {n: {**row, **one} for n, row in joined.items() if row["patient"] in patients}
    return joined, twins
