"""Classification and registration runs: one training command on a manifest each."""

from pathlib import Path

import pandas as pd

from nnunet_triad.benchmark.environment import DATA_VARIABLE, Environment
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.steps import Need, Step, Task, missing
from nnunet_triad.benchmark.weights import weights_need
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.results import read_results

# The encoder that a registration network holds.
_ENCODERS = {
    "transmorph_t": "swin_t",
    "transmorph_b": "swin_b",
    "transmorph_l": "swin_l",
    "swinunetr_t": "swin_t",
    "swinunetr_b": "swin_b",
}
_LARGE_INPUTS = ("ADNI",)  # 96^3; all others 64^3 (section 4.3.2)


def _needs(run: Run, environment: Environment) -> list[Need]:
    manifest = _manifest(run, environment)
    if manifest is None:
        folder = f"{DATA_VARIABLE}: expected a folder of DATASET/manifest.csv, got nothing"
        result = [missing(DATA_VARIABLE, f"{folder}; export {DATA_VARIABLE}=FOLDER")]
    elif manifest.is_file():
        result = [Need(name="dataset", found=str(manifest))]
    else:
        command = "triad-classify" if run.task == "classification" else "triad-register"
        result = [
            missing(
                "dataset",
                f"dataset: expected {manifest}, got no file; "
                f"{command} prepare {run.dataset.lower()} --source FOLDER "
                f"--output {manifest.parent}",
            )
        ]
    if run.initialization != "scratch":
        result.append(weights_need(run.initialization, _encoder(run), environment))
    return result


def _classification_steps(run: Run, environment: Environment) -> list[Step]:
    size = "96" if run.dataset in _LARGE_INPUTS else "64"
    command = (
        *("triad-classify", "train", str(_manifest(run, environment) or _placeholder(run))),
        *("--output", str(_output(run, environment)), "--encoder", run.architecture),
        *("--init", _initialization(run, environment), "--size", size),
        *("--seed", str(run.seed), "--device", environment.device),
    )
    return [Step(name="train", command=command)]


def _registration_steps(run: Run, environment: Environment) -> list[Step]:
    command = (
        *("triad-register", "train", str(_manifest(run, environment) or _placeholder(run))),
        *("--output", str(_output(run, environment)), "--network", run.architecture),
        *("--init", _initialization(run, environment)),
        *("--seed", str(run.seed), "--device", environment.device),
    )
    return [Step(name="train", command=command)]


def _gather(run: Run, environment: Environment) -> pd.DataFrame:
    """Return the results table that the training wrote, under the names of the comparison.

    Raises:
        UserError: it wrote none, or rows of another task.
    """
    path = _output(run, environment) / "results.csv"
    table = read_results(path)
    if set(table["task"]) != {run.task}:
        found = ", ".join(sorted(set(table["task"]))) or "no rows"
        raise UserError(f"{path}: expected results of {run.task}, got {found}")
    return table.assign(
        dataset=run.dataset,
        architecture=run.architecture,
        initialization=run.initialization,
        fold=run.fold,
        seed=run.seed,
    )


def _manifest(run: Run, environment: Environment) -> Path | None:
    data = environment.path(DATA_VARIABLE)
    return data / run.dataset / "manifest.csv" if data else None


def _placeholder(run: Run) -> Path:
    """Return the manifest in a plan that is printed before the variable is set."""
    return Path(f"${DATA_VARIABLE}") / run.dataset / "manifest.csv"


def _output(run: Run, environment: Environment) -> Path:
    return environment.run_folder(run.name) / "model"


def _encoder(run: Run) -> str:
    return _ENCODERS.get(run.architecture, run.architecture)


def _initialization(run: Run, environment: Environment) -> str:
    if run.initialization == "scratch":
        return "scratch"
    need = weights_need(run.initialization, _encoder(run), environment)
    return need.found or f"{run.initialization}_{_encoder(run)}.safetensors"


CLASSIFICATION = Task(needs=_needs, steps=_classification_steps, gather=_gather)
REGISTRATION = Task(needs=_needs, steps=_registration_steps, gather=_gather)
