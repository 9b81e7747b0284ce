"""Every encoder into every kind of plan: exact counts, exact values, or a reason."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch

from nnunet_triad.architectures import (
    EncoderSpec,
    build_encoder,
    encoder_spec,
    plainconv_spec,
    resenc_spec,
    swin_spec,
)
from nnunet_triad.weights.file import EncoderWeights, WeightsInfo, encoder_tensors
from nnunet_triad.weights.transfer import Count, TransferError, TransferReport, transfer_encoder
from tests.weights.matrix import CHANNELS, PLANS, planned, transfer_table, try_transfer

GUIDE = Path(__file__).parents[2] / "docs" / "weights.md"
NARROW = (4, 8, 16, 24, 32, 32)
BLOCKS = (1, 3, 2, 1, 1, 2)
SPECS: dict[str, EncoderSpec] = {
    "plainconv": plainconv_spec("small", NARROW),
    "resenc": resenc_spec("small", NARROW, blocks_per_stage=BLOCKS),
    "swin v1": swin_spec("small", 12, num_heads=(1, 2, 4, 8), window_size=4, use_v2=False),
    "swin v2": encoder_spec("swin_t"),
}


@cache
def weights_of(spec: EncoderSpec) -> EncoderWeights:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = build_encoder(spec)
    tensors = {name: t.detach().clone() for name, t in encoder_tensors(encoder).items()}
    return EncoderWeights(path=Path("w"), sha256="0", info=WeightsInfo(spec=spec), tensors=tensors)


def expected_tensors(family: str, plan: str, channels: int) -> tuple[int, int, int, int]:
    """Loaded, adapted, fresh and unused, from the number of convolutions in each stage."""
    stages, num_flat, _ = PLANS[plan]
    if family.startswith("swin"):
        # a level: 2 blocks of 13 tensors and 3 of merging; 2 tensors of the embedding; V2's
        # block has 2 convolutions, as its norms have no parameters
        total = 4 * (2 * 13 + 3) + 2 + (8 if family == "swin v2" else 0)
        return total - (channels > 1), int(channels > 1), 0, 0
    if family == "plainconv":
        convs, skips = [2] * 7, [0] * 7
        stem = 0  # the first of stage 0
    else:
        convs = [2 * blocks for blocks in (*BLOCKS, BLOCKS[-1])]
        skips = [0, 1, 1, 1, 1, 0, 0]  # a 1x1x1 convolution where the width changes
        stem = 1
    size = [4 * c + 3 * s for c, s in zip(convs, skips, strict=True)]
    common = 4 * stem + sum(size[: min(stages, 6)])
    adapted = sum(convs[:num_flat]) + (stem if num_flat else 0)
    if channels > 1 and not num_flat:
        adapted += 1  # the stem's kernel is flattened already otherwise
    return common - adapted, adapted, sum(size[6:stages]), sum(size[stages:6])


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("family", SPECS)
def test_cell_transfers_with_exact_counts_and_values(family: str, plan: str, channels: int) -> None:
    source, target = SPECS[family], planned(SPECS[family], plan)
    weights = weights_of(source)
    encoder = build_encoder(target, input_channels=channels)
    before = {n: t.clone() for n, t in encoder_tensors(encoder).items()}
    report = transfer_encoder(encoder, weights)
    counts = (report.loaded, report.adapted, report.fresh, report.unused)
    assert tuple(c.tensors for c in counts) == expected_tensors(family, plan, channels)
    after = encoder_tensors(encoder)
    filled = report.loaded.parameters + report.adapted.parameters + report.fresh.parameters
    assert filled == sum(t.numel() for t in after.values())
    for name, tensor in after.items():
        if name in report.fresh_reasons:
            assert torch.equal(tensor, before[name])
        elif name in report.adaptations:
            torch.testing.assert_close(tensor, adapt_naively(weights.tensors[name], tensor.shape))
        else:
            assert torch.equal(tensor, weights.tensors[name])


def adapt_naively(kernel: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Each output value from its definition: the mean over channels, sums along flat axes."""
    out = torch.zeros(shape)
    channels = shape[1] if kernel.shape[1] != shape[1] else 1
    for c in range(shape[1]):
        source = kernel[:, 0] if channels > 1 else kernel[:, c]
        out[:, c] = (source.sum(1, keepdim=True) if shape[2] == 1 else source) / channels
    return out


@pytest.mark.parametrize("plan", ["two flattened stages", "7 stages"])
@pytest.mark.parametrize("family", ["plainconv", "resenc"])
def test_adapted_encoder_computes_on_the_plan_s_grid(family: str, plan: str) -> None:
    spec = planned(SPECS[family], plan)
    encoder = build_encoder(spec, input_channels=2)
    transfer_encoder(encoder, weights_of(SPECS[family]))
    sizes: tuple[int, ...] = (64, 64, 128) if plan == "7 stages" else (32, 64, 32)
    with torch.no_grad():
        features = encoder(torch.randn(1, 2, *sizes))
    for feature, stride in zip(features, spec.strides, strict=True):
        sizes = tuple(size // step for size, step in zip(sizes, stride, strict=True))
        assert feature.shape[2:] == sizes
        assert torch.isfinite(feature).all()


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("swin v1", "swin v2", "expected use_v2 True, as the network has, got False in the file"),
        ("swin v2", "swin v1", "expected use_v2 False, as the network has, got True in the file"),
        ("plainconv", "resenc", "fits 0% of it .*same architecture"),
        ("resenc", "plainconv", "fits 0% of it .*same architecture"),
        ("plainconv", "swin v2", "fits 0% of it .*same architecture"),
        ("swin v1", "resenc", "fits 0% of it .*same architecture"),
    ],
)
def test_other_architecture_is_refused_with_the_reason(
    source: str, target: str, reason: str
) -> None:
    result = try_transfer(SPECS[source], SPECS[target], 1)
    assert isinstance(result, TransferError)
    assert re.search(reason, str(result))


def test_shapes_alone_give_the_same_report_as_a_transfer() -> None:
    source = SPECS["plainconv"]
    target = planned(source, "two flattened stages")
    shapes = try_transfer(source, target, 4)
    real = transfer_encoder(build_encoder(target, input_channels=4), weights_of(source))
    assert isinstance(shapes, TransferReport)
    assert (shapes.loaded, shapes.adapted, shapes.fresh) == (real.loaded, real.adapted, real.fresh)
    assert shapes.adaptations == real.adaptations
    assert shapes.outside_encoder == Count(tensors=0, parameters=0)


def test_guide_shows_the_table_as_it_is() -> None:
    assert transfer_table() in GUIDE.read_text()
