"""What a run will need, measured on its first steps instead of guessed."""

import statistics
import time
from datetime import timedelta

from nnunet_triad.training.distributed import ProcessGroup
from nnunet_triad.training.memory import GIB, num_parameters, peak_memory
from pretraining.loop import timed
from pretraining.pretrain_data import PretrainData, make_loader
from pretraining.settings import PretrainSettings
from pretraining.training import start_training, train_step

NUM_WARMUPS = 1  # steps that also allocate, tune and compile, and do not count
_NUM_STEPS = 3  # that count
_BYTES_A_PARAMETER = 3 * 4  # in a checkpoint: the weight and AdamW's two moments, float32


def measure(data: PretrainData, settings: PretrainSettings, group: ProcessGroup) -> str:
    """Do a few steps, write nothing, and report sizes, memory and time.

    Returns:
        Lines of text: data, parameters, peak memory of this process, time a step and for the
        whole run, size of a checkpoint.
    """
    training = start_training(data, settings, group)
    num_steps = min(NUM_WARMUPS + _NUM_STEPS, settings.steps)
    loader = make_loader(data, settings, steps=range(num_steps), group=group)
    durations, start = [], time.perf_counter()
    for batch, _ in timed(loader):
        train_step(training, batch)
        durations.append(time.perf_counter() - start)
        start = time.perf_counter()
    counted = durations[NUM_WARMUPS:] or durations
    seconds = statistics.median(counted)
    parts = [
        f"{name} {num_parameters(part) / 1e6:.2f} M"
        for name, part in training.model.named_children()
    ]
    checkpoint_gib = _BYTES_A_PARAMETER * num_parameters(training.model) / GIB
    whole = timedelta(seconds=round(seconds * settings.steps))
    return "\n".join(
        [
            f"data: {data.summary}",
            f"parameters: {', '.join(parts)}",
            f"peak memory: {peak_memory(group.device) / GIB:.2f} GiB on {group.device}, "
            f"in each of {group.size} processes, workers not counted",
            f"time: {seconds:.2f} s a step (median of {len(counted)}, "
            f"{min(counted):.2f} to {max(counted):.2f} s), {whole} for {settings.steps} steps",
            f"disk: {checkpoint_gib:.2f} GiB a checkpoint, twice that while one is written",
        ]
    )
