"""Numbers to watch: are images told apart, and are those with like descriptions embedded alike?"""

import numpy as np
import torch
from scipy.spatial.distance import pdist
from scipy.special import xlogy
from scipy.stats import spearmanr
from torch import nn

from nnunet_triad.training.precision import autocast
from pretraining.pretrain_data import PretrainData


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


def effective_rank(visual: np.ndarray) -> float:
    """Return how many directions embeddings use: RankMe, exp of the singular values' entropy.

    1: all images are embedded in the same direction, the bottleneck has collapsed; the smaller
    side of `visual`: all directions count alike. Compare values of the same number of images
    only. Needs no labels and no texts.

    Source: Garrido et al., ICML 2023 (arXiv:2210.02885), equations 1 and 2.

    Args:
        visual: (n, d), embedded images.

    Returns:
        1 to min(n, d); 0 when all embeddings are zero.
    """
    values = np.linalg.svd(visual, compute_uv=False)
    if values.sum() == 0:
        return 0.0
    shares = values / values.sum()
    return float(np.exp(-xlogy(shares, shares).sum()))


@torch.no_grad()
def measure_embeddings(
    encoder: nn.Module, data: PretrainData, *, device: torch.device, precision: str = "fp32"
) -> dict[str, float]:
    """Embed the centre crops of the held-out volumes and measure them.

    An image's embedding is the encoder's coarsest feature, averaged over space.

    Args:
        encoder: sees the whole crops here.
        data: with or without embedded texts.
        device: of the encoder.
        precision: of the forward pass.

    Returns:
        "rank", by `effective_rank`, and where there are texts "alignment", by
        `distance_correlation`; nothing with fewer than three held-out volumes.
    """
    if len(data.held_out) < 3:
        return {}
    embeddings = []
    for volume in data.held_out.tolist():
        plan = data.sampler.plan_centre(volume)
        crop = data.dataset.read(plan)
        with autocast(device, precision):
            features = encoder(torch.from_numpy(crop)[None, None].to(device))
            embedding = features[-1].mean(dim=(2, 3, 4))
        embeddings.append(embedding[0].cpu().double().numpy())
    visual = np.stack(embeddings)
    if not np.isfinite(visual).all():
        return {}
    measured = {"rank": effective_rank(visual)}
    if data.texts is not None:
        text = data.texts(torch.from_numpy(data.held_out)).double().numpy()
        alignment = distance_correlation(visual, text)
        if alignment is not None:
            measured["alignment"] = alignment
    return measured
