"""Whether images whose descriptions are alike are embedded alike: a number to watch."""

import numpy as np
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from torch import nn

from nnunet_triad.training.precision import autocast
from pretraining.pretrain_data import PretrainData
from pretraining.sampling import read_crop


def distance_correlation(visual: np.ndarray, text: np.ndarray) -> float | None:
    """Return Spearman's correlation of the distances between images and between their texts.

    1: the closer two descriptions, the closer the images; 0: they have nothing to do with each
    other. The pairs share members, so that no p-value follows from their number.

    Args:
        visual: (n, d), embedded images.
        text: (n, e), embedded descriptions.

    Returns:
        -1 to 1; None for fewer than three images, or when all distances of a side are equal.
    """
    if len(visual) < 3:
        return None
    between_images, between_texts = pdist(visual), pdist(text)
    if np.ptp(between_images) == 0 or np.ptp(between_texts) == 0:
        return None
    return float(spearmanr(between_images, between_texts).statistic)


@torch.no_grad()
def measure_alignment(
    model: nn.Module, data: PretrainData, *, device: torch.device, precision: str = "fp32"
) -> float | None:
    """Measure `distance_correlation` on the centre crops of the held-out volumes.

    Args:
        model: the autoencoder; nothing of its input is hidden here.
        data: with embedded texts, else None is returned.
        device: of the model.
        precision: of the forward pass.
    """
    if data.texts is None or len(data.held_out) < 3:
        return None
    visual = []
    for volume in data.held_out.tolist():
        plan = data.sampler.plan_centre(volume)
        crop = read_crop(data.dataset.source, plan, size=data.dataset.crop_size)
        with autocast(device, precision):
            _, embedding = model(torch.from_numpy(crop)[None, None].to(device))
        visual.append(embedding[0].double().cpu().numpy())
    text = data.texts(torch.from_numpy(data.held_out)).double().numpy()
    return distance_correlation(np.stack(visual), text)
