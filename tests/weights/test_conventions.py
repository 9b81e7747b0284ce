"""What an encoder takes for granted of its images and its library, made good at the transfer."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ZScoreNormalization
from torch import Tensor, nn

from nnunet_triad.architectures import (
    EncoderSpec,
    NetworkPlan,
    build_encoder,
    build_network,
    encoder_spec,
    family_of,
    plainconv_spec,
    resenc_spec,
    swin_spec,
)
from nnunet_triad.architectures.families.mednext import mednext_spec
from nnunet_triad.architectures.families.primus import PrimusSpec
from nnunet_triad.errors import UserError
from nnunet_triad.images.intensity import (
    MASKED_ZSCORE,
    ZSCORE,
    Intensity,
    Scale,
    Statistics,
    affine_map,
    rescale,
    statistics_of,
)
from nnunet_triad.images.orientation import axes_of, order_of_axes
from nnunet_triad.weights.export import convert, export_nnssl
from nnunet_triad.weights.file import EncoderWeights, WeightsInfo, encoder_tensors
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.transfer import Shown, TransferError, find_encoder, transfer_encoder

NARROW = (4, 8, 16, 24)
SWIN = swin_spec("swin", 12, num_heads=(1, 2, 4, 8), window_size=4)
SPECS: dict[str, EncoderSpec] = {
    "plainconv": plainconv_spec("unet", NARROW),
    "resenc": resenc_spec("resenc", NARROW, blocks_per_stage=(1, 1, 2, 1)),
    "swin": SWIN,
    "swin v1": replace(SWIN, use_v2=False),
    "mednext": mednext_spec("mednext", (1, 1, 1), (2, 2, 2), width=8),
    "primus": PrimusSpec(
        name="primus", channels=(132,), strides=((8, 8, 8),), depth=2, num_heads=2, grid=(4, 4, 4)
    ),
}
ORDERS = list(permutations(range(3)))
# What MONAI 1.3.0 joins, written down from its source: x0 to x7 by their first voxels.
OLD_SLICES = [
    *((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
    *((1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)),
]


def weights_of(spec: EncoderSpec, *, channels: int = 1, **info: object) -> EncoderWeights:
    torch.manual_seed(1)
    encoder = build_encoder(spec, input_channels=channels)
    return EncoderWeights(
        path=Path("w.safetensors"),
        sha256="0" * 64,
        info=replace(WeightsInfo(spec=spec, input_channels=channels, axes="xyz"), **info),
        tensors={name: t.detach().clone() for name, t in encoder_tensors(encoder).items()},
    )


def at_home(weights: EncoderWeights) -> nn.Module:
    """The publisher's encoder."""
    torch.manual_seed(2)
    encoder = build_encoder(weights.info.spec, input_channels=weights.info.input_channels)
    transfer_encoder(encoder, weights, Shown(axes=weights.info.axes or "xyz"))
    return encoder.eval()


def features(encoder: nn.Module, image: Tensor) -> list[Tensor]:
    with torch.no_grad():
        found: list[Tensor] = encoder(image)
    return found


@pytest.mark.parametrize("axes", ["".join("xyz"[axis] for axis in order) for order in ORDERS])
@pytest.mark.parametrize("name", SPECS)
def test_features_of_an_image_are_those_at_home_whatever_its_axes(name: str, axes: str) -> None:
    weights = weights_of(SPECS[name])
    image = torch.randn(1, 1, 32, 32, 32) if name == "primus" else torch.randn(1, 1, 32, 64, 96)
    order = order_of_axes(axes, "xyz")
    here = build_encoder(SPECS[name])
    report = transfer_encoder(here, weights, Shown(axes=axes))
    assert report.share == 1
    permuted = [axis + 2 for axis in order]
    found = features(here.eval(), image.permute(0, 1, *permuted))
    expected = features(at_home(weights), image)
    for level, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        gap = (ours - theirs.permute(0, 1, *permuted)).abs().max()
        assert gap < 1e-5 * theirs.abs().max(), level
    if axes != "xyz":
        other = [feature.permute(0, 1, *permuted) for feature in expected]
        still = build_encoder(SPECS[name]).eval()
        transfer_encoder(still, weights, Shown(axes="xyz"))
        wrong = features(still, image.permute(0, 1, *permuted))
        assert max((a - b).abs().max() for a, b in zip(wrong, other, strict=True)) > 1e-2


def test_anisotropic_plan_keeps_its_kernels_and_strides() -> None:
    """z is the first axis of a plan z y x; its kernels are flat along it, whatever the file's."""
    weights = weights_of(SPECS["plainconv"])
    planned = plainconv_spec(
        "unet",
        NARROW,
        kernel_sizes=((1, 3, 3), *((3, 3, 3),) * 3),
        strides=((1, 1, 1), (1, 2, 2), *((2, 2, 2),) * 2),
    )
    encoder = build_encoder(planned).eval()
    transfer_encoder(encoder, weights, Shown(axes="zyx"))
    name = "stages.0.0.convs.0.conv.weight"
    expected = weights.tensors[name].sum(dim=4).permute(0, 1, 3, 2)[:, :, None]
    torch.testing.assert_close(encoder.get_parameter(name).detach(), expected)
    found = features(encoder, torch.randn(1, 1, 16, 32, 32))
    assert [tuple(f.shape[2:]) for f in found] == [(16, 32, 32), (16, 16, 16), (8, 8, 8), (4, 4, 4)]


def test_segmentation_network_around_the_encoder_sees_the_image_as_it_is() -> None:
    """Only the encoder computes along other axes; skips and decoder meet at the same voxels."""
    network = build_network(SWIN, input_channels=1, output_channels=2).eval()
    transfer_encoder(network, weights_of(SWIN), Shown(axes="zyx"))
    image = torch.zeros(1, 1, 32, 64, 96)
    with torch.no_grad():
        assert network(image).shape == (1, 2, 32, 64, 96)
        shapes = [tuple(feature.shape[2:]) for feature in find_encoder(network)(image)]
    assert shapes == [tuple(s // 2**level for s in (32, 64, 96)) for level in range(1, 6)]


def test_state_dict_says_how_the_encoder_computes(tmp_path: Path) -> None:
    """A prediction knows the state dict alone."""
    weights = weights_of(replace(SWIN, merging="old"))
    trained = build_network(SWIN, input_channels=1, output_channels=2).eval()
    transfer_encoder(trained, weights, Shown(axes="yzx"))
    torch.save(trained.state_dict(), tmp_path / "state.pth")
    torch.manual_seed(3)
    loaded = build_network(SWIN, input_channels=1, output_channels=2).eval()
    loaded.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    image = torch.randn(1, 1, 32, 64, 32)
    with torch.no_grad():
        assert torch.equal(loaded(image), trained(image))


def test_state_dict_of_before_there_were_conventions_computes_as_it_did() -> None:
    """MONAI's own network, which knows no conventions, is what such a state was trained in."""
    torch.manual_seed(0)
    theirs = SwinUNETR(
        in_channels=1, out_channels=2, feature_size=12, num_heads=(1, 2, 4, 8), window_size=4,
        use_v2=True,
    ).eval()  # fmt: skip
    ours = build_network(SWIN, input_channels=1, output_channels=2).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 1, 32, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=1e-5)


def test_folds_of_before_and_after_can_be_loaded_one_after_the_other() -> None:
    """As a prediction does; and as a run does that fills its encoder before it is continued."""
    ours = build_network(SWIN, input_channels=1, output_channels=2).eval()
    image = torch.randn(1, 1, 32, 64, 32)
    with torch.no_grad():
        expected = ours(image)
        before = {n: t.clone() for n, t in ours.state_dict().items() if "conventions" not in n}
        transfer_encoder(ours, weights_of(replace(SWIN, merging="old")), Shown(axes="zyx"))
        ours.load_state_dict(before)
        assert torch.equal(ours(image), expected)


@pytest.mark.parametrize("numbers", [[0, 1, 2], [0, 1, 2, 7], [0, 0, 1, 1], [0, 1, 2, 1, 1]])
def test_conventions_that_are_none_are_refused(tmp_path: Path, numbers: list[int]) -> None:
    state = {f"swinViT.{n}": t for n, t in build_encoder(SWIN).state_dict().items()}
    torch.save({**state, "swinViT.conventions": torch.tensor(numbers)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w.pth: conventions: expected an order of 0, 1 and 2"):
        load_weights(tmp_path / "w.pth")


def test_old_merging_joins_what_monai_1_3_joined() -> None:
    encoder = build_encoder(replace(SWIN, merging="old"))
    merge: Callable[[Tensor], Tensor] = encoder.get_submodule("layers1.0.downsample")
    norm, reduction = (
        encoder.get_submodule(f"layers1.0.downsample.{n}") for n in ("norm", "reduction")
    )
    image = torch.randn(1, 4, 6, 5, 12)
    padded = torch.cat([image, torch.zeros(1, 4, 6, 1, 12)], dim=3)
    joined = torch.cat([padded[:, i::2, j::2, k::2] for i, j, k in OLD_SLICES], dim=-1)
    with torch.no_grad():
        torch.testing.assert_close(merge(image), reduction(norm(joined)))


@pytest.mark.parametrize("merging", ["old", "new"])
@pytest.mark.parametrize("start", ["old", "new"])
def test_transfer_takes_the_merging_from_the_file(start: str, merging: str) -> None:
    weights = weights_of(replace(SWIN, merging=merging))
    here = build_encoder(replace(SWIN, merging=start)).eval()
    report = transfer_encoder(here, weights)
    assert report.merging == f"as MONAI {'before' if merging == 'old' else 'since'} 1.5.0"
    image = torch.randn(1, 1, 32, 32, 32)
    expected = features(at_home(weights), image)
    assert all(torch.equal(a, b) for a, b in zip(features(here, image), expected, strict=True))


def test_unknown_conventions_are_said_with_a_way_to_state_them() -> None:
    weights = weights_of(replace(SWIN, merging=None), axes=None)
    report = transfer_encoder(build_encoder(SWIN), weights, Shown(axes="zyx"))
    axes, merging = report.cautions
    assert "axes" in axes
    assert "--merging old" in merging
    assert all(caution in report.summary() for caution in report.cautions)


@pytest.mark.parametrize(
    ("file", "network", "message"),
    [
        (
            swin_spec("b", 12, depths=(2, 2, 6, 2), num_heads=(1, 2, 4, 8), window_size=4),
            SWIN,
            "expected depths 2 2 2 2, as the network has, got 2 2 6 2",
        ),
        (
            swin_spec("b", 12, num_heads=(2, 4, 4, 8), window_size=4),
            SWIN,
            "expected num_heads 1 2 4 8, as the network has, got 2 4 4 8",
        ),
        (
            swin_spec("b", 12, num_heads=(1, 2, 4, 8), window_size=7),
            SWIN,
            "expected window_size 4, as the network has, got 7",
        ),
        (
            resenc_spec("r", NARROW, blocks_per_stage=(1, 3, 2, 1)),
            SPECS["resenc"],
            "expected blocks_per_stage 1 1 2 1, as the network has, got 1 3 2 1",
        ),
        (
            plainconv_spec("p", NARROW, convs_per_stage=3),
            SPECS["plainconv"],
            "expected convs_per_stage 2, as the network has, got 3",
        ),
    ],
)
def test_other_depth_heads_or_window_are_refused(
    file: EncoderSpec, network: EncoderSpec, message: str
) -> None:
    """Names and shapes of most tensors fit, and the features would be others."""
    encoder = build_encoder(network)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(TransferError, match=message):
        transfer_encoder(encoder, weights_of(file))
    assert all(torch.equal(tensor, before[n]) for n, tensor in encoder.state_dict().items())


def test_share_of_the_file_counts_what_is_left_out() -> None:
    weights = weights_of(SPECS["plainconv"])
    shorter = plainconv_spec("unet", NARROW[:3])
    report = transfer_encoder(build_encoder(shorter), weights)
    dropped = sum(t.numel() for n, t in weights.tensors.items() if n.startswith("stages.3."))
    assert report.share == 1
    assert report.share_of_file == 1 - dropped / weights.num_parameters
    assert f"{report.share_of_file:.1%} of the file's encoder is used" in report.summary()


STATISTICS = Statistics(mean=0.0, deviation=1.0, lower=-1.7, upper=3.1)


@pytest.mark.parametrize("name", SPECS)
def test_intensity_folded_into_the_first_layer_is_that_of_the_mapped_image(name: str) -> None:
    """Two channels; compared inside, as behind the border zeros are another value."""
    weights = weights_of(SPECS[name], channels=2, intensity_normalization="percentiles 0.5 99.5")
    other = Statistics(mean=0.0, deviation=1.0, lower=-0.9, upper=4.4)
    shown = Shown(intensity=(ZSCORE, ZSCORE), statistics=(STATISTICS, other))
    here = build_encoder(SPECS[name], input_channels=2).eval()
    report = transfer_encoder(here, weights, shown)
    family = family_of(SPECS[name])
    assert report.adapted.tensors == 2
    assert family.stem_weight in report.adaptations
    image = torch.randn(1, 2, 32, 32, 32)
    mapped = torch.stack([(image[:, 0] + 1.7) / 4.8, (image[:, 1] + 0.9) / 5.3], dim=1)
    stem = family.stem_weight.removesuffix(".weight")
    with torch.no_grad():
        found = here.get_submodule(stem)(image)
        expected = at_home(weights).get_submodule(stem)(mapped)
    inside = (..., *(slice(1, -1),) * 3)
    torch.testing.assert_close(found[inside], expected[inside], rtol=0, atol=1e-5)


def test_swin_sees_the_mapped_image_at_every_level() -> None:
    """Its first layer has no padding, so the whole encoder is the same."""
    weights = weights_of(SWIN, intensity_normalization="percentiles 0.5 99.5")
    here = build_encoder(SWIN).eval()
    transfer_encoder(here, weights, Shown(intensity=(ZSCORE,), statistics=(STATISTICS,)))
    image = torch.randn(1, 1, 32, 64, 32)
    expected = features(at_home(weights), (image + 1.7) / 4.8)
    for ours, theirs in zip(features(here, image), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("wanted", "here", "says"),
    [
        ("window -175 250", ZSCORE, "no map from one to the other is known"),
        ("percentiles 0.5 99.5", ZSCORE, "that is not made good"),
    ],
)
def test_scale_that_is_not_made_good_is_said_and_nothing_changed(
    wanted: str, here: Intensity, says: str
) -> None:
    weights = weights_of(SWIN, intensity_normalization=wanted)
    encoder = build_encoder(SWIN)
    shown = Shown(intensity=(here,), statistics=(STATISTICS,), maps_intensity=False)
    report = transfer_encoder(encoder, weights, shown)
    assert any(says in caution for caution in report.cautions)
    for name, tensor in weights.tensors.items():
        assert torch.equal(encoder.get_parameter(name), tensor)


def test_affine_maps_are_those_of_the_formulas() -> None:
    generator = np.random.default_rng(0)
    raw = generator.gamma(2.0, 90.0, (20, 20, 20)) - 150
    zscore = (raw - raw.mean()) / raw.std()
    low, high = np.percentile(raw, (0.5, 99.5))
    slope, intercept = affine_map(
        Intensity.parse("percentiles 0.5 99.5"), ZSCORE, statistics_of([zscore])
    ) or (0, 0)
    np.testing.assert_allclose(slope * zscore + intercept, (raw - low) / (high - low), atol=1e-6)
    standardised = Intensity(Scale.STANDARDISED, 40.0, 80.0)
    slope, intercept = affine_map(Intensity.parse("window -175 250"), standardised, None) or (0, 0)
    np.testing.assert_allclose(slope * (raw - 40) / 80 + intercept, (raw + 175) / 425, atol=1e-6)
    scaled = (raw - raw.min()) / (raw.max() - raw.min())
    slope, intercept = affine_map(ZSCORE, Intensity(Scale.UNKNOWN), statistics_of([scaled])) or (
        0,
        0,
    )
    np.testing.assert_allclose(slope * scaled + intercept, zscore, atol=1e-6)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("file_channels", [1, 4])
def test_labels_of_a_cascade_do_not_change_what_the_encoder_sees(
    name: str, file_channels: int
) -> None:
    """One image and three labels; a file of four channels is not of these four."""
    weights = weights_of(SPECS[name], channels=file_channels)
    here = build_encoder(SPECS[name], input_channels=4).eval()
    report = transfer_encoder(here, weights, Shown(intensity=(ZSCORE,)))
    how = report.adaptations[family_of(SPECS[name]).stem_weight]
    assert how.endswith("zeros for 3 channels of the stage before")
    image, labels = torch.randn(1, 1, 32, 32, 32), torch.ones(1, 3, 32, 32, 32)
    found = features(here, torch.cat([image, labels], dim=1))
    expected = features(at_home(weights), image.repeat(1, file_channels, 1, 1, 1))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_zscore_within_a_mask_is_not_that_of_the_volume() -> None:
    """A skull-stripped head: two thirds are background, which nnU-Net leaves at 0."""
    plain = transfer_encoder(build_encoder(SWIN), weights_of(SWIN), Shown(intensity=(ZSCORE,)))
    assert (plain.intensity, plain.cautions) == ("zscore, as the weights saw it", ())
    shown = Shown(intensity=(MASKED_ZSCORE,), statistics=(STATISTICS,))
    masked = transfer_encoder(build_encoder(SWIN), weights_of(SWIN), shown)
    assert masked.adapted.tensors == 0
    assert "is shown zscore-in-mask, and no map" in masked.cautions[0]
    weights = weights_of(SWIN, intensity_normalization="percentiles 0.5 99.5")
    folded = transfer_encoder(build_encoder(SWIN), weights, shown)
    assert folded.adapted.tensors == 2
    assert "outside of nnU-Net's mask" in folded.cautions[0]
    same = weights_of(SWIN, intensity_normalization="zscore-in-mask")
    assert transfer_encoder(build_encoder(SWIN), same, shown).cautions == ()


def test_zscore_within_a_mask_is_nnunet_s() -> None:
    head = np.random.default_rng(0).gamma(2.0, 90.0, (1, 6, 7, 8)).astype(np.float32)
    head[:, :4] = 0
    scheme = ZScoreNormalization(use_mask_for_norm=True, intensityproperties={})
    expected = scheme.run(head.copy(), np.where(head == 0, -1, 0))
    np.testing.assert_allclose(rescale(head, MASKED_ZSCORE), expected, atol=1e-5)


@pytest.mark.parametrize(
    "text", ["zscore", "zscore-in-mask", "percentiles 0.5 99.5", "window -175 250", "unknown"]
)
def test_intensity_survives_its_text(text: str) -> None:
    assert str(Intensity.parse(text)) == text


@pytest.mark.parametrize(
    ("affine", "axes"),
    [
        (np.eye(4), "xyz"),
        (np.diag([-1.0, -1.0, 3.0, 1.0]), "xyz"),  # which way round does not count
        (np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], float), "yzx"),  # sagittal slices
        (np.array([[0.9, 0.1, 0.42], [-0.1, 0.99, 0], [-0.42, -0.05, 0.9]]), "xyz"),  # oblique
    ],
)
def test_axes_are_told_from_directions(affine: np.ndarray, axes: str) -> None:
    assert axes_of(affine) == axes


def test_registration_names_agree() -> None:
    """Every encoder that a network has can be described apart from the others of its family."""
    swins = [encoder_spec(name) for name in ("swin_t", "swin_b", "swin_b_v1", "swin_l", "swin_h")]
    assert len({family_of(spec).describe(spec) for spec in swins}) == len(swins)


BLOCKS = ("encoder1", "encoder2", "encoder3", "encoder4", "encoder10")


def voco_file(path: Path) -> tuple[nn.Module, EncoderWeights]:
    """VoCo's head: MONAI's encoder, and the convolution blocks beside it, without a decoder."""
    torch.manual_seed(4)
    network = build_network(replace(SWIN, merging="old"), input_channels=1, output_channels=2)
    state = {n: t for n, t in network.state_dict().items() if not n.startswith(("decoder", "out"))}
    del state["swinViT.conventions"]
    torch.save({"state_dict": {f"module.backbone.{n}": t for n, t in state.items()}}, path)
    return network.eval(), load_weights(path)


@pytest.mark.parametrize("axes", ["xyz", "zyx", "yzx"])
def test_voco_s_blocks_beside_the_encoder_compute_what_they_did(tmp_path: Path, axes: str) -> None:
    theirs, weights = voco_file(tmp_path / "VoCo_B_SSL_head.pt")
    here = build_network(SWIN, input_channels=1, output_channels=2).eval()
    report = transfer_encoder(here, weights, Shown(axes=axes), fills_outside=True)
    assert report.loaded_outside.tensors == sum(
        name.startswith(tuple(f"{block}." for block in BLOCKS))
        for name, _ in theirs.named_parameters()
    )
    image = torch.randn(1, 1, 32, 64, 32)
    side = [axis + 2 for axis in order_of_axes(axes, "xyz")]

    def hidden(network: nn.Module, shown: Tensor) -> list[Tensor]:
        half, quarter, eighth, _, coarsest = network.get_submodule("swinViT")(shown)
        inputs = (shown, half, quarter, eighth, coarsest)
        return [network.get_submodule(b)(x) for b, x in zip(BLOCKS, inputs, strict=True)]

    with torch.no_grad():
        found = hidden(here, image.permute(0, 1, *side))
        expected = hidden(theirs, image)
    for ours, other in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, other.permute(0, 1, *side), rtol=0, atol=2e-5)


def test_blocks_beside_the_encoder_stay_fresh_where_they_are_not_asked_for(tmp_path: Path) -> None:
    _, weights = voco_file(tmp_path / "VoCo_B_SSL_head.pt")
    here = build_network(SWIN, input_channels=4, output_channels=2)
    before = here.encoder2.layer.conv1.conv.weight.clone()
    report = transfer_encoder(here, weights)
    assert report.loaded_outside.tensors == 0
    assert torch.equal(here.encoder2.layer.conv1.conv.weight, before)
    more = transfer_encoder(here, weights, fills_outside=True)  # four channels share the kernels
    stem, file = here.encoder1.layer.conv1.conv.weight, weights.outside
    assert more.outside_encoder.tensors < report.outside_encoder.tensors
    torch.testing.assert_close(stem.sum(1, keepdim=True), file["encoder1.layer.conv1.conv.weight"])


def test_blocks_fit_though_the_file_was_converted_to_more_channels(tmp_path: Path) -> None:
    _, weights = voco_file(tmp_path / "VoCo_B_SSL_head.pt")
    convert(weights, tmp_path / "four.safetensors", input_channels=4)
    four = load_weights(tmp_path / "four.safetensors")
    here = build_network(SWIN, input_channels=4, output_channels=2)
    report = transfer_encoder(here, four, fills_outside=True)
    assert report.loaded_outside.tensors == len(four.outside)


def test_labels_of_a_cascade_leave_the_blocks_beside_the_encoder_alone(tmp_path: Path) -> None:
    _, weights = voco_file(tmp_path / "VoCo_B_SSL_head.pt")
    here = build_network(SWIN, input_channels=3, output_channels=2)
    transfer_encoder(here, weights, Shown(intensity=(ZSCORE,)), fills_outside=True)
    for name in ("conv1", "conv3"):
        stem = f"encoder1.layer.{name}.conv.weight"
        assert not here.get_parameter(stem)[:, 1:].any()
        assert torch.equal(here.get_parameter(stem)[:, :1], weights.outside[stem])


def test_converted_file_keeps_the_blocks_and_the_conventions(tmp_path: Path) -> None:
    _, weights = voco_file(tmp_path / "VoCo_B_SSL_head.pt")
    convert(weights, tmp_path / "voco.safetensors")
    again = load_weights(tmp_path / "voco.safetensors")
    assert again.info == weights.info
    assert (again.info.axes, again.info.spec.merging) == ("xyz", "old")
    for mine, theirs in ((again.tensors, weights.tensors), (again.outside, weights.outside)):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_file_of_before_the_metadata_said_so_is_as_its_source_published(tmp_path: Path) -> None:
    """VoCo's weights, converted when neither axes nor merging were written down."""
    weights = weights_of(SWIN, source="voco")
    fields = json.loads(weights.info.to_json())
    del fields["axes"], fields["spec"]["merging"]
    old = WeightsInfo.from_json(json.dumps(fields))
    assert (old.axes, old.spec.merging, old.intensity_normalization) == (
        "xyz",
        "old",
        "window -175 250",
    )


@pytest.mark.parametrize("is_compiled_first", [True, False])
def test_compiled_network_computes_the_same(is_compiled_first: bool) -> None:
    """nnU-Net compiles a network before its weights come; no figure may depend on that."""
    network = build_network(SWIN, input_channels=1, output_channels=2).eval()
    image = torch.randn(1, 1, 32, 64, 32)
    compiled = torch.compile(network, backend="eager")
    if is_compiled_first:
        with torch.no_grad():
            compiled(image)
    weights = weights_of(replace(SWIN, merging="old"))
    transfer_encoder(compiled, weights, Shown(axes="zyx"))
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), network(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["plainconv", "resenc"])
def test_export_to_nnssl_is_the_encoder_of_arrays_z_y_x(tmp_path: Path, family: str) -> None:
    """The network that nnU-Net builds from the plan in the file computes the same, turned."""
    spec = SPECS[family]
    narrow = replace(
        spec,
        kernel_sizes=((3, 3, 1), *spec.kernel_sizes[1:]),
        strides=((1, 1, 1), (2, 2, 1), *spec.strides[2:]),
    )
    weights = weights_of(narrow, patch_size=(96, 80, 64), spacing_mm=(0.5, 0.6, 3.0))
    export_nnssl(weights, tmp_path / "encoder.pth")
    held = torch.load(tmp_path / "encoder.pth", weights_only=True)
    plan = held["nnssl_adaptation_plan"]
    arguments = plan["architecture_plans"]["arch_kwargs"]
    network = NetworkPlan(
        class_path=plan["architecture_plans"]["arch_class_name"], arguments=arguments
    ).build(input_channels=1, output_channels=2)
    network.load_state_dict(held["network_weights"], strict=False)
    image = torch.randn(1, 1, 32, 64, 32)
    expected = features(at_home(weights), image)
    found = features(network.eval().encoder, image.permute(0, 1, 4, 3, 2))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.permute(0, 1, 4, 3, 2), theirs, rtol=0, atol=1e-5)
    (settings,) = plan["pretrain_plan"]["configurations"].values()
    assert settings["spacing"] == [3.0, 0.6, 0.5]
    assert plan["recommended_downstream_patchsize"] == [64, 80, 96]
