"""The memory of a training iteration, and what to do where it does not suffice."""

import functools
import os

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_triad.architectures import EncoderSpec
from nnunet_triad.architectures.meta import build_on_meta
from nnunet_triad.errors import require
from nnunet_triad.training.fit import must_recompute
from nnunet_triad.training.memory_estimate import (
    MemoryEstimate,
    estimate_training_memory,
    most_memory,
)

SWITCH = "TRIAD_RECOMPUTE"  # 1: compute activations again in the backward pass, 0: keep them
ADVICE = (
    f"try {SWITCH}=1 with a Swin or Primus, then plans of a smaller batch and patch "
    "(nnUNetv2_plan_experiment -gpu_memory_target GB -overwrite_plans_name NAME)"
)


def should_recompute(trainer: nnUNetTrainer, encoder: EncoderSpec) -> bool:
    """Tell whether a training recomputes, whose network can: by the switch, else by its memory.

    Raises:
        UserError: the switch is something else than 0 or 1.
    """
    wanted = os.environ.get(SWITCH)
    require(SWITCH, wanted, "0 or 1", wanted in (None, "", "0", "1"))
    if wanted:
        return wanted == "1"
    patch = trainer.configuration_manager.patch_size
    return must_recompute(
        functools.partial(count_memory, trainer),
        trainer.device,
        # the network around the encoder holds twice as much again
        at_most=3 * most_memory(encoder, trainer.batch_size, patch),
    )


def count_memory(trainer: nnUNetTrainer) -> MemoryEstimate:
    """Count what an iteration of a trainer holds that keeps its activations."""
    network = build_on_meta(
        lambda: trainer.build_network_architecture(
            trainer.plans_manager,
            trainer.configuration_manager,
            trainer.num_input_channels,
            trainer.label_manager.num_segmentation_heads,
            trainer.enable_deep_supervision,
        )
    )
    patch = trainer.configuration_manager.patch_size
    is_gpu = trainer.device.type == "cuda"
    return estimate_training_memory(
        network,
        (trainer.batch_size, trainer.num_input_channels, *patch),
        device=trainer.device.type,
        precision="fp16" if is_gpu else "fp32",
    )
