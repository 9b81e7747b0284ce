"""What a run will need, measured on its first two steps instead of guessed."""

import time
from datetime import timedelta

from nnunet_triad.training.distributed import World
from nnunet_triad.training.memory import GIB, num_parameters, peak_memory
from pretraining.loop import start_training, train_step
from pretraining.pretrain_data import PretrainData, make_loader
from pretraining.settings import PretrainSettings

_NUM_STEPS = 2  # the first one also allocates and tunes, so the second one is timed


def measure(data: PretrainData, settings: PretrainSettings, world: World) -> str:
    """Do two steps, write nothing, and report sizes, memory and time.

    Returns:
        Lines of text: data, parameters, peak memory of this process, time a step and for the
        whole run, size of a checkpoint.
    """
    training = start_training(data, settings, world)
    loader = make_loader(data, settings, steps=range(_NUM_STEPS), world=world)
    seconds = 0.0
    start = time.perf_counter()
    for batch in loader:
        train_step(training, batch)
        seconds, start = time.perf_counter() - start, time.perf_counter()
    num_encoder = num_parameters(training.model.encoder)
    num_decoder = num_parameters(training.model.decoder)
    # Weights and AdamW's two moments, float32 each.
    checkpoint_gib = 3 * 4 * (num_encoder + num_decoder) / GIB
    return "\n".join(
        [
            f"data: {data.summary}",
            f"parameters: encoder {num_encoder / 1e6:.2f} M, decoder {num_decoder / 1e6:.2f} M",
            f"peak memory: {peak_memory(world.device) / GIB:.2f} GiB on {world.device}",
            f"time: {seconds:.2f} s a step, {timedelta(seconds=round(seconds * settings.steps))} "
            f"for {settings.steps} steps",
            f"disk: {checkpoint_gib:.2f} GiB a checkpoint, twice that while one is written",
        ]
    )
