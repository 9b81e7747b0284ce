"""Run the studies: what is missing of them, on several processes; killed, they go on."""

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
from studies.command import run
from studies.design import DATA, PRETRAININGS, SCRATCH, TASKS, Scale, Trial
from studies.plan import trials
from studies.simulate import Case, make_data, make_store, read_cases


def run_studies(
    folder: Path,
    scale: Scale,
    *,
    model: Path,
    workers: int,
    limit: int | None = None,
    tasks: Collection[str] = TASKS,
    only: str = "",
    hippocampi: Path | None = None,
) -> int:
    """Run all trials that have no file yet, and the pre-trainings that they need.

    Each pre-training and each trial runs in a process with one thread, so that its result does
    not depend on `workers`.

    Args:
        folder: receives stores, data, pre-trained weights and trials/KEY.csv.
        scale: how large it is.
        model: folder of the sentence model.
        workers: processes.
        limit: how many of the missing trials to run, in their order; None: all.
        tasks: of which of `TASKS`.
        only: trials whose key has this text.
        hippocampi: folder of the real volumes; None: without the trials on them.

    Returns:
        How many trials are still missing.

    Raises:
        UserError: another process runs in `folder`, or a step failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with only_process(folder / ".lock", refusal=f"{folder}: another process runs these studies"):
        _check_scale(folder, scale)
        write_json(folder / "scale.json", vars(scale))
        wanted = [t for t in trials(scale) if t.task in tasks and only in t.key]
        wanted = [t for t in wanted if hippocampi is not None or not DATA[t.data].is_real]
        missing = [t for t in wanted if not trial_file(folder, t).exists()]
        chosen = missing[:limit]
        data = {
            name: make_data(folder, name, DATA[name].at(scale), hippocampi)
            for name in _names(chosen)
        }
        with ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread
        ) as pool:
            _pretrain_all(pool, folder, chosen, scale, model, hippocampi)
            jobs = [pool.submit(run_trial, folder, data[t.data], t, scale) for t in chosen]
            _wait(jobs, "trials")
    return len(missing) - len(chosen)


def _names(chosen: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(trial.data for trial in chosen))


def _check_scale(folder: Path, scale: Scale) -> None:
    file = folder / "scale.json"
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != json.loads(
        json.dumps(vars(scale))
    ):
        raise UserError(f"{folder}: expected studies of this scale, got others; use another folder")


def trial_file(folder: Path, trial: Trial) -> Path:
    """Return where a trial's rows are, once it is finished."""
    return folder / "trials" / f"{trial.key}.csv"


def weights_file(folder: Path, encoder: str, name: str) -> Path:
    """Return where a pre-training leaves its encoder."""
    return folder / "pretrained" / encoder / name / f"triad_{encoder}.safetensors"


def pretrain_command(
    folder: Path, encoder: str, name: str, scale: Scale, *, store: Path
) -> tuple[object, ...]:
    """Return the command of a pre-training."""
    wanted = PRETRAININGS[name]
    steps = int(min(wanted.steps, scale.most_steps))
    warmup = wanted.steps // 10 if wanted.warmup_steps is None else wanted.warmup_steps
    x, y, z = wanted.crop_size
    return (
        *("triad-pretrain", store, weights_file(folder, encoder, name).parent),
        *("--encoder", encoder, "--steps", steps, "--batch-size", wanted.batch_size),
        *("--crop-size", f"{x},{y},{z}", "--learning-rate", wanted.learning_rate),
        *("--warmup-steps", min(warmup, steps // 2)),
        *("--checkpoint-every", steps, "--picture-every", steps),
        *("--device", "cpu", "--seed", wanted.seed, *wanted.options),
    )


def _pretrain_all(
    pool: ProcessPoolExecutor,
    folder: Path,
    chosen: Sequence[Trial],
    scale: Scale,
    model: Path,
    hippocampi: Path | None,
) -> None:
    wanted = {(t.encoder, t.initialization): None for t in chosen if t.initialization != SCRATCH}
    wanted = {pair: None for pair in wanted if not weights_file(folder, *pair).exists()}
    stores = {
        name: make_store(
            folder, PRETRAININGS[name].images.at(scale), model=model, hippocampi=hippocampi
        )
        for _, name in wanted
    }
    jobs = [
        pool.submit(run, *pretrain_command(folder, encoder, name, scale, store=stores[name]))
        for encoder, name in wanted
    ]
    _wait(jobs, "pre-trainings")


def _wait(jobs: list[Future], title: str) -> None:
    """Show how far they are; the first error ends the studies."""
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


def run_trial(folder: Path, data: Path, trial: Trial, scale: Scale) -> None:
    """Run a trial, whose pre-training is there, and write its file."""
    weights = None
    if trial.initialization != SCRATCH:
        weights = weights_file(folder, trial.encoder, trial.initialization)
    path = trial_file(folder, trial)
    path.parent.mkdir(exist_ok=True)
    if DATA[trial.data].is_inside:
        from studies.inside import run_inside

        work = path.with_suffix("")
        table = run_inside(trial, work, dataset=data, weights=weights, scale=scale)
    elif trial.task == "segmentation":
        from studies.segment import segment

        pool, tests = _cases(data, "Tr"), _cases(data, "Ts")
        table = segment(trial, scale=scale, weights=weights, pool=pool, tests=tests)
    else:
        from studies.tasks import run_task

        work = path.with_suffix("")
        table = run_task(trial, work, manifest=data, weights=weights, scale=scale)
    table = table.assign(**{k: v for k, v in vars(trial).items() if k not in table})
    with write_atomically(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.5f")


@functools.cache
def _cases(dataset: Path, part: str) -> list[Case]:
    return read_cases(dataset, part)
