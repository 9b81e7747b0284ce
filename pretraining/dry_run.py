"""What a run will need, measured on its first steps instead of guessed."""

from nnunet_triad.training.distributed import ProcessGroup
from nnunet_triad.training.dry_run import NUM_STEPS, NUM_WARMUPS, measure_steps
from nnunet_triad.training.fit import check_fits, no_more_than_free
from nnunet_triad.training.loader import batches
from nnunet_triad.training.memory import explain_out_of_memory, num_parameters
from pretraining.memory import advice, counting, smaller_runs, with_recomputation
from pretraining.pretrain_data import PretrainData, crop_loader
from pretraining.settings import PretrainSettings
from pretraining.training import start_training, train_step


def measure(data: PretrainData, settings: PretrainSettings, group: ProcessGroup) -> str:
    """Estimate the memory; where it suffices, do a few steps, and report sizes, memory and time.

    Nothing is written, and on a CPU no more memory is taken than there is.

    Raises:
        UserError: a step needs more memory than the device has free.
    """
    settings = with_recomputation(settings, group)
    smaller = smaller_runs(settings, group)
    estimate = check_fits(counting(settings, group), group.device, smaller=smaller)
    with explain_out_of_memory(advice(settings)), no_more_than_free(group.device):
        return f"{estimate}\n{_measure(data, settings, group)}"


def _measure(data: PretrainData, settings: PretrainSettings, group: ProcessGroup) -> str:
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
