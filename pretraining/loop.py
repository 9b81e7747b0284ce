"""The pre-training loop: data -> step -> log -> checkpoint, and a weights file at the end."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from nnunet_triad.training.distributed import ProcessGroup, is_any, wait_for_all
from nnunet_triad.training.loader import batches, on_device
from nnunet_triad.training.memory import explain_out_of_memory
from nnunet_triad.training.run_folder import RunFolder, open_run
from nnunet_triad.training.stop_signal import StopSignal, TrainingStopped
from nnunet_triad.training.training_log import TrainingLog
from nnunet_triad.weights.file import WeightsInfo, save_weights
from pretraining.embedding_quality import measure_embeddings
from pretraining.memory import advice, with_recomputation
from pretraining.objective import Objective
from pretraining.pictures import draw_crops, draw_progress
from pretraining.pretrain_data import PretrainData, crop_loader
from pretraining.settings import PretrainSettings
from pretraining.training import (
    StepReport,
    Training,
    resume,
    runs_ahead,
    start_step,
    start_training,
)

_CPU = torch.device("cpu")
_GPU_REPORT_EVERY = 10  # steps; before that the host only hands work to the GPU


def pretrain(
    data: PretrainData,
    output: Path,
    *,
    settings: PretrainSettings,
    group: ProcessGroup,
    is_quiet: bool = False,
) -> Path:
    """Pre-train an encoder, or continue where the run in `output` stopped.

    Source: sections 4.1 and 4.5 and Table 3 of the paper.

    Args:
        data: from `load_data`.
        output: receives settings.json, checkpoint.pt, log.csv, tensorboard/, pictures, and the
            weights file.
        settings: of the run; they must be those of the checkpoint in `output`, if there is one.
        group: this process among its peers, from `join_process_group`.
        is_quiet: show no progress bar.

    Returns:
        The weights file, OUTPUT/triad_ENCODER.safetensors.

    Raises:
        UserError: the checkpoint is of another run; a loss was not finite; the disk is full.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    settings = with_recomputation(settings, group)
    with (
        explain_out_of_memory(advice(settings)),
        open_run(
            output,
            is_writer=group.is_main,
            command="triad-pretrain",
            data=("STORE", "volumes and text embeddings"),
        ) as folder,
    ):
        training = start_training(data, settings, group)
        resume(training, folder)
        if group.is_main:
            with TrainingLog(
                output,
                log_columns(settings.objective),
                first_step=training.step,
                steps=settings.steps,
                is_quiet=is_quiet,
            ) as log:
                run_steps(training, folder, log)
            finish(training, output)
        else:
            run_steps(training, folder, None)
        wait_for_all()
    return weights_path(output, settings)


def run_steps(training: Training, folder: RunFolder, log: TrainingLog | None) -> None:
    """Do the steps that are left; only the process with a log writes anything.

    Raises:
        UserError: a loss was not finite, or the disk is full.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    settings = training.settings
    steps = range(training.step, settings.steps)
    loader = crop_loader(training.data, settings, steps=steps, group=training.group)
    waiting: list[tuple[StepReport, float]] = []
    start = time.perf_counter()
    with StopSignal() as stop:
        for batch, wait_seconds in timed(loader, training.group.device):
            waiting.append((start_step(training, batch), wait_seconds))
            if not is_report_due(training):
                continue
            reports = read_reports(training, waiting, time.perf_counter() - start)
            waiting, start = [], time.perf_counter()
            must_stop = is_any(stop.is_requested, training.group.device)
            must_stop = must_stop and training.step < settings.steps
            if log is not None:
                for step, values in reports[:-1]:
                    log.write(step, values)
                report_step(training, folder.path, log, reports[-1][1])
                if must_stop or is_due(training, settings.checkpoint_every):
                    log.sync()
                    folder.save(training.checkpoint())
            if must_stop:
                raise TrainingStopped(f"stopped after step {training.step}")


def is_report_due(training: Training) -> bool:
    """Tell whether the loop waits for the device now: each step on a CPU, on a GPU some."""
    settings = training.settings
    every = _GPU_REPORT_EVERY if runs_ahead(training.group.device) else 1
    return training.step in (1, settings.steps) or any(
        training.step % one == 0
        for one in (every, settings.checkpoint_every, settings.picture_every)
    )


def read_reports(
    training: Training, waiting: list[tuple[StepReport, float]], seconds: float
) -> list[tuple[int, dict[str, float]]]:
    """Return the steps that were done, with their rows of the log.

    Args:
        training: its device has them to do.
        waiting: the report of each, and the seconds that its batch was waited for.
        seconds: since the last such call; on a GPU each step took its share.

    Raises:
        UserError: a loss or its gradient is not finite; nothing has been saved since.
    """
    start = time.perf_counter()
    rows = [
        (report.step, {**report.read(training), "wait_seconds": wait}) for report, wait in waiting
    ]
    if runs_ahead(training.group.device):
        seconds += time.perf_counter() - start - sum(wait for _, wait in waiting)
        rows = [(step, {**row, "seconds": seconds / len(rows)}) for step, row in rows]
    return rows


def report_step(
    training: Training, output: Path, log: TrainingLog, values: dict[str, float]
) -> None:
    """Log a step; measure the embeddings and draw pictures at the first, some and the last."""
    is_shown = is_due(training, training.settings.picture_every)
    is_last = training.step == training.settings.steps
    if is_shown or training.step == 1:
        measured = measure_embeddings(
            training.model.encoder,
            training.data,
            device=training.group.device,
            precision=training.settings.precision,
        )
        values = {**values, **measured}
    log.write(training.step, values)
    if is_shown and not is_last:  # the last ones are drawn when the run is finished
        draw_pictures(training, output)


def is_due(training: Training, every: int) -> bool:
    """Tell whether something that happens each `every` steps, and at the end, happens now."""
    return training.step % every == 0 or training.step == training.settings.steps


def timed(
    loader: Iterable[dict[str, Tensor]], device: torch.device = _CPU
) -> Iterator[tuple[dict[str, Tensor], float]]:
    """Yield each batch, on a GPU if that is the device, with the seconds that it was waited for.

    The first wait contains the start of the worker processes.

    Raises:
        UserError: a volume could not be read.
    """
    start = time.perf_counter()
    for batch in on_device(batches(loader), device, on_cpu=("volume",)):
        yield batch, time.perf_counter() - start
        start = time.perf_counter()


def finish(training: Training, output: Path) -> Path:
    """Write the encoder's weights file and the last pictures; return the file's path."""
    path = weights_path(output, training.settings)
    info = WeightsInfo(
        spec=training.model.spec,
        input_channels=1,
        patch_size=training.settings.crop_size,
        spacing_mm=training.data.spacing_mm,
        intensity_normalization=training.settings.objective.scale,
        axes="xyz",
        pretraining_steps=training.step,
        objective={
            "name": training.settings.objective_name,
            **training.settings.objective.to_dict(),
        },
        data_summary=training.data.summary,
        licence=training.settings.licence,
    )
    save_weights(path, training.model.encoder, info)
    draw_pictures(training, output)
    return path


def log_columns(objective: Objective) -> tuple[str, ...]:
    """Return the columns of log.csv."""
    return (
        *("step", "loss", *objective.figures),
        *("alignment", "rank", "learning_rate", "gradient_norm"),
        *("seconds", "wait_seconds"),  # of the step itself, and before it for its data
    )


def weights_path(output: Path, settings: PretrainSettings) -> Path:
    """Return where the encoder of a run is written."""
    return output / f"triad_{settings.encoder}.safetensors"


def draw_pictures(training: Training, output: Path) -> None:
    """Draw what the objective makes of a few fixed crops now, and the log so far."""
    draw_crops(
        output,
        network=training.model,
        data=training.data,
        device=training.group.device,
        step=training.step,
    )
    draw_progress(output, training.settings.objective)
