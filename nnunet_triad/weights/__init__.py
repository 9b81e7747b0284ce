"""One file format for encoder weights, and their transfer into networks, with a report."""

from nnunet_triad.weights.file import (
    EncoderWeights,
    WeightsInfo,
    encoder_tensors,
    save_weights,
)
from nnunet_triad.weights.locate import check_source, find_weights, load_weights
from nnunet_triad.weights.transfer import (
    Count,
    TransferError,
    TransferReport,
    find_encoder,
    preview_transfer,
    transfer_encoder,
)

__all__ = [
    "Count",
    "EncoderWeights",
    "TransferError",
    "TransferReport",
    "WeightsInfo",
    "check_source",
    "encoder_tensors",
    "find_encoder",
    "find_weights",
    "load_weights",
    "preview_transfer",
    "save_weights",
    "transfer_encoder",
]
