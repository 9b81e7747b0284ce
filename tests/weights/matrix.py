"""Which encoder goes into which plan, and what becomes of its tensors: the table of the guide.

Shapes alone decide, so everything is on the meta device, at the sizes of the real encoders.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from nnunet_triad.architectures import (
    EncoderSpec,
    build_encoder,
    encoder_spec,
)
from nnunet_triad.architectures.convolutional import ConvSpec
from nnunet_triad.architectures.meta import build_on_meta
from nnunet_triad.architectures.spec import Triple
from nnunet_triad.weights.file import EncoderWeights, WeightsInfo, encoder_tensors
from nnunet_triad.weights.transfer import (
    MINIMUM_SHARE,
    TransferError,
    TransferReport,
    preview_transfer,
)

CHANNELS = (1, 2, 4)
_FLAT: Triple = (1, 3, 3)
_CUBE: Triple = (3, 3, 3)
# What a plan may have that the pre-trained encoder has not: number of stages, flattened kernels
# from the first stage on, and strides that are smaller along the first axis.
PLANS: dict[str, tuple[int, int, int]] = {
    "isotropic, 6 stages": (6, 0, 0),
    "first kernel 1x3x3": (6, 1, 1),
    "two flattened stages": (6, 2, 2),
    "5 stages": (5, 0, 0),
    "7 stages": (7, 0, 0),
    "other strides": (6, 0, 3),
}
_NAMES = {
    "unet": "PlainConv",
    "resenc": "ResEnc",
    "swin_b_v1": "Swin V1",
    "swin_b": "Swin V2",
}
_SAME = tuple((name, name) for name in _NAMES)
_OTHER = (
    ("swin_b_v1", "swin_b"),
    ("swin_b", "swin_b_v1"),
    ("unet", "resenc"),
    ("resenc", "unet"),
    ("unet", "swin_b"),
    ("swin_b", "unet"),
)


def planned(spec: EncoderSpec, plan: str) -> EncoderSpec:
    """Return the encoder as a plan of that kind has it; Swin encoders are the same in each."""
    if not isinstance(spec, ConvSpec):
        return spec
    stages, num_flat, num_small = PLANS[plan]
    kernels = (_FLAT,) * num_flat + (_CUBE,) * (stages - num_flat)
    small: tuple[Triple, ...] = ((1, 2, 2),) * num_small
    strides: tuple[Triple, ...] = ((1, 1, 1), *small, *((2, 2, 2),) * stages)
    # the residual encoder's depth is a number a stage
    blocks = getattr(spec, "blocks_per_stage", None)
    depth: dict[str, Any] = {} if blocks is None else {"blocks_per_stage": _longer(blocks, stages)}
    return replace(
        spec,
        name="planned",
        channels=_longer(spec.channels, stages),
        strides=strides[:stages],
        kernel_sizes=kernels,
        **depth,
    )


def _longer(values: tuple[int, ...], length: int) -> tuple[int, ...]:
    return (*values, *values[-1:] * length)[:length]


def try_transfer(
    source: EncoderSpec, target: EncoderSpec, channels: int
) -> TransferReport | TransferError:
    """Return the report of a transfer between two architectures, or its refusal.

    Args:
        source: of the file, with one input channel.
        target: of the network.
        channels: input channels of the network.
    """
    try:
        return preview_transfer(_encoder(target, channels), _weights(_encoder(source, 1), source))
    except TransferError as error:
        return error


@cache
def _encoder(spec: EncoderSpec, channels: int) -> nn.Module:
    return build_on_meta(lambda: build_encoder(spec, input_channels=channels))


def _weights(encoder: nn.Module, spec: EncoderSpec) -> EncoderWeights:
    tensors = {name: tensor.detach() for name, tensor in encoder_tensors(encoder).items()}
    info = WeightsInfo(spec=spec)
    return EncoderWeights(path=Path("file"), sha256="", info=info, tensors=tensors)


def transfer_table() -> str:
    """Return the matrix as a Markdown table: a row a file, network and number of channels."""
    header = ("file", "network", "channels", *PLANS)
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in _rows()]
    return "\n".join(lines) + "\n"


def _rows() -> Iterator[tuple[str, ...]]:
    for source, target in _SAME:
        for channels in CHANNELS:
            yield _row(source, target, channels)
    for source, target in _OTHER:
        yield _row(source, target, 1)


def _row(source: str, target: str, channels: int) -> tuple[str, ...]:
    file, network = encoder_spec(source), encoder_spec(target)
    cells: dict[EncoderSpec, str] = {}
    for plan in PLANS:
        spec = planned(network, plan)
        cells.setdefault(spec, _cell(try_transfer(file, spec, channels)))
    texts = tuple(cells[planned(network, plan)] for plan in PLANS)
    return (_NAMES[source], _NAMES[target], str(channels), *texts)


def _cell(result: TransferReport | TransferError) -> str:
    """Tensors loaded, adapted, fresh and unused, and the share of the encoder; or the refusal."""
    if isinstance(result, TransferError):
        share = result.report.share
        is_small = share < MINIMUM_SHARE
        return f"refused: fits {share:.0%}" if is_small else "refused: another encoder"
    counts = (result.loaded, result.adapted, result.fresh, result.unused)
    return f"{' / '.join(str(count.tensors) for count in counts)} ({result.share:.0%})"
