"""One file format for encoder weights, and their transfer into networks, with a report.

What is listed here is imported when it is first asked for, so that `triad-weights --help` need
not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunet_triad.weights.file import (
        EncoderWeights,
        WeightsInfo,
        encoder_tensors,
        save_weights,
    )
    from nnunet_triad.weights.locate import (
        ArchitectureError,
        check_source,
        find_weights,
        load_weights,
        read_initialization,
    )
    from nnunet_triad.weights.transfer import (
        Count,
        TransferError,
        TransferReport,
        find_encoder,
        preview_transfer,
        transfer_encoder,
    )

_MODULES = {
    "EncoderWeights": "file",
    "WeightsInfo": "file",
    "encoder_tensors": "file",
    "save_weights": "file",
    "ArchitectureError": "locate",
    "check_source": "locate",
    "find_weights": "locate",
    "load_weights": "locate",
    "read_initialization": "locate",
    "Count": "transfer",
    "TransferError": "transfer",
    "TransferReport": "transfer",
    "find_encoder": "transfer",
    "preview_transfer": "transfer",
    "transfer_encoder": "transfer",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


__all__ = [
    "ArchitectureError",
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
    "read_initialization",
    "save_weights",
    "transfer_encoder",
]
