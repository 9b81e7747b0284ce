"""Fine-tune one segmentation network on a few labelled phantoms, and measure it.

Axes: b batch, c channels, x y z space.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from nnunet_triad.architectures import encoder_spec, family_of
from nnunet_triad.evaluation.segmentation import dice
from nnunet_triad.trainers.recipe import Recipe, factor_at, make_groups
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.transfer import find_encoder, transfer_encoder
from studies.design import FINE_TUNINGS, Scale, Trial
from studies.images import LABELS, Case

UNET_STAGES = 4  # as nnU-Net plans for patches of 32^3
# nnU-Net's, and one that gets further in few iterations; both fall by the same power law.
_RATES = {"sgd": 1e-2, "adamw": 1e-3}
_OVERLAP = 0.1  # of neighbouring patches, in prediction


def finetune(
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
        Columns iteration, case, label, dice.
    """
    torch.manual_seed(trial.seed)
    generator = np.random.default_rng(trial.seed)
    chosen = [pool[k] for k in generator.permutation(len(pool))[: trial.labelled]]
    network = build_network(trial.encoder, num_classes=len(LABELS) + 1)
    if weights is not None:
        _transfer(network, weights, trial)
    recipe = FINE_TUNINGS[trial.finetuning].recipe
    optimizer = _make_optimizer(trial, network)
    loss_function = _make_loss()
    tables = []
    for iteration in range(1, scale.iterations + 1):
        _set_rate(optimizer, recipe, iteration - 1, scale.iterations)
        image, labels = draw_batch(chosen, generator, scale)
        loss = loss_function(network(image), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12.0)  # as nnU-Net
        optimizer.step()
        if iteration in scale.measured_at:
            is_last = iteration == scale.iterations
            measured = tests if is_last else tests[: max(1, len(tests) // 3)]
            tables.append(measure(network, measured, scale.patch_size).assign(iteration=iteration))
    return pd.concat(tables, ignore_index=True)


def build_network(encoder: str, *, num_classes: int) -> nn.Module:
    """Return Swin UNETR, or nnU-Net's network of four stages, on an encoder."""
    spec = encoder_spec(encoder)
    if spec.family == "swin":
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
            rows.append({"case": case.name, "label": label, "dice": score})
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


def _transfer(network: nn.Module, weights: Path, trial: Trial) -> None:
    """Fill the encoder, or the levels of it that the trial asks for."""
    levels = FINE_TUNINGS[trial.finetuning].levels
    encoder, spec = find_encoder(network), encoder_spec(trial.encoder)
    fresh = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    transfer_encoder(network, load_weights(weights))
    if levels is not None:
        with torch.no_grad():
            for name, parameter in encoder.named_parameters():
                if family_of(spec).level_of(spec, name) not in levels:
                    parameter.copy_(fresh[name])


def _make_optimizer(trial: Trial, network: nn.Module) -> torch.optim.Optimizer:
    recipe, encoder = FINE_TUNINGS[trial.finetuning].recipe, find_encoder(network)
    encoder.requires_grad_(not recipe.is_encoder_frozen)
    groups = [
        {"params": list(group.parameters.values()), "group": group}
        for group in make_groups(network, encoder, encoder_spec(trial.encoder), recipe)
        if not (recipe.is_encoder_frozen and group.is_encoder)
    ]
    rate = _RATES[recipe.optimizer]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=0.01)
    return torch.optim.SGD(groups, lr=rate, momentum=0.99, nesterov=True, weight_decay=3e-5)


def _set_rate(
    optimizer: torch.optim.Optimizer, recipe: Recipe, iteration: int, iterations: int
) -> None:
    """Set each group's rate; while it rises, it is that of the iteration's end."""
    is_rising = iteration < (recipe.decoder_first_share + recipe.warmup_share) * iterations
    for parameters in optimizer.param_groups:
        group = parameters["group"]
        factor = factor_at(
            iteration + is_rising,
            epochs=iterations,
            recipe=recipe,
            is_encoder=group.is_encoder,
        )
        parameters["lr"] = _RATES[recipe.optimizer] * group.scale * factor
