"""Run the experiment: what is missing of it, on several processes; killed, it goes on."""

import functools
import json
import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from nnunet_triad.allocator import keep_all_freed_memory
from nnunet_triad.benchmark.evidence.design import (
    PRETRAININGS,
    SCRATCH,
    Scale,
    Trial,
    trials,
)
from nnunet_triad.benchmark.evidence.images import (
    Case,
    make_labelled,
    make_store,
    read_cases,
    run,
)
from nnunet_triad.errors import UserError
from nnunet_triad.files import only_process, write_atomically, write_json


def run_evidence(
    folder: Path, scale: Scale, *, model: Path, workers: int, limit: int | None = None
) -> int:
    """Run all trials that have no file yet, and the pre-trainings that they need.

    Each pre-training and each trial runs in a process with one thread, so that its result does
    not depend on `workers`.

    Args:
        folder: receives stores, pre-trained weights, and trials/KEY.csv.
        scale: how large it is.
        model: folder of the sentence model.
        workers: processes.
        limit: how many of the missing trials to run, in their order; None: all.

    Returns:
        How many trials are still missing.

    Raises:
        UserError: another process runs in `folder`, or a step failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with only_process(folder / ".lock", refusal=f"{folder}: another process runs this experiment"):
        check_scale(folder, scale)
        write_json(folder / "scale.json", vars(scale))
        missing = [t for t in trials(scale) if not trial_file(folder, t).exists()]
        chosen = missing[:limit]
        datasets = {
            is_confirmation: make_labelled(folder, scale, is_confirmation=is_confirmation)
            for is_confirmation in sorted({t.is_confirmation for t in chosen})
        }
        with ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread
        ) as pool:
            _pretrain_all(pool, folder, chosen, scale, model)
            jobs = [
                pool.submit(_run_trial, folder, datasets[t.is_confirmation], t, scale)
                for t in chosen
            ]
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
    pool: ProcessPoolExecutor, folder: Path, chosen: list[Trial], scale: Scale, model: Path
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


def _run_trial(folder: Path, dataset: Path, trial: Trial, scale: Scale) -> None:
    from nnunet_triad.benchmark.evidence.finetune import finetune

    weights = None
    if trial.initialization != SCRATCH:
        weights = weights_file(folder, trial.encoder, trial.initialization)
    table = finetune(
        trial,
        scale=scale,
        weights=weights,
        pool=_cases(dataset, "Tr"),
        tests=_cases(dataset, "Ts"),
    ).assign(**vars(trial))
    path = trial_file(folder, trial)
    path.parent.mkdir(exist_ok=True)
    with write_atomically(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.5f")


@functools.cache
def _cases(dataset: Path, part: str) -> list[Case]:
    return read_cases(dataset, part)
