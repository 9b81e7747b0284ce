"""Fill a registration network's encoder from a file, so that it can tell the images apart."""

from dataclasses import replace

import torch

from nnunet_triad.architectures import family_of
from nnunet_triad.weights.file import EncoderWeights
from nnunet_triad.weights.transfer import TransferReport, transfer_encoder
from registration.networks import NUM_INPUTS, RegistrationNetwork


def fill_encoder(network: RegistrationNetwork, weights: EncoderWeights) -> TransferReport:
    """Copy pre-trained weights into the encoder.

    A file's stem takes one image. Shared out evenly over moving and fixed, it would see their mean
    alone, in which nothing says which of them has to move where. So each image gets half of the
    file's kernels, plus and minus half of the difference that the network's own random kernels
    have: two equal images still give the file's response, and what differs between them passes
    through fresh kernels.

    Args:
        network: with its random weights.
        weights: from `load_weights`.

    Returns:
        What became of every tensor.

    Raises:
        TransferError: too little of the file fits; the network is untouched then.
    """
    name = family_of(network.spec).stem_weight
    stem = network.encoder.get_parameter(name)
    moving, fixed = stem.detach().clone().unbind(dim=1)
    report = transfer_encoder(network.body, weights)  # images are shown x y z
    if weights.tensors[name].shape[1] == NUM_INPUTS:
        return report
    with torch.no_grad():
        stem[:, 0] += (moving - fixed) / 2
        stem[:, 1] -= (moving - fixed) / 2
    how = f"{report.adaptations[name]}, the difference of the images fresh"
    return replace(report, adaptations={**report.adaptations, name: how})
