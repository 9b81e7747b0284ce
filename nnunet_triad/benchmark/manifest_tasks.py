"""Classification and registration runs: their own commands, on a manifest each."""

from pathlib import Path

import pandas as pd

from nnunet_triad.architectures.families import registration_networks
from nnunet_triad.benchmark.environment import DATA_VARIABLE, Environment
from nnunet_triad.benchmark.paper import find_dataset
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.steps import Requirement, Step, Task, missing
from nnunet_triad.benchmark.weights import versioned, weights_requirement
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.results import read_results

# What is scored (section 4.4.1): OASIS has no test set.
_SPLITS = {"IXI": "test", "OASIS": "val", "ACDC": "test"}
_RESULTS = "results.csv"


def _requirements(run: Run, environment: Environment) -> list[Requirement]:
    manifest = _manifest(run, environment)
    if manifest is None:
        folder = f"{DATA_VARIABLE}: expected a folder of DATASET/manifest.csv, got nothing"
        result = [missing(DATA_VARIABLE, f"{folder}; export {DATA_VARIABLE}=FOLDER")]
    elif manifest.is_file():
        result = [Requirement(name="dataset", found=str(manifest))]
    else:
        result = [
            missing(
                "dataset", f"dataset: expected {manifest}, got no file; {_prepare(run, manifest)}"
            )
        ]
    if run.initialization != "scratch":
        result.append(weights_requirement(run.initialization, _encoder(run), environment))
    return result


def _classification_steps(run: Run, environment: Environment) -> list[Step]:
    command = (
        *("triad-classify", "train", str(_manifest(run, environment) or _placeholder(run))),
        *(str(_output(run, environment)), "--encoder", _encoder(run)),
        *("--init", run.initialization),  # a name: the command looks for it in TRIAD_WEIGHTS
        *_preset(run),
        *("--encoder-rate", "1"),  # the paper's
        *("--seed", str(run.seed), "--device", environment.device),
    )
    return [Step(name="train", command=command)]


def _registration_steps(run: Run, environment: Environment) -> list[Step]:
    manifest = str(_manifest(run, environment) or _placeholder(run))
    output = _output(run, environment)
    train = (
        *("triad-register", "train", manifest, str(output)),
        *("--network", versioned(run.architecture, run.initialization)),
        *("--init", run.initialization),
        *_preset(run),
        *("--seed", str(run.seed), "--device", environment.device),
    )
    evaluate = (
        *("triad-register", "evaluate", manifest, "--output", str(output / _RESULTS)),
        *("--model", str(output), "--split", _SPLITS.get(run.dataset, "test")),
        *(("--labels", run.dataset.lower()) if run.dataset in _SPLITS else ()),
        *("--dataset", run.dataset, "--device", environment.device),
    )
    return [Step(name="train", command=train), Step(name="evaluate", command=evaluate)]


def _gather(run: Run, environment: Environment) -> pd.DataFrame:
    """Return the results table that the training wrote, under the names of the comparison.

    Raises:
        UserError: it wrote none, or rows of another task.
    """
    path = _output(run, environment) / _RESULTS
    table = read_results(path)
    if set(table["task"]) != {run.task}:
        found = ", ".join(sorted(set(table["task"]))) or "no rows"
        raise UserError(f"{path}: expected results of {run.task}, got {found}")
    key = [name for name in table.columns if name != "value"]
    return table.drop_duplicates(key, keep="last").assign(  # an evaluation that was repeated
        dataset=run.dataset,
        architecture=run.architecture,
        initialization=run.initialization,
        fold=run.fold,
        seed=run.seed,
    )


def _preset(run: Run) -> tuple[str, ...]:
    """Return what the paper's dataset asks for, by name."""
    dataset = find_dataset(run.task, run.dataset)
    return ("--preset", dataset.name.lower()) if dataset else ()


def _manifest(run: Run, environment: Environment) -> Path | None:
    data = environment.path(DATA_VARIABLE)
    return data / run.dataset / "manifest.csv" if data else None


def _prepare(run: Run, manifest: Path) -> str:
    """Return the command that makes a manifest of one of the paper's datasets."""
    name, folder = run.dataset.lower(), manifest.parent
    if run.task == "registration":
        return f"triad-register prepare {name} {folder} --source FOLDER"
    return f"triad-classify prepare {name} --source FOLDER --output {folder}"


def _placeholder(run: Run) -> Path:
    """Return the manifest in a plan that is printed before the variable is set."""
    return Path(f"${DATA_VARIABLE}") / run.dataset / "manifest.csv"


def _output(run: Run, environment: Environment) -> Path:
    return environment.run_folder(run.name) / "model"


def _encoder(run: Run) -> str:
    """Return the encoder that is initialised: transmorph_l and swinunetr_l hold swin_l."""
    if run.task != "registration":
        return versioned(run.architecture, run.initialization)
    _, encoder = registration_networks()[run.architecture]
    return versioned(encoder, run.initialization)


CLASSIFICATION = Task(requirements=_requirements, steps=_classification_steps, gather=_gather)
REGISTRATION = Task(requirements=_requirements, steps=_registration_steps, gather=_gather)
