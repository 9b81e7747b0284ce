"""What a run will need, measured on its first steps instead of guessed."""

from nnunet_triad.training.distributed import ProcessGroup
from nnunet_triad.training.dry_run import NUM_STEPS, NUM_WARMUPS, measure_steps
from nnunet_triad.training.loader import batches
from nnunet_triad.training.memory import explain_out_of_memory, num_parameters
from pretraining.loop import MEMORY_ADVICE
from pretraining.pretrain_data import PretrainData, crop_loader
from pretraining.settings import PretrainSettings
from pretraining.training import start_training, train_step


@explain_out_of_memory(MEMORY_ADVICE)
def measure(data: PretrainData, settings: PretrainSettings, group: ProcessGroup) -> str:
    """Do a few steps, write nothing, and report sizes, memory and time."""
    training = start_training(data, settings, group)
    steps = range(min(settings.steps, NUM_WARMUPS + NUM_STEPS))
    loader = crop_loader(data, settings, steps=steps, group=group)
    parts = [
        f"{name} {num_parameters(part) / 1e6:.2f} M"
        for name, part in training.model.named_children()
    ]
    lines = measure_steps(
        (train_step(training, batch) for batch in batches(loader)),
        device=group.device,
        unit="step",
        total=settings.steps,
        whole=f"{settings.steps} steps",
        state=training.state,
        place=f", in each of {group.size} processes, workers not counted",
    )
    return f"data: {data.summary}\nparameters: {', '.join(parts)}\n{lines}"
