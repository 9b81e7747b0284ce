"""Publishers' files compute here what their own networks computed of them at home."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.architectures.families.swin import MERGINGS, Merging, swin_spec
from nnunet_triad.images.orientation import order_of_axes
from nnunet_triad.weights.transfer import Shown, transfer_encoder
from tests.weights.references import image_of, load, names
from tests.weights.references.compare import (
    DEEPEST_BLOCK,
    DEEPEST_TOLERANCE,
    TOLERANCE,
    compare,
    compared,
    other_merging,
    reference_table,
)

GUIDE = Path(__file__).parents[2] / "docs" / "weights.md"
# What each file is recognised as, by the beginning of the reference's name.
SOURCES = {
    "brainsegfounder": "brainsegfounder",
    "fomo": "fomo",
    "monai": "monai",
    "nnssl": "nnssl",
    "nnunet": "nnunet",
    "suprem": "suprem",
    "swin_unetr_ssl": "swin_unetr_ssl",
    "triad_release_swin": "monai",  # which does not say who trained it
    "triad_script": "triad",
    "voco": "voco",
}
# The eight neighbours that MONAI's patch merging joins, by their offsets (x, y, z), in the order
# of the slices in its source: of 1.3.0 and 1.4.0, and since 1.5.0.
OFFSETS: dict[Merging, tuple[tuple[int, int, int], ...]] = {
    "old": (
        *((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        *((1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)),
    ),
    "new": (
        *((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        *((1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)),
    ),
}

SWIN = [
    name
    for name in compared()
    if any(tensor.name.endswith("bias_table") for tensor in load(name).tensors)
]


@pytest.mark.parametrize("name", compared())
def test_file_is_recognised_and_its_features_are_the_publisher_s(name: str) -> None:
    found = compare(name)
    assert found.weights.info.source == next(s for n, s in SOURCES.items() if name.startswith(n))
    assert found.report.share == 1
    others = (found.report.adapted, found.report.fresh, found.report.unused)
    assert [count.tensors for count in others] == [0, 0, 0]
    assert found.differences.keys() == found.reference.features.keys()
    for level, (_, relative) in found.differences.items():
        assert relative < (DEEPEST_TOLERANCE if level == DEEPEST_BLOCK else TOLERANCE), level


@pytest.mark.parametrize("name", SWIN)
def test_another_patch_merging_is_visible_below_the_finest_level(name: str) -> None:
    found = compare(name, other_merging(compare(name)))
    finest, *others = (found.differences[str(level)] for level in range(5))
    assert finest[1] < TOLERANCE
    assert all(relative > 0.1 for _, relative in others)


@pytest.mark.parametrize("axes", ["zyx", "yzx"])
@pytest.mark.parametrize(
    "name", ["voco_ssl_head", "vocomni_nnunet", "nnssl_resenc", "nnssl_primus"]
)
def test_features_are_the_publisher_s_on_arrays_of_other_axes(name: str, axes: str) -> None:
    reference, weights = load(name), compare(name).weights
    seen = weights.info.axes
    assert seen is not None
    encoder = build_encoder(weights.info.spec, input_channels=weights.info.input_channels)
    transfer_encoder(encoder, weights, Shown(axes=axes))
    here = permuted(image_of(reference.image_shape), order_of_axes(axes, seen))
    with torch.no_grad():
        features = encoder.eval()(here)
    for level, feature in enumerate(features):
        back = permuted(feature, order_of_axes(seen, axes))
        assert reference.difference(str(level), back)[1] < TOLERANCE


def permuted(image: Tensor, order: tuple[int, int, int]) -> Tensor:
    i, j, k = (axis + 2 for axis in order)
    return image.permute(0, 1, i, j, k).contiguous()


@pytest.mark.parametrize("merging", MERGINGS)
def test_patch_merging_joins_monai_s_neighbours(merging: Merging) -> None:
    spec = replace(swin_spec("s", 12, window_size=2), merging=merging)
    merge = build_encoder(spec).layers1[0].downsample
    grid = torch.randn(1, 4, 6, 2, 12)  # b x y z c
    with torch.no_grad():
        merged = merge(grid)
        for x in range(2):
            for y in range(3):
                joined = torch.cat(
                    [grid[0, 2 * x + i, 2 * y + j, k] for i, j, k in OFFSETS[merging]]
                )
                expected = merge.reduction(merge.norm(joined))
                torch.testing.assert_close(merged[0, x, y, 0], expected)


def test_brainsegfounder_s_published_sizes_are_encoders_of_their_own() -> None:
    depths = {spec: encoder_spec(spec).depths for spec in ("swin_b_v1_d6", "swin_b_v1_d18")}
    assert depths == {"swin_b_v1_d6": (2, 2, 6, 2), "swin_b_v1_d18": (2, 2, 18, 2)}


def test_every_reference_says_what_made_it() -> None:
    for name in names():
        made_with = load(name).made_with
        assert {"class", "monai", "torch"} <= made_with.keys()
        assert ("repository" in made_with) == ("commit" in made_with)


def test_guide_shows_the_table_as_it_is() -> None:
    assert reference_table() in GUIDE.read_text()
