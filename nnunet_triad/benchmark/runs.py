"""What a run is, which runs the paper's comparison has, and how a user chooses among them."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from nnunet_triad.architectures import ENCODERS, NETWORKS
from nnunet_triad.architectures.families import registration_networks
from nnunet_triad.benchmark.paper import TASKS, comparisons, datasets, find_dataset, members
from nnunet_triad.errors import UserError
from nnunet_triad.tables import read_table, rows_of

_SEPARATE = r"[A-Za-z0-9._+-]+"  # names that are safe in a path


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training and its evaluation."""

    task: str
    dataset: str  # of the paper; or DatasetNNN_NAME (segmentation), or a manifest's folder
    architecture: str
    initialization: str
    fold: int = 0
    seed: int = 0  # repeats of one comparison are told apart by it
    variant: str = ""  # suffix of nnU-Net's trainer, as in nnUNetTrainerTriadUNet_quick

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UserError: a field is not what a run can be.
        """
        _require(self.task in TASKS, "task", f"one of {', '.join(TASKS)}", self.task)
        known = architectures(self.task)
        is_known = self.architecture in known
        _require(is_known, "architecture", f"one of {', '.join(known)}", self.architecture)
        for name in ("dataset", "initialization"):
            text = getattr(self, name)
            _require(bool(re.fullmatch(_SEPARATE, text)), name, "letters, digits, . _ + -", text)
        _require(bool(re.fullmatch(r"\w*", self.variant)), "variant", "a suffix", self.variant)
        is_taken = not self.variant or self.task == "segmentation"
        _require(is_taken, "variant", "nothing but for segmentation", self.variant)
        _require(self.fold >= 0, "fold", "a number from 0", self.fold)
        _require(self.seed >= 0, "seed", "a number from 0", self.seed)

    @property
    def name(self) -> str:
        """A unique name, usable as a folder."""
        parts = [self.task, self.dataset, self.architecture, self.initialization]
        parts.append(f"fold{self.fold}")
        parts += [f"seed{self.seed}"] if self.seed else []
        parts += [self.variant.strip("_")] if self.variant else []
        return "-".join(parts)

    @property
    def nnunet_id(self) -> int | None:
        """The dataset's integer id in nnU-Net's folders, for segmentation."""
        own = re.match(r"Dataset(\d{3})_", self.dataset)
        if own:
            return int(own[1])
        dataset = find_dataset(self.task, self.dataset)
        return dataset.nnunet_id if dataset else None


def architectures(task: str) -> tuple[str, ...]:
    """Return what a task can train, by the names that its commands take."""
    if task == "registration":
        return tuple(registration_networks())
    return tuple(dict.fromkeys(NETWORKS.values())) if task == "segmentation" else tuple(ENCODERS)


def paper_runs() -> tuple[Run, ...]:
    """Return all runs of the paper: by task, then dataset, architecture and initialisation."""
    runs = [
        Run(
            task=comparison.task,
            dataset=name,
            architecture=comparison.architecture,
            initialization=initialization,
        )
        for comparison in comparisons()
        for group in comparison.groups
        for name in members(comparison.task, group)
        for initialization in comparison.initializations
    ]
    order = [dataset.name for dataset in datasets()]
    return tuple(sorted(runs, key=lambda r: (TASKS.index(r.task), order.index(r.dataset))))


def read_runs(path: Path) -> tuple[Run, ...]:
    """Read a user's own comparison: a CSV whose columns are fields of `Run`.

    Raises:
        UserError: it is missing, is not such a table, or names a run twice.
    """
    table = read_table(path, "a CSV of runs", columns=[field.name for field in fields(Run)])
    if table.empty:
        raise UserError(f"{path}: expected at least one run, got none")
    runs = tuple(_parse_run(f"{path}, line {line}", row) for line, row in rows_of(table))
    for run in runs:
        if runs.count(run) > 1:
            raise UserError(f"{path}: expected each run once, got {run.name} twice")
    return runs


def _parse_run(where: str, row: dict[str, str]) -> Run:
    names = [field.name for field in fields(Run)]
    needed = names[:4]
    if not set(needed) <= set(row) or not set(row) <= set(names):
        raise UserError(
            f"{where}: expected the columns {', '.join(needed)}, and if wanted "
            f"{', '.join(names[4:])}, got {', '.join(row)}"
        )
    values: dict[str, str | int] = {**row}
    for name in ("fold", "seed"):
        try:
            values[name] = int(values.get(name) or 0)
        except ValueError:
            raise UserError(f"{where}: {name}: expected a number, got {values[name]}") from None
    try:
        return Run(**values)  # type: ignore[arg-type]
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def select_runs(
    runs: Sequence[Run],
    *,
    tasks: Collection[str] = (),
    datasets: Collection[str] = (),
    architectures: Collection[str] = (),
    initializations: Collection[str] = (),
) -> tuple[Run, ...]:
    """Return the runs that match; an empty collection admits all.

    Raises:
        UserError: a name is in none of the runs, or no run has the whole combination.
    """
    wanted = {
        "task": tasks,
        "dataset": datasets,
        "architecture": architectures,
        "initialization": initializations,
    }
    for field, names in wanted.items():
        known = {getattr(run, field).lower(): getattr(run, field) for run in runs}
        for name in names:
            if name.lower() not in known:
                raise UserError(_unknown(field, name, list(known.values())))
    chosen = tuple(
        run
        for run in runs
        if all(
            not names or getattr(run, field).lower() in {name.lower() for name in names}
            for field, names in wanted.items()
        )
    )
    if not chosen:
        texts = [f"{field} {', '.join(names)}" for field, names in wanted.items() if names]
        raise UserError(f"runs: expected at least one with {'; '.join(texts)}, got none")
    return chosen


def _unknown(field: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    shown = [k for k in known if k.lower() == near[0]] if near else known
    lead = "did you mean" if near else "known are"
    return f"{field}: expected one of the runs' names, got {name}; {lead} {', '.join(shown)}"


def _require(is_met: bool, name: str, rule: str, value: object) -> None:
    if not is_met:
        raise UserError(f"{name}: expected {rule}, got {value!r}")
