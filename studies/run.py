"""Run the experiment: what is missing of it, on several processes; killed, it goes on."""

import functools
import json
import multiprocessing
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from nnunet_triad.architectures.cpu.allocator import keep_all_freed_memory
from nnunet_triad.errors import UserError
from nnunet_triad.files import only_process, write_atomically, write_json
from studies.design import (
    PRETRAININGS,
    SCRATCH,
    TASKS,
    Scale,
    TaskTrial,
    Trial,
    task_trials,
    trials,
)
from studies.images import (
    Case,
    make_labelled,
    make_store,
    read_cases,
    run,
)
from studies.tasks import make_task_data, run_task_trial


def run_evidence(
    folder: Path,
    scale: Scale,
    *,
    model: Path,
    workers: int,
    limit: int | None = None,
    tasks: Collection[str] = TASKS,
) -> int:
    """Run all trials that have no file yet, and the pre-trainings that they need.

    Each pre-training and each trial runs in a process with one thread, so that its result does
    not depend on `workers`.

    Args:
        folder: receives stores, pre-trained weights, trials/KEY.csv and tasks/KEY.csv.
        scale: how large it is.
        model: folder of the sentence model.
        workers: processes.
        limit: how many of the missing trials to run, in their order; None: all.
        tasks: of which of `TASKS`.

    Returns:
        How many trials are still missing.

    Raises:
        UserError: another process runs in `folder`, or a step failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with only_process(folder / ".lock", refusal=f"{folder}: another process runs this experiment"):
        check_scale(folder, scale)
        write_json(folder / "scale.json", vars(scale))
        planned: list[Trial | TaskTrial] = [*trials(scale), *task_trials(scale)]
        missing = [t for t in planned if task_of(t) in tasks and not trial_file(folder, t).exists()]
        chosen = missing[:limit]
        data = {t: make_data(folder, t, scale) for t in chosen}
        with ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread
        ) as pool:
            _pretrain_all(pool, folder, chosen, scale, model)
            jobs = [pool.submit(run_trial, folder, data[t], t, scale) for t in chosen]
            _wait(jobs, "trials")
    return len(missing) - len(chosen)


def check_scale(folder: Path, scale: Scale) -> None:
    """Refuse a folder whose experiment has another scale.

    Raises:
        UserError: it has.
    """
    file = folder / "scale.json"
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != json.loads(
        json.dumps(vars(scale))
    ):
        raise UserError(
            f"{folder}: expected an experiment of this scale, got another one; use another folder"
        )


def task_of(trial: Trial | TaskTrial) -> str:
    """Return which of `TASKS` a trial belongs to."""
    return trial.task if isinstance(trial, TaskTrial) else "segmentation"


def trial_file(folder: Path, trial: Trial | TaskTrial) -> Path:
    """Return where a trial's rows are, once it is finished."""
    kind = "tasks" if isinstance(trial, TaskTrial) else "trials"
    return folder / kind / f"{trial.key}.csv"


def weights_file(folder: Path, encoder: str, name: str) -> Path:
    """Return where a pre-training leaves its encoder."""
    return folder / "pretrained" / encoder / name / f"triad_{encoder}.safetensors"


def pretrain_command(
    folder: Path, encoder: str, name: str, scale: Scale, *, store: Path
) -> tuple[object, ...]:
    """Return the command of a pre-training."""
    wanted = PRETRAININGS[name]
    steps = round(scale.pretraining_steps * wanted.step_factor)
    x, y, z = scale.crop_size
    return (
        *("triad-pretrain", store, weights_file(folder, encoder, name).parent),
        *("--encoder", encoder, "--steps", steps, "--batch-size", scale.pretraining_batch),
        *("--crop-size", f"{x},{y},{z}", "--learning-rate", scale.learning_rate),
        *("--warmup-steps", steps // 10, "--checkpoint-every", steps, "--picture-every", steps),
        *("--device", "cpu", "--seed", wanted.seed, *wanted.options),
    )


def _pretrain_all(
    pool: ProcessPoolExecutor,
    folder: Path,
    chosen: Sequence[Trial | TaskTrial],
    scale: Scale,
    model: Path,
) -> None:
    wanted = {(t.encoder, t.initialization): None for t in chosen if t.initialization != SCRATCH}
    wanted = {pair: None for pair in wanted if not weights_file(folder, *pair).exists()}
    stores = {
        name: make_store(folder, PRETRAININGS[name].images, scale, model=model)
        for _, name in wanted
    }
    jobs = [
        pool.submit(run, *pretrain_command(folder, encoder, name, scale, store=stores[name]))
        for encoder, name in wanted
    ]
    _wait(jobs, "pre-trainings")


def _wait(jobs: list[Future], title: str) -> None:
    """Show how far they are; the first error ends the experiment."""
    for job in tqdm(as_completed(jobs), total=len(jobs), desc=title, disable=not jobs):
        try:
            job.result()
        except Exception:
            for other in jobs:
                other.cancel()
            raise


def _one_thread() -> None:
    import os

    import torch

    os.environ["OMP_NUM_THREADS"] = "1"  # of the commands that this process starts
    torch.set_num_threads(1)
    keep_all_freed_memory()


def make_data(folder: Path, trial: Trial | TaskTrial, scale: Scale) -> Path:
    """Simulate the subjects of a trial; what is there stays. Return dataset or manifest."""
    if isinstance(trial, TaskTrial):
        return make_task_data(folder, trial.task, scale)
    return make_labelled(folder, scale, is_confirmation=trial.is_confirmation)


def run_trial(folder: Path, data: Path, trial: Trial | TaskTrial, scale: Scale) -> None:
    """Run a trial, whose pre-training is there, and write its file."""
    weights = None
    if trial.initialization != SCRATCH:
        weights = weights_file(folder, trial.encoder, trial.initialization)
    path = trial_file(folder, trial)
    path.parent.mkdir(exist_ok=True)
    if isinstance(trial, TaskTrial):
        table = run_task_trial(
            trial, path.with_suffix(""), manifest=data, weights=weights, scale=scale
        )
        columns = {k: v for k, v in vars(trial).items() if k != "network"}
    else:
        from studies.finetune import finetune

        table = finetune(
            trial, scale=scale, weights=weights, pool=_cases(data, "Tr"), tests=_cases(data, "Ts")
        )
        columns = vars(trial)
    with write_atomically(path) as temporary:
        table.assign(**columns).to_csv(temporary, index=False, float_format="%.5f")


@functools.cache
def _cases(dataset: Path, part: str) -> list[Case]:
    return read_cases(dataset, part)
