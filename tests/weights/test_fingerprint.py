"""Fingerprints: what they are of, what they notice, and what they do not mind."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnunet_triad.architectures import (
    ENCODERS,
    EncoderSpec,
    build_encoder,
    build_network,
    encoder_spec,
    family_of,
    plainconv_spec,
    swin_spec,
)
from nnunet_triad.architectures.cpu.accelerate import accelerate_on_cpu
from nnunet_triad.errors import UserError
from nnunet_triad.weights import fingerprint
from nnunet_triad.weights.cli import main
from nnunet_triad.weights.export import convert, export_nnssl
from nnunet_triad.weights.file import (
    EncoderWeights,
    WeightsInfo,
    encoder_tensors,
    save_tensors,
    save_weights,
)
from nnunet_triad.weights.fingerprint import (
    TOLERANCE,
    Fingerprint,
    LevelPrint,
    compare,
    compute_fingerprint,
    describe_feature,
    image_size,
    is_same,
    report,
    simulated_image,
)
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.sharing import model_card

SWIN = swin_spec("small", 12, num_heads=(1, 2, 4, 8), window_size=4)
UNET = plainconv_spec("small", (4, 6, 8, 10))
# levels 0 and 1 of the encoder of `formula_weights`, as printed by the first version
PUBLISHED = """
fingerprint 1, image 1x64x96x32, level 0 of 0-1: 4x64x96x32,
  mean 0.16128, sd 0.30970, 0.6366 -0.1335 0.4000 0.0480 -0.0533 0.3917 -1.3038 0.7134
fingerprint 1, image 1x64x96x32, level 1 of 0-1: 6x32x48x16,
  mean 0.14180, sd 0.28362, -0.2181 0.1386 0.1643 -0.1236 -1.2021 -0.7835 -0.0564 1.2093
"""


def random_weights(spec: EncoderSpec, *, seed: int = 0, channels: int = 1) -> EncoderWeights:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = build_encoder(spec, input_channels=channels)
        for tensor in encoder_tensors(encoder).values():  # no norm and no bias that does nothing
            tensor.data.add_(0.05 * torch.randn_like(tensor))
    return as_weights(spec, encoder_tensors(encoder), channels=channels)


def as_weights(
    spec: EncoderSpec, tensors: dict[str, Tensor], *, channels: int = 1
) -> EncoderWeights:
    info = WeightsInfo(spec=spec, input_channels=channels)
    return EncoderWeights(path=Path("w.safetensors"), sha256="", info=info, tensors=tensors)


def features_of(
    weights: EncoderWeights,
    image: Tensor,
    kind: torch.dtype = torch.float32,
    change: Callable[[nn.Module], None] = lambda encoder: None,
) -> list[Tensor]:
    encoder = build_encoder(weights.info.spec, input_channels=weights.info.input_channels)
    for name, tensor in encoder_tensors(encoder).items():
        tensor.data.copy_(weights.tensors[name])
    change(encoder)
    with torch.inference_mode():
        features: list[Tensor] = encoder.eval().to(kind)(image.to(kind))
    return features


def image_of(weights: EncoderWeights) -> Tensor:
    shape = (weights.info.input_channels, *image_size(weights.info.spec))
    return torch.from_numpy(simulated_image(shape))[None]


def describe_all(features: list[Tensor], like: Fingerprint) -> Fingerprint:
    levels = {i: describe_feature(f[0].double().numpy()) for i, f in enumerate(features)}
    return replace(like, levels=levels)


def merge_as_before_1_5(encoder: nn.Module) -> None:
    """Join the neighbours that MONAI 1.3.0 joined: two of them twice, two never."""

    def merge(module: Any, image: Tensor) -> Tensor:
        x0, x1, x2, x3, x4, x7 = (
            image[:, i::2, j::2, k::2]
            for i, j, k in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1))
        )
        joined = torch.cat((x0, x1, x2, x3, x4, x2, x3, x7), -1)
        merged: Tensor = module.reduction(module.norm(joined))
        return merged

    for module in encoder.modules():
        if hasattr(module, "reduction"):
            module.forward = partial(merge, module)


class Linear(nn.Module):
    """An encoder whose features are known: 3 x + 2, and the means of 2x2x2 voxels."""

    def forward(self, image: Tensor) -> list[Tensor]:
        return [3 * image + 2, nn.functional.avg_pool3d(image, 2)]


# What it is of


def test_projections_are_the_naive_sums_over_random_signs() -> None:
    feature = np.random.default_rng(0).normal(1.5, 2, (2, 3, 2, 4))
    found = describe_feature(feature)
    assert found.mean == pytest.approx(feature.sum() / 48)
    assert found.sd == pytest.approx(math.sqrt(((feature - found.mean) ** 2).sum() / 48))
    for k, projection in enumerate(found.projections):
        a, b = (np.random.Generator(np.random.PCG64([20, i, k])) for i in (0, 1))
        channels = [-1 if a.random() < 0.5 else 1 for _ in range(2)]
        voxels = [-1 if b.random() < 0.5 else 1 for _ in range(24)]
        total = 0.0
        for c in range(2):
            for n, index in enumerate(np.ndindex(3, 2, 4)):
                total += channels[c] * voxels[n] * (feature[(c, *index)] - found.mean)
        assert projection == pytest.approx(total / (found.sd * math.sqrt(48)))


def test_linear_encoder_has_its_factor_its_offset_and_the_image_s_projections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fingerprint, "build_encoder", lambda *_, **__: Linear())
    found = compute_fingerprint(as_weights(UNET, {}))
    image = simulated_image((1, 64, 96, 32))
    assert found.image == found.levels[0].shape == (1, 64, 96, 32)
    assert found.levels[0].mean == pytest.approx(2, abs=1e-6)
    assert found.levels[0].sd == pytest.approx(3)
    expected = describe_feature(image).projections
    assert found.levels[0].projections == pytest.approx(expected, abs=1e-5)
    pooled = image.reshape(1, 32, 2, 48, 2, 16, 2).mean((2, 4, 6))
    assert found.levels[1].sd == pytest.approx(pooled.std())
    assert is_same(compare(found, replace(found, levels={1: describe_feature(pooled)})))


def test_published_lines_are_what_is_computed_today() -> None:
    spec = plainconv_spec("formula", (4, 6))
    tensors = {
        name: torch.cos(torch.arange(t.numel()) * 0.7 + i).reshape(t.shape) / 2
        for i, (name, t) in enumerate(encoder_tensors(build_encoder(spec)).items())
    }
    published = Fingerprint.parse(PUBLISHED)
    assert published is not None
    assert published.levels.keys() == {0, 1}
    found = compute_fingerprint(as_weights(spec, tensors))
    assert max(compare(found, published).values()) < TOLERANCE / 4


def test_image_is_z_scored_and_unlike_its_reflections_and_permutations() -> None:
    image = simulated_image((2, 24, 24, 24))
    assert image.mean((1, 2, 3)) == pytest.approx(0, abs=1e-12)
    assert image.std((1, 2, 3)) == pytest.approx(1)
    np.testing.assert_array_equal(simulated_image((1, 24, 24, 24))[0], image[0])
    first = image[0]
    others = [np.transpose(first, order) for order in list(permutations(range(3)))[1:]]
    others += [np.flip(first, axis) for axis in range(3)] + [image[1]]
    assert max(abs((first * other).mean()) for other in others) < 0.7


@pytest.mark.parametrize("name", ENCODERS)
def test_image_fits_every_encoder(name: str) -> None:
    spec = encoder_spec(name)
    size, stride = image_size(spec), spec.total_stride
    assert len(set(size)) == 3
    assert [n % s for n, s in zip(size, stride, strict=True)] == [0, 0, 0]
    cells = math.prod(n // s for n, s in zip(size, stride, strict=True))
    assert cells >= max(2, family_of(spec).min_bottleneck_voxels)


def test_image_of_a_plan_with_large_strides_has_a_bottleneck_to_norm() -> None:
    spec = plainconv_spec("deep", (4,) * 8)
    assert image_size(spec) == (128, 256, 128)


# What it notices


def test_difference_is_that_of_the_features() -> None:
    rng = np.random.default_rng(1)
    for size in (0.01, 0.1, 1.0):
        ratios = []
        for _ in range(20):
            f = rng.normal(size=(6, 5, 4, 3)) * 2 + 1
            g = f + size * rng.normal(size=f.shape) + size / 2
            actual = math.sqrt(((f - g) ** 2).mean()) / max(f.std(), g.std())
            ratios.append(describe_feature(f).difference(describe_feature(g)) / actual)
        assert np.mean(np.square(ratios)) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spec", [SWIN, UNET], ids=["swin", "unet"])
def test_any_changed_tensor_is_noticed_from_its_level_on(spec: EncoderSpec, channels: int) -> None:
    weights = random_weights(spec, channels=channels)
    before = compute_fingerprint(weights)
    for name in list(weights.tensors)[channels :: len(weights.tensors) // 5]:
        if spec is UNET and name.endswith("conv.bias"):
            continue  # the norm behind it takes it away
        tensor = weights.tensors[name]
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
        changed = {**weights.tensors, name: tensor + 0.05 * noise}
        found = compare(before, compute_fingerprint(replace(weights, tensors=changed)))
        assert not is_same(found), name
        first = min(level for level, value in found.items() if value > TOLERANCE)
        assert first >= family_of(spec).level_of(spec, name)


def test_exchanged_axes_are_noticed() -> None:
    for spec in (SWIN, UNET):
        weights = random_weights(spec)
        before = compute_fingerprint(weights)
        image = image_of(weights).transpose(2, 4)
        features = [f.transpose(2, 4) for f in features_of(weights, image.float())]
        assert min(compare(before, describe_all(features, before)).values()) > 0.05


@pytest.mark.parametrize("axes", ["zyx", "yzx", "xzy"])
def test_permuted_weights_have_the_fingerprint_of_those_that_they_come_from(axes: str) -> None:
    spec = plainconv_spec(
        "flat", (4, 6, 8), strides=((1, 1, 1), (2, 1, 2), (2, 2, 2)), kernel_sizes=((1, 3, 5),) * 3
    )
    weights, family = random_weights(spec), family_of(spec)
    i, j, k = ("xyz".index(axis) for axis in axes)
    turned = as_weights(
        family.permute_spec(spec, (i, j, k)), family.permute_axes(spec, weights.tensors, (i, j, k))
    )
    told = replace(turned.info, axes=axes)
    before, found = compute_fingerprint(weights), compute_fingerprint(replace(turned, info=told))
    assert max(compare(before, found).values()) < TOLERANCE / 50
    assert found.assumed == ()
    untold = compute_fingerprint(turned)
    assert untold.assumed == ("axes",)
    assert not is_same(compare(before, untold))


def test_patch_merging_of_monai_before_1_5_is_noticed_behind_the_first_level() -> None:
    weights = random_weights(SWIN)
    before = compute_fingerprint(weights)
    features = features_of(weights, image_of(weights), change=merge_as_before_1_5)
    old = describe_all(features, before)
    told = replace(weights, info=replace(weights.info, spec=replace(SWIN, merging="old")))
    assert max(compare(compute_fingerprint(told), old).values()) < TOLERANCE / 50
    lines = report(before, old)
    assert lines[0].startswith("level 0: same")
    assert all(line.split(": ")[1].startswith("different, by ") for line in lines[1:5])


def test_another_scale_of_the_stem_is_noticed_by_swin_and_means_nothing_to_a_u_net() -> None:
    for spec, is_unchanged in ((SWIN, False), (UNET, True)):
        weights = random_weights(spec)
        name = family_of(spec).stem_weight
        scaled = {**weights.tensors, name: weights.tensors[name] * 4}
        found = compare(
            compute_fingerprint(weights), compute_fingerprint(replace(weights, tensors=scaled))
        )
        assert is_same(found) == is_unchanged


def test_dropped_block_is_noticed_in_its_level() -> None:
    weights = random_weights(SWIN)
    short = replace(weights.info, spec=replace(SWIN, depths=(2, 2, 1, 2)))
    fewer = compute_fingerprint(replace(weights, info=short))
    assert fewer.unused
    assert all(name.startswith("layers3.0.blocks.1.") for name in fewer.unused)
    lines = report(compute_fingerprint(weights), fewer)
    assert [line.split(",")[0] for line in lines[:3]] == [f"level {n}: same" for n in range(3)]
    assert lines[3].startswith("level 3: different, by ")
    assert lines[-1] == "different from level 3 on"


def test_other_widths_depths_and_images_are_named() -> None:
    one = compute_fingerprint(random_weights(UNET))
    wider = compute_fingerprint(random_weights(plainconv_spec("w", (4, 6, 9, 10))))
    assert report(one, wider)[2] == "level 2: different, 8x16x24x8 and 9x16x24x8"
    deeper = compute_fingerprint(random_weights(plainconv_spec("d", (4, 6, 8, 10, 12))))
    assert report(one, deeper)[4] == "level 4: different, none and 12x4x6x2"
    more = compute_fingerprint(random_weights(UNET, channels=2))
    assert "seen for images 1x64x96x32 and 2x64x96x32" in report(one, more)[0]
    for other in (wider, deeper, more):
        assert not is_same(compare(one, other))


def test_feature_that_is_not_finite_is_named_by_its_level() -> None:
    weights = random_weights(UNET)
    name = "stages.1.0.convs.0.norm.bias"
    broken = {**weights.tensors, name: torch.full_like(weights.tensors[name], math.inf)}
    with pytest.raises(UserError, match=r"w.safetensors: expected finite features.*at level 1"):
        compute_fingerprint(replace(weights, tensors=broken))


def test_axes_that_are_none_are_named() -> None:
    weights = random_weights(UNET)
    with pytest.raises(UserError, match="axes: expected an order of x, y and z, got xxz"):
        compute_fingerprint(replace(weights, info=replace(weights.info, axes="xxz")))


def test_missing_tensor_and_wrong_shape_are_named() -> None:
    weights = random_weights(UNET)
    name = "stages.1.0.convs.0.norm.bias"
    fewer = {n: tensor for n, tensor in weights.tensors.items() if n != name}
    with pytest.raises(UserError, match=f"expected every tensor of small, 6 for {name}, got none"):
        compute_fingerprint(replace(weights, tensors=fewer))
    with pytest.raises(UserError, match=f"6 for {name}, got 7"):
        compute_fingerprint(replace(weights, tensors={**fewer, name: torch.zeros(7)}))


# What it does not mind


@pytest.mark.parametrize("spec", [SWIN, UNET], ids=["swin", "unet"])
def test_precision_threads_and_rounding_are_a_hundredth_of_what_counts(spec: EncoderSpec) -> None:
    weights = random_weights(spec)
    before = compute_fingerprint(weights)
    double = describe_all(features_of(weights, image_of(weights), torch.float64), before)
    num_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if num_threads > 1 else 2)
        threads = compute_fingerprint(weights)
    finally:
        torch.set_num_threads(num_threads)
    for other in (double, threads):
        assert max(compare(before, other).values()) < TOLERANCE / 50
    printed = Fingerprint.parse("\n".join(before.lines()))
    assert printed is not None
    assert max(compare(before, printed).values()) < TOLERANCE / 10


def test_kernels_for_the_cpu_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIAD_CPU_KERNELS", raising=False)
    spec = encoder_spec("swin_t")
    weights = random_weights(spec)
    network = build_network(spec, input_channels=1, output_channels=2).eval()
    encoder = network.get_submodule(family_of(spec).encoder_attribute)
    for name, tensor in encoder_tensors(encoder).items():
        tensor.data.copy_(weights.tensors[name])
    accelerate_on_cpu(network)
    before = compute_fingerprint(weights)
    with torch.inference_mode():
        features = encoder(image_of(weights).float())
    assert max(compare(before, describe_all(features, before)).values()) < TOLERANCE / 50


@pytest.mark.parametrize("name", ["nnssl resenc", "nnssl plainconv"])
def test_export_and_conversion_have_the_fingerprint_of_the_file(
    published: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    weights = load_weights(published(name))
    convert(weights, tmp_path / "w.safetensors")
    ours = load_weights(tmp_path / "w.safetensors")
    export_nnssl(ours, tmp_path / "c.pth")
    before = compute_fingerprint(weights)
    for other in (ours, load_weights(tmp_path / "c.pth")):
        assert is_same(compare(before, compute_fingerprint(other)))


def test_export_along_other_axes_has_the_fingerprint_of_the_file(tmp_path: Path) -> None:
    spec = plainconv_spec("flat", (4, 6, 8), kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)))
    weights = random_weights(spec)
    weights = replace(weights, info=replace(weights.info, axes="xyz"))
    export_nnssl(weights, tmp_path / "c.pth")
    exported = load_weights(tmp_path / "c.pth")
    assert exported.info.axes == "zyx"
    assert is_same(compare(compute_fingerprint(weights), compute_fingerprint(exported)))


def test_other_names_for_the_same_encoder_have_its_fingerprint(
    published: Callable[[str], Path], tmp_path: Path
) -> None:
    weights = load_weights(published("monai v1"))
    assert weights.info.source == "monai"
    state = {f"module.{n.replace('linear', 'fc')}": t for n, t in weights.tensors.items()}
    torch.save({"state_dict": state}, tmp_path / "model_swinvit.pt")
    renamed = load_weights(tmp_path / "model_swinvit.pt")
    assert renamed.info.source == "swin_unetr_ssl"
    # MONAI's names do not say which version merged, the names of Swin UNETR's authors do
    before = compute_fingerprint(weights)
    assert before.assumed == ("merging", "axes")
    assert not is_same(compare(before, compute_fingerprint(renamed)))
    told = replace(weights, info=replace(weights.info, spec=renamed.info.spec))
    assert is_same(compare(compute_fingerprint(told), compute_fingerprint(renamed)))


# As text


def small_fingerprint(mean: float = -0.25, sd: float = 1.5) -> Fingerprint:
    level = LevelPrint(shape=(2, 4, 6, 2), mean=mean, sd=sd, projections=(-0.5, *(1.25,) * 7))
    return Fingerprint(image=(1, 8, 12, 4), num_levels=2, levels={1: level})


def test_line_says_all_of_it() -> None:
    assert small_fingerprint().lines() == [
        "fingerprint 1, image 1x8x12x4, level 1 of 0-1: 2x4x6x2, mean -0.2500, sd 1.5000, "
        "-0.5000 1.2500 1.2500 1.2500 1.2500 1.2500 1.2500 1.2500"
    ]
    assert (
        "mean -0.0000002500, sd 0.0000012345, "
        in (small_fingerprint(mean=-2.5e-7, sd=1.23454e-6).lines()[0])
    )
    assert "mean 0.0000, sd 0.0000, " in small_fingerprint(mean=-1e-9, sd=0.0).lines()[0]


def test_line_is_read_in_a_wrapped_paper_with_its_own_hyphens() -> None:
    (line,) = small_fingerprint().lines()
    paper = f"Table 1. \u2013 {line.replace(' ', chr(10), 9).replace('-0', chr(8722) + '0')} (ours)"
    assert Fingerprint.parse(paper) == small_fingerprint()
    assert Fingerprint.parse("no such thing") is None


def test_lines_of_several_encoders_or_another_version_are_refused() -> None:
    (line,) = small_fingerprint().lines()
    (other,) = small_fingerprint(sd=2.0).lines()
    assert Fingerprint.parse(f"{line}\n{line}") == small_fingerprint()
    with pytest.raises(UserError, match="expected the lines of one encoder, got those of several"):
        Fingerprint.parse(f"{line}\n{other}")
    with pytest.raises(UserError, match="fingerprint: expected version 1, got version 7"):
        Fingerprint.parse(line.replace("fingerprint 1", "fingerprint 7"))
    with pytest.raises(UserError, match="fingerprint: expected levels 0 to 1, got 5"):
        Fingerprint.parse(line.replace("level 1", "level 5"))


def test_levels_that_a_text_leaves_out_are_said_not_to_be_compared() -> None:
    whole = small_fingerprint()
    whole = replace(whole, levels={0: whole.levels[1], **whole.levels})
    assert report(whole, small_fingerprint())[0].startswith("level 0: not compared")
    assert is_same(compare(whole, small_fingerprint()))


def test_constant_features_are_compared_by_their_value() -> None:
    zero = describe_feature(np.zeros((2, 3, 2, 2)))
    assert zero.difference(zero) == 0
    assert zero.difference(describe_feature(np.ones((2, 3, 2, 2)))) > 1


# On the command line

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        words = ["triad-weights", "verify", *map(str, arguments), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", words)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two files of one architecture."""
    paths = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        save_weights(path, build_encoder(UNET), WeightsInfo(spec=UNET, axes="xyz"))
    return paths


def test_verify_prints_lines_that_it_takes_back(run: Run, files: tuple[Path, Path]) -> None:
    code, lines, err = run(files[0])
    assert (code, err) == (0, "")
    assert lines.splitlines() == compute_fingerprint(load_weights(files[0])).lines()
    for text in (lines, lines.splitlines()[2]):
        code, out, _ = run(files[0], "--against", text)
        assert code == 0
        assert out.splitlines()[-1].startswith("same: ")
        code, out, _ = run(files[1], "--against", text)
        assert code == 1
        assert "different from level" in out


def test_verify_says_what_it_assumes_and_what_it_leaves_out(
    run: Run, files: tuple[Path, Path], published: Callable[[str], Path]
) -> None:
    assert "merging and axes not stated" in run(published("monai v1"))[2]
    weights = load_weights(files[0])
    save_tensors(files[1], {**weights.tensors, "stages.9.w": torch.zeros(1)}, weights.info)
    code, out, err = run(files[1], "--against", files[0])
    assert (code, out.splitlines()[-1][:6]) == (0, "same: ")
    assert err == f"{files[1]}: not the encoder's: stages.9.w, left out\n"


def test_verify_takes_weights_json_and_a_model_card(
    run: Run, files: tuple[Path, Path], tmp_path: Path
) -> None:
    card, printed = tmp_path / "README.md", tmp_path / "f.json"
    card.write_text(model_card(load_weights(files[0]), "lab/brains", files[0]), encoding="utf-8")
    printed.write_text(run(files[0], "--json")[1], encoding="utf-8")
    for other in (files[0], card, printed):
        assert run(files[0], "--against", other)[0] == 0
        assert run(files[1], "--against", other)[0] == 1


def test_verify_says_in_json_what_differs(run: Run, files: tuple[Path, Path]) -> None:
    code, out, _ = run(files[0], "--against", files[1], "--json")
    found = json.loads(out)
    assert (code, found["is_same"]) == (1, False)
    assert found["sha256"] == load_weights(files[0]).sha256
    assert found["differences"].keys() == {"0", "1", "2", "3"}
    assert min(found["differences"].values()) > 0.1
    other_image = found["fingerprint"][0].replace("image 1x", "image 4x")
    assert json.loads(run(files[0], "--against", other_image, "--json")[1])["differences"] == {
        str(level): None for level in range(4)
    }


@pytest.mark.parametrize(
    ("against", "part"),
    [
        ("missing.safetensors", "expected a weights file, got nothing at that path"),
        ("fingerprint 1, image 1x64", "against: expected a file, or whole lines, got fingerprint"),
    ],
)
def test_verify_against_nothing_is_one_line(
    run: Run, files: tuple[Path, Path], against: str, part: str
) -> None:
    code, out, err = run(files[0], "--against", against)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert part in err
