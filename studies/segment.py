"""Fine-tune one segmentation network on a few labelled phantoms by a trainer's recipe; measure it.

Differs: beside nnU-Net's own training, so that it takes a minute on one core: patches are drawn
anywhere and flipped, nothing else; the loss is nnU-Net's at full resolution alone; a U-Net's first
weights are PyTorch's; an iteration counts as an epoch of the recipe. Axes: b batch, c channels,
x y z space.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from nnunet_triad.architectures import EncoderSpec, encoder_spec, family_of
from nnunet_triad.evaluation.segmentation import dice
from nnunet_triad.trainers.recipe import make_groups
from nnunet_triad.trainers.schedule import RecipeSchedule, make_optimizer
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.transfer import find_encoder, transfer_encoder
from studies.design import TRAININGS, Scale, Training, Trial
from studies.simulate import LABELS, Case

UNET_STAGES = 4  # as nnU-Net plans for patches of 32^3
_OVERLAP = 0.1  # of neighbouring patches, in prediction


def segment(
    trial: Trial,
    *,
    scale: Scale,
    weights: Path | None,
    pool: Sequence[Case],
    tests: Sequence[Case],
) -> pd.DataFrame:
    """Run a trial.

    Args:
        trial: what to do.
        scale: how much of it.
        weights: file to start the encoder from; None: from scratch.
        pool: labelled subjects; the seed draws from them, the same for each initialisation.
        tests: subjects to measure on; at the end all, before it a third of them.

    Returns:
        Columns iteration, case, label, metric ("dice"), value.
    """
    torch.manual_seed(trial.seed)
    generator = np.random.default_rng(trial.seed)
    chosen = [pool[k] for k in generator.permutation(len(pool))[: trial.labelled]]
    training = TRAININGS[trial.training]
    network = build_network(trial.network, num_classes=len(LABELS) + 1)
    if weights is not None:
        _transfer(network, weights, encoder_spec(trial.network), training.levels)
    schedule = make_schedule(network, trial.network, training, iterations=scale.iterations)
    loss_function = _make_loss()
    tables = []
    for iteration in range(1, scale.iterations + 1):
        set_rates(schedule, iteration - 1)
        image, labels = draw_batch(chosen, generator, scale)
        loss = loss_function(network(image), labels)
        schedule.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12.0)  # as nnU-Net
        schedule.optimizer.step()
        if iteration in scale.measured_at:
            is_last = iteration == scale.iterations
            measured = tests if is_last else tests[: max(1, len(tests) // 3)]
            tables.append(measure(network, measured, scale.patch_size).assign(iteration=iteration))
    return pd.concat(tables, ignore_index=True)


def make_schedule(
    network: nn.Module, encoder_name: str, training: Training, *, iterations: int
) -> RecipeSchedule:
    """Return the trainers' optimiser and schedule of a recipe, as `TriadTrainer` makes them."""
    recipe, settings = training.recipe, training.settings
    encoder = find_encoder(network)
    encoder.requires_grad_(not recipe.is_encoder_frozen)
    groups = make_groups(network, encoder, encoder_spec(encoder_name), recipe)
    optimizer = make_optimizer(
        groups,
        recipe,
        learning_rate=settings["initial_lr"],
        weight_decay=settings["weight_decay"],
    )
    return RecipeSchedule(
        optimizer,
        encoder,
        recipe=recipe,
        learning_rate=settings["initial_lr"],
        epochs=iterations,
    )


def set_rates(schedule: RecipeSchedule, iteration: int) -> None:
    """Set the rates of an iteration, from 0; while they rise, those of its end."""
    recipe = schedule.recipe
    rise = (recipe.decoder_first_share + recipe.warmup_share) * schedule.epochs
    schedule.step_to(iteration + (iteration < rise))


def build_network(encoder: str, *, num_classes: int) -> nn.Module:
    """Return Swin UNETR, or nnU-Net's network of four stages, on an encoder."""
    spec = encoder_spec(encoder)
    if not family_of(spec).planned_classes:  # the same network for any plan
        return family_of(spec).build_network(spec, input_channels=1, output_channels=num_classes)
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(
        input_channels=1,
        n_stages=UNET_STAGES,
        features_per_stage=list(spec.channels[:UNET_STAGES]),
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=[1] + [2] * (UNET_STAGES - 1),
        n_conv_per_stage=2,
        num_classes=num_classes,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


def draw_batch(
    cases: Sequence[Case], generator: np.random.Generator, scale: Scale
) -> tuple[Tensor, Tensor]:
    """Draw patches anywhere in the cases, flipped at random.

    Returns:
        Image (b, 1, x, y, z) and labels (b, 1, x, y, z).
    """
    images, labels = [], []
    for _ in range(scale.batch_size):
        case = cases[int(generator.integers(len(cases)))]
        starts = [generator.integers(max(0, n - scale.patch_size) + 1) for n in case.image.shape]
        box = tuple(slice(start, start + scale.patch_size) for start in starts)
        axes = [axis for axis in range(3) if generator.random() < 0.5]
        images.append(case.image[box].flip(axes))
        labels.append(case.labels[box].flip(axes))
    return torch.stack(images)[:, None], torch.stack(labels)[:, None]


@torch.no_grad()
def measure(network: nn.Module, cases: Sequence[Case], patch_size: int) -> pd.DataFrame:
    """Segment volumes patch by patch and return the Dice coefficient of each case and label.

    Patches are of the size that was trained on: instance norm would see other statistics in a
    whole volume.
    """
    network.eval()
    rows = []
    for case in cases:
        logits = sliding_window_inference(
            case.image[None, None], (patch_size,) * 3, 4, network, overlap=_OVERLAP
        )
        assert isinstance(logits, Tensor)
        predicted = logits[0].argmax(0).numpy()
        for value, label in enumerate(LABELS, start=1):
            score = dice(predicted == value, case.labels.numpy() == value)
            rows.append({"case": case.name, "label": label, "metric": "dice", "value": score})
    network.train()
    return pd.DataFrame(rows)


def _make_loss() -> nn.Module:
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    return DC_and_CE_loss(
        {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False},
        {},
        dice_class=MemoryEfficientSoftDiceLoss,
    )


def _transfer(
    network: nn.Module, weights: Path, spec: EncoderSpec, levels: Sequence[int] | None
) -> None:
    """Fill the encoder, or some levels of it."""
    encoder = find_encoder(network)
    fresh = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    transfer_encoder(network, load_weights(weights))
    if levels is not None:
        with torch.no_grad():
            for name, parameter in encoder.named_parameters():
                if family_of(spec).level_of(spec, name) not in levels:
                    parameter.copy_(fresh[name])
