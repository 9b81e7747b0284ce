import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import Result, append_results, read_results
from nnunet_triad.images import Volume
from registration.evaluate import compare_models, score_labels, score_pair, summarize, warp_linearly
from registration.figures import checkerboard, draw_registration, save_picture
from registration.label_sets import LabelSet
from registration.manifest import Pair
from registration.metrics import (
    dice_by_structure,
    hd95_by_structure,
    mean_of_known,
    structures_of,
    warp_labels,
)
from registration.pairs import read_image
from registration.references import affine_method, reference_method, voxel_displacement
from registration.spatial import warp
from registration.transform_file import TransformField, grid_points, whole_field, write_field
from tests.registration.heads import SHAPE, head

SHIFT_MM = (10.0, 0.0, 0.0)


def shifted(image: Volume) -> Volume:
    affine = image.affine.copy()
    affine[:3, 3] += SHIFT_MM
    return Volume(voxels=image.voxels, affine=affine)


def constant_field(grid, vector):
    return TransformField(
        displacement_mm=np.broadcast_to(np.float32(vector), (*grid.shape, 3)).copy(),
        affine=grid.affine,
    )


def values_of(scored):
    return {(r.metric, r.label): r.value for r in scored.results}


@pytest.fixture
def pair(pair_files, tmp_path):
    return Pair(
        moving=pair_files["moving"],
        fixed=pair_files["fixed"],
        moving_labels=pair_files["moving_labels"],
        fixed_labels=pair_files["fixed_labels"],
        split="test",
    )


def test_mean_leaves_out_what_is_not_known():
    assert mean_of_known([0.5, np.nan, 1.0]) == 0.75
    assert np.isnan(mean_of_known([np.nan]))


def test_true_field_scores_perfectly_and_none_does_not():
    _, labels = head()
    field = constant_field(labels.grid, SHIFT_MM)
    moving = shifted(labels)
    perfect = score_labels(moving, labels, field, label_set=None)
    nothing = score_labels(moving, labels, constant_field(labels.grid, (0, 0, 0)), label_set=None)
    assert perfect["dice", "mean"] == pytest.approx(1)
    assert perfect["dice_linear", "mean"] == pytest.approx(1)
    assert perfect["hd95", "mean"] == 0
    assert nothing["dice", "mean"] < 0.8
    assert nothing["hd95", "mean"] > 5


def test_hd95_of_shifted_boxes_is_the_shift_in_mm():
    one, other = np.zeros((2, 20, 20, 20), dtype=int)
    one[4:10, 4:10, 4:10] = other[4:10, 7:13, 4:10] = 1
    found = hd95_by_structure(other, one, one, {"box": (1,)}, spacing_mm=(1.0, 2.5, 1.0))
    assert found["box"] == pytest.approx(3 * 2.5)


def test_structures_absent_in_either_image_are_undefined():
    fixed, moving = np.zeros((2, 6, 6, 6), dtype=int)
    fixed[:3], moving[3:] = 1, 2
    structures = {"one": (1,), "two": (2,)}
    scores = dice_by_structure(moving, fixed, moving, structures)
    assert all(np.isnan(score) for score in scores.values())
    distances = hd95_by_structure(moving, fixed, moving, structures, spacing_mm=(1, 1, 1))
    assert all(np.isnan(distance) for distance in distances.values())


def test_nearest_labels_are_labels():
    labels = torch.from_numpy(head()[1].voxels)[None, None]
    displacement = torch.nn.functional.avg_pool3d(3 * torch.randn(1, 3, *SHAPE), 5, 1, 2)
    nearest = warp_labels(labels, displacement)
    assert set(nearest.unique().tolist()) <= {0, 1, 2, 3, 4}


def test_linear_labels_are_those_of_a_naive_one_hot():
    _, labels = head()
    displacement = torch.nn.functional.avg_pool3d(2 * torch.randn(1, 3, *SHAPE), 5, 1, 2)
    field = whole_field(
        labels.grid,
        working=labels.grid,
        displacement=displacement[0].double().numpy(),
        matrix=np.eye(4),
    )
    structures = structures_of(labels.voxels)
    found = warp_linearly(labels, field, structures)
    values = torch.from_numpy(labels.voxels)[None, None]
    one_hot = torch.cat([(values == value).float() for value in range(5)], dim=1)
    expected = warp(one_hot, displacement).argmax(dim=1)[0].numpy()
    assert (found != expected).mean() < 1e-3  # ties and the outside
    assert (found != warp_labels(values, displacement)[0, 0].numpy()).mean() > 1e-3
    torch.testing.assert_close(voxel_displacement(field), displacement, atol=1e-4, rtol=1e-4)


def test_groups_average_their_structures():
    _, labels = head()
    moving = shifted(labels)
    label_set = LabelSet(
        structures={"left": (3,), "right": (4,), "rest": (1, 2)},
        groups={"core": ("left", "right"), "rest": ("rest",)},
    )
    found = score_labels(
        moving, labels, constant_field(labels.grid, (0, 0, 0)), label_set=label_set
    )
    mean = (found["dice", "left"] + found["dice", "right"]) / 2
    assert found["dice_group", "core"] == pytest.approx(mean)
    assert found["dice_group", "mean"] == pytest.approx((mean + found["dice", "rest"]) / 2)
    assert found["dice_linear_group", "mean"] != found["dice_linear", "mean"]


def test_pair_is_scored_with_its_true_displacement(pair, tmp_path):
    grid = head()[0].grid
    write_field(tmp_path / "truth.nii.gz", constant_field(grid, SHIFT_MM))
    known = replace(pair, displacement=tmp_path / "truth.nii.gz", subject="patient 7")
    scored = score_pair(known, affine_method("none"), dataset="D")
    assert {result.subject for result in scored.results} == {"patient 7"}
    found = values_of(scored)
    assert found["endpoint_error_mm", ""] == pytest.approx(10.0)
    assert found["non_positive_jacobian", ""] == 0
    assert found["sdlogj", ""] == pytest.approx(0, abs=1e-6)
    write_field(tmp_path / "other.nii.gz", constant_field(shifted(head()[0]).grid, SHIFT_MM))
    with pytest.raises(UserError, match=r"other\.nii\.gz: expected the grid of"):
        score_pair(
            replace(pair, displacement=tmp_path / "other.nii.gz"),
            affine_method("none"),
            dataset="D",
        )


def test_affine_reference_improves_on_no_registration(pair):
    before, after = (
        values_of(score_pair(pair, reference_method(name), dataset="D"))
        for name in ("before", "affine")
    )
    assert after["dice", "mean"] > before["dice", "mean"] + 0.05


@pytest.mark.parametrize("alignment", ["none", "affine"])
def test_syn_finds_the_true_displacement_where_it_is_installed(pair, tmp_path, alignment):
    """The heads differ by a shift and a scaling; a transposed or negated field is farther off."""
    pytest.importorskip("ants")
    before, after = (
        values_of(score_pair(true_pair(pair, tmp_path), method, dataset="D"))
        for method in (affine_method("none"), reference_method("syn", alignment=alignment))
    )
    error = "endpoint_error_mm", ""
    assert after[error] < 0.5 * before[error]
    assert after["dice", "mean"] > before["dice", "mean"] + 0.1
    assert after["non_positive_jacobian", ""] == 0


def true_pair(pair, tmp_path):
    """Give the heads' pair its true field: from centre and scale of the one to the other's."""
    grid = head()[0].grid
    points = np.moveaxis(grid_points(grid), 0, -1)
    truth = np.array([6.0, 2.0, -4.0]) + 0.93 * (points - np.array([2.0, -3.0, 1.0])) - points
    field = TransformField(displacement_mm=truth.astype(np.float32), affine=grid.affine)
    write_field(tmp_path / "true.nii.gz", field)
    return replace(pair, displacement=tmp_path / "true.nii.gz")


@pytest.fixture
def fake_unigradicon(monkeypatch):
    """Modules with the names that the adapter uses; the transform is a shift, in LPS."""
    registered = []

    class Shift:
        def TransformPoint(self, point):  # noqa: N802  # ITK's name
            x, y, z = point
            return x - 10.0, y + 4.0, z + 2.0

    def register_pair(network, one, other, finetune_steps):
        registered.append((network, one, other))
        return Shift(), None

    contents = {
        "itk": {"imread": lambda path: read_image(Path(path)).voxels.mean()},
        "icon_registration": {},
        "icon_registration.itk_wrapper": {"register_pair": register_pair},
        "unigradicon": {
            "get_unigradicon": lambda: "network",
            "preprocess": lambda image, modality: (image, modality),
        },
    }
    for name, content in contents.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    return registered


def test_unigradicon_gets_moving_then_fixed_and_its_lps_transform_is_turned(fake_unigradicon):
    moving, fixed = head(seed=1, scale=0.9)[0], head()[0]
    field = reference_method("unigradicon").register(moving, fixed)
    expected = np.broadcast_to([10.0, -4.0, 2.0], field.displacement_mm.shape)  # RAS
    np.testing.assert_allclose(field.displacement_mm, expected, atol=1e-4)
    assert field.grid.is_same(fixed.grid)
    (call,) = fake_unigradicon
    means = [image.voxels.mean() for image in (moving, fixed)]
    assert call == ("network", *((pytest.approx(mean), "mri") for mean in means))


def test_unigradicon_without_its_weights_says_where_they_go(fake_unigradicon, monkeypatch):
    def offline():
        raise URLError("no connection")

    monkeypatch.setattr("unigradicon.get_unigradicon", offline)
    with pytest.raises(UserError, match=r"expected its weights, got none .*no connection.*trch"):
        reference_method("unigradicon")


def test_references_that_are_not_installed_say_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="expected the package antspyx, got none; pip install"):
        reference_method("syn")
    with pytest.raises(UserError, match="expected the package unigradicon"):
        reference_method("unigradicon")
    with pytest.raises(UserError, match="reference: expected one of before, moments"):
        reference_method("elastix")


def result_table(tmp_path, gain=0.02, num=12):
    random = np.random.default_rng(0)
    base = random.uniform(0.6, 0.8, num)
    rows = [
        Result(
            task="registration", dataset="D", architecture="transmorph_t", initialization=name,
            fold=0, case=f"pair{n}", label="mean", metric="dice",
            value=float(base[n] + add + 0.002 * random.normal()),
        )
        for name, add in (("scratch", 0.0), ("triad", gain))
        for n in range(num)
    ]  # fmt: skip
    append_results(tmp_path / "r.csv", rows)
    return read_results(tmp_path / "r.csv")


def test_comparison_finds_the_gain_and_its_interval(tmp_path):
    table = result_table(tmp_path)
    found = compare_models(table, "transmorph_t/triad", "transmorph_t/scratch", metric="dice")
    assert found.difference.estimate == pytest.approx(0.02, abs=0.003)
    assert found.difference.low < 0.02 < found.difference.high
    assert found.p_value < 0.01
    assert found.num_units == 12
    with pytest.raises(UserError, match="transmorph_t/voco: expected a model with dice"):
        compare_models(table, "transmorph_t/voco", "transmorph_t/scratch", metric="dice")


def test_pairs_of_one_subject_count_once(tmp_path):
    table = result_table(tmp_path)
    models = ("transmorph_t/triad", "transmorph_t/scratch")
    often = pd.concat([table.assign(case=table["case"] + f"_{n}") for n in range(3)])
    found = compare_models(often.assign(subject=table["case"]), *models, metric="dice")
    once = compare_models(table, *models, metric="dice")
    assert (found.p_value, found.num_units) == (once.p_value, once.num_units)
    assert found.difference.low == pytest.approx(once.difference.low)
    assert compare_models(often, *models, metric="dice").p_value < once.p_value


def test_summary_has_mean_and_spread_over_the_pairs(tmp_path):
    table = result_table(tmp_path)
    row = summarize(table).set_index("initialization").loc["scratch"]
    values = table[table["initialization"] == "scratch"]["value"]
    assert row["mean"] == pytest.approx(values.mean())
    assert row["std"] == pytest.approx(values.std())
    assert row["count"] == 12
    assert isinstance(summarize(table), pd.DataFrame)


def test_checkerboard_takes_both_images_in_turn():
    tiles = checkerboard(np.zeros((16, 8)), np.ones((16, 8)))
    assert tiles[0, 0] == tiles[2, 2] == 0
    assert tiles[2, 0] == tiles[0, 2] == 1
    assert tiles.mean() == 0.5


def test_picture_of_a_registration_is_drawn(tmp_path):
    image = torch.from_numpy(head()[0].voxels)[None, None] / 100
    displacement = torch.zeros(1, 3, *SHAPE)
    figure = draw_registration(image, image, image, displacement, spacing_mm=(5, 5.5, 4.5))
    assert len(figure.axes) == 12
    assert save_picture(figure, tmp_path / "p.png").stat().st_size > 10_000
