"""Fill a registration network's encoder from a file, so that it can tell the images apart."""

from dataclasses import replace

import torch

from nnunet_triad.architectures import family_of
from nnunet_triad.images.intensity import ZSCORE, Intensity, Scale
from nnunet_triad.weights.file import EncoderWeights
from nnunet_triad.weights.report import TransferReport
from nnunet_triad.weights.transfer import Shown, transfer_encoder
from registration.networks import NUM_INPUTS, RegistrationNetwork


def fill_encoder(
    network: RegistrationNetwork, weights: EncoderWeights, *, percentile: float = 99.9
) -> TransferReport:
    """Copy pre-trained weights into the encoder.

    A file's stem takes one image. Shared out evenly over moving and fixed, it would see their mean
    alone, in which nothing says which of them has to move where. So each image gets half of the
    file's kernels, plus and minus half of the difference that the network's own random kernels
    have: two equal images still give the file's response, and what differs between them passes
    through fresh kernels. Two contrasts that a file was trained on are no such pair: they are
    summed as well.

    Args:
        network: with its random weights.
        weights: from `load_weights`.
        percentile: of the intensities, that becomes 1 where the network does not standardise.

    Returns:
        What became of every tensor.

    Raises:
        TransferError: too little of the file fits; the network is untouched then.
    """
    name = family_of(network.spec).stem_weight
    stem = network.encoder.get_parameter(name)
    moving, fixed = stem.detach().clone().unbind(dim=1)
    here = ZSCORE if network.is_standardized else Intensity(Scale.PERCENTILES, 0, percentile)
    shown = Shown(axes="xyz", intensity=(here,) * NUM_INPUTS, maps_intensity=False)
    report = transfer_encoder(network.body, weights, shown)
    with torch.no_grad():
        shared = stem.mean(dim=1)  # half of the sum over the file's inputs
        stem[:, 0] = shared + (moving - fixed) / 2
        stem[:, 1] = shared - (moving - fixed) / 2
    kept = report.adaptations.get(name, f"{NUM_INPUTS} input channels shared out")
    how = f"{kept}, the difference of the images fresh"
    return replace(report, adaptations={**report.adaptations, name: how})
