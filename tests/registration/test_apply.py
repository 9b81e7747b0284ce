import contextlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.transform import Rotation

from nnunet_triad.errors import UserError
from nnunet_triad.images import Grid, Volume
from registration.affine import align
from registration.apply import Registration, register
from registration.apply_command import read_points, write_points
from registration.loop import start_training, train_pair
from registration.losses.gradient import gradient_loss
from registration.losses.lncc import lncc_loss
from registration.manifest import Pair, write_manifest
from registration.model_file import ModelInfo, build_network
from registration.pairs import PreparedPair, read_image, resample
from registration.refine import refine_field
from registration.settings import RegistrationSettings
from registration.spatial import warp
from registration.training_data import load_data, read_pair
from registration.transform_file import TransformField, apply_field, pull_points
from tests.registration.heads import SHAPE, SPACING, head, moving_network, save, turned

POINTS = np.random.default_rng(0).uniform(-45, 45, size=(200, 3))


def run(model, moving, fixed, **options):
    return register(*model, moving=moving, fixed=fixed, **{"alignment": "none", **options})


def test_warped_image_is_what_the_network_saw(model, pair):
    (moving, _), (fixed, _) = pair
    found = run(model, moving, fixed)
    scaled = Volume(voxels=found.pair.moving[0, 0].numpy(), affine=fixed.affine)
    ours = apply_field(scaled, found.field(fixed.grid)).voxels
    expected = warp(found.pair.moving, found.displacement)[0, 0].numpy()
    inner = (slice(4, -4),) * 3
    assert np.abs(found.displacement.numpy()).max() > 1
    np.testing.assert_allclose(ours[inner], expected[inner], atol=1e-3)


def test_error_of_the_inverse_is_in_mm_on_thick_slices():
    grid = Grid(shape=(6, 6, 6), affine=np.diag([0.5, 1.0, 6.0, 1.0]))
    images = torch.zeros(2, 1, 1, 6, 6, 6)
    pair = PreparedPair(moving=images[0], fixed=images[1], grid=grid, matrix=np.eye(4))
    for axis, step_mm in enumerate((0.5, 1.0, 6.0)):
        moved = torch.zeros(1, 3, 6, 6, 6)
        moved[:, axis] = 1  # a voxel, which nothing takes back
        found = Registration(pair=pair, displacement=moved, inverse=torch.zeros_like(moved))
        assert found.inverse_error_mm == pytest.approx(step_mm)


@pytest.mark.parametrize("alignment", ["none", "moments", "affine"])
def test_turning_the_files_axes_changes_nothing_in_world_coordinates(model, pair, alignment):
    (moving, _), (fixed, _) = pair
    plain = run(model, moving, fixed, alignment=alignment, has_inverse=True)
    other = run(
        model,
        turned(moving, order=(1, 2, 0), flips=(0, 2)),
        turned(fixed, order=(2, 1, 0), flips=(1,)),
        alignment=alignment,
        has_inverse=True,
    )
    fixed_turned = turned(fixed, order=(2, 1, 0), flips=(1,))
    there = pull_points(POINTS, plain.field(fixed.grid))
    assert np.linalg.norm(there - POINTS, axis=1).mean() > 1
    # The affine alignment's iterations let the last bits of the turned affines grow.
    tolerance_mm = 0.05 if alignment == "affine" else 1e-3
    found = pull_points(POINTS, other.field(fixed_turned.grid))
    np.testing.assert_allclose(found, there, rtol=0, atol=tolerance_mm)


def test_left_handed_and_oblique_grids_agree_with_the_plain_one(model, pair):
    """A rotation of the whole world turns the displacements with it."""
    (moving, _), (fixed, _) = pair
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [12, -9, 7], degrees=True).as_matrix()
    matrix[:3, 3] = (10.0, -20.0, 5.0)
    oblique = [
        turned(Volume(voxels=i.voxels, affine=matrix @ i.affine), flips=(0,))
        for i in (moving, fixed)
    ]
    assert all(np.linalg.det(image.affine[:3, :3]) < 0 for image in oblique)  # left-handed files
    plain = run(model, moving, fixed).field(fixed.grid)
    other = run(model, *oblique).field(oblique[1].grid)
    rotated = POINTS @ matrix[:3, :3].T + matrix[:3, 3]
    expected = pull_points(POINTS, plain) @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(pull_points(rotated, other), expected, atol=1e-2)


def test_other_sizes_and_spacings_land_on_the_fixed_grid(model):
    moving, _ = head(shape=(50, 31, 44), spacing=(3.0, 5.0, 3.5))
    fixed, _ = head(shape=(29, 25, 31), spacing=(5.2, 5.4, 4.4))
    found = run(model, moving, fixed)
    field = found.field(fixed.grid)
    warped = apply_field(moving, field)
    assert warped.voxels.shape == fixed.voxels.shape
    assert warped.grid.is_same(fixed.grid)
    assert np.isfinite(warped.voxels).all()


def test_model_for_another_spacing_works_on_its_own(model, settings):
    network, _ = model
    fixed, _ = head(shape=(60, 52, 64), spacing=tuple(length / 2 for length in SPACING))
    moving, _ = head(scale=0.95)
    found = register(
        network,
        ModelInfo(settings=settings, spacing_mm=SPACING),
        moving=moving,
        fixed=fixed,
        alignment="none",
    )
    assert found.pair.grid.shape == SHAPE
    np.testing.assert_allclose(found.pair.grid.spacing_mm, SPACING)
    assert apply_field(moving, found.field(fixed.grid)).voxels.shape == (60, 52, 64)


def test_identity_pair_with_an_untrained_network_stays_where_it_is(settings):
    torch.manual_seed(0)
    fixed, _ = head()
    model = build_network(settings), ModelInfo(settings=settings, spacing_mm=SPACING)
    field = run(model, fixed, fixed, alignment="affine").field(fixed.grid)
    assert np.linalg.norm(field.displacement_mm, axis=-1).mean() < 0.5


def test_identity_pair_with_a_trained_network_stays_where_it_is(tmp_path):
    """Trained on shifted heads, a network leaves an image alone that is where it should be.

    A short training undoes a part of the shift: what counts is that the identity pair's
    displacement is small beside it.
    """
    fixed, shift_mm = head(), 5.0
    files = {}
    for name, x in (("still", 2.0), ("right", 2.0 + shift_mm), ("left", 2.0 - shift_mm)):
        files[name] = save(tmp_path / f"{name}.nii.gz", head(centre_mm=(x, -3.0, 1.0))[0])
    pairs = [Pair(moving=files[name], fixed=files["still"]) for name in files]
    settings = RegistrationSettings(
        network="transmorph_t",
        epochs=40,
        learning_rate=2e-3,
        has_flips=False,
        is_half_resolution=True,
    )
    write_manifest(tmp_path / "pairs.csv", pairs)
    data = load_data(tmp_path / "pairs.csv", settings)
    training = start_training(data, settings, None)
    for _ in range(settings.epochs):
        for pair in data.train:
            train_pair(training, read_pair(pair, settings))
    model = training.network.eval(), ModelInfo(settings=settings, spacing_mm=SPACING)
    inside = fixed[0].voxels > 0.2 * fixed[0].voxels.max()
    mean = {}
    for name, path in files.items():
        field = run(model, read_image(path), fixed[0]).field(fixed[0].grid)
        mean[name] = field.displacement_mm[inside].mean(axis=0)
    assert np.linalg.norm(mean["still"]) < 0.1 * shift_mm
    assert mean["right"][0] > 0.4 * shift_mm
    assert mean["left"][0] < -0.4 * shift_mm


@pytest.mark.parametrize("alignment", ["none", "moments", "affine"])
def test_constant_images_give_no_nan(model, alignment):
    fixed, _ = head()
    flat = Volume(voxels=np.full(SHAPE, 5.0, np.float32), affine=fixed.affine)
    for moving, still in ((flat, fixed), (flat, flat)):
        with (
            pytest.warns(UserWarning, match="SimpleITK gave up")
            if alignment == "affine"
            else contextlib.nullcontext()
        ):
            found = run(model, moving, still, alignment=alignment)
        assert found.displacement.isfinite().all()
        assert np.isfinite(apply_field(moving, found.field(still.grid)).voxels).all()


def test_images_apart_are_refused_without_alignment_and_registered_with_it(model):
    fixed, _ = head()
    affine = fixed.affine.copy()
    affine[:3, 3] += 900
    apart = Volume(voxels=fixed.voxels, affine=affine)
    with pytest.raises(UserError, match="expected images that overlap in world coordinates"):
        run(model, apart, fixed)
    found = run(model, apart, fixed, alignment="moments")
    np.testing.assert_allclose(found.pair.matrix[:3, 3], 900, atol=1e-3)


def test_inverse_comes_back(model, pair):
    (moving, _), (fixed, _) = pair
    found = run(model, moving, fixed, has_inverse=True, alignment="moments")
    there = pull_points(POINTS, found.field(fixed.grid))
    back = pull_points(there, found.inverse_field(moving.grid))
    gap = np.linalg.norm(back - POINTS, axis=1)
    assert np.nanmean(gap) < 0.25 * np.nanmean(np.linalg.norm(there - POINTS, axis=1))
    assert found.inverse_error_mm < 2


def test_inverse_of_a_plain_displacement_comes_from_iteration(pair):
    settings = RegistrationSettings(network="transmorph_t", is_half_resolution=True)
    model = moving_network(settings, size=0.5), ModelInfo(settings=settings, spacing_mm=SPACING)
    (moving, _), (fixed, _) = pair
    assert run(model, moving, fixed, has_inverse=True).inverse_error_mm < 0.3


@pytest.mark.parametrize("alignment", ["rigid", "affine"])
def test_alignment_finds_a_known_map(alignment):
    fixed, _ = head(shape=(50, 48, 47), spacing=(3.0, 3.0, 3.0))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", 8, degrees=True).as_matrix()
    if alignment == "affine":
        matrix[0, :3] *= 1.08
    matrix[:3, 3] = (6.0, -4.0, 8.0)
    # The moving image lies where `matrix` takes the fixed one, on a plain grid.
    moving = Volume(voxels=fixed.voxels, affine=matrix @ fixed.affine)
    moving = Volume(voxels=resample(moving, fixed.grid), affine=fixed.affine)
    found = align(moving, fixed, alignment)

    def gap(other):
        return np.linalg.norm(POINTS @ (other - matrix)[:3, :3].T + (other - matrix)[:3, 3], axis=1)

    assert gap(np.eye(4)).mean() > 8
    assert gap(found).mean() < 1.0


def test_unknown_alignment_is_refused():
    fixed, _ = head()
    with pytest.raises(UserError, match="affine: expected one of none, moments, rigid, affine"):
        align(fixed, fixed, "elastic")


@pytest.mark.parametrize("is_diffeomorphic", [False, True])
def test_refinement_lowers_the_loss(pair, settings, is_diffeomorphic):
    settings = replace(settings, is_diffeomorphic=is_diffeomorphic)
    model = moving_network(settings, size=0.01), ModelInfo(settings=settings, spacing_mm=SPACING)
    (moving, _), (fixed, _) = pair
    losses = []
    for steps in (0, 6):
        found = run(model, moving, fixed, alignment="moments", num_refinements=steps)
        loss = lncc_loss(warp(found.pair.moving, found.displacement), found.pair.fixed)
        losses.append((loss + gradient_loss(found.displacement)).item())
    assert losses[1] < losses[0] - 0.02


def test_refinement_weighs_the_losses_as_the_training_did(pair, settings):
    (moving, _), (fixed, _) = pair
    settings = replace(settings, lncc_weight=0.01, gradient_weight=1.0)
    model = moving_network(settings, size=0.01), ModelInfo(settings=settings, spacing_mm=SPACING)
    losses = []
    for steps in (0, 6):
        found = run(model, moving, fixed, alignment="moments", num_refinements=steps)
        loss = 0.01 * lncc_loss(warp(found.pair.moving, found.displacement), found.pair.fixed)
        losses.append((loss + gradient_loss(found.displacement)).item())
    assert losses[1] <= losses[0]


def test_model_that_was_trained_on_labels_alone_is_not_refined(pair, settings):
    (moving, _), (fixed, _) = pair
    settings = replace(settings, lncc_weight=0.0, dice_weight=1.0)
    model = moving_network(settings, size=0.01), ModelInfo(settings=settings, spacing_mm=SPACING)
    with pytest.raises(UserError, match=r"refine: expected 0, as .*labels alone.* got 6"):
        run(model, moving, fixed, alignment="moments", num_refinements=6)


def test_refinement_of_no_steps_gives_the_field_itself(model, settings):
    network, _ = model
    field = torch.randn(1, 3, 8, 9, 10)
    images = torch.rand(2, 1, 1, 16, 18, 20)
    same = refine_field(
        network, field, moving=images[0], fixed=images[1], settings=settings, num_steps=0
    )
    torch.testing.assert_close(same, field)


def ants_table(path):
    """Write points as antsApplyTransformsToPoints takes them: x,y,z,t, and LPS."""
    path.write_text("x,y,z,t,label\n-5,-2,4,0,1\n")
    return path


def test_points_of_ants_are_asked_about(tmp_path):
    with pytest.raises(UserError, match=r"whose points are LPS; say --points-world lps, or ras"):
        read_points(ants_table(tmp_path / "a.csv"))


def test_points_in_lps_come_back_in_lps(tmp_path):
    points = read_points(ants_table(tmp_path / "a.csv"), world="lps")
    assert points[["x", "y", "z"]].to_numpy().tolist() == [[5, 2, 4]]
    shape, affine = (9, 9, 9), np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -16
    shift = np.broadcast_to([3.0, 2.0, -1.0], (*shape, 3))  # RAS
    field = TransformField(displacement_mm=shift, affine=affine)
    write_points(tmp_path / "b.csv", points, field, world="lps")
    found = pd.read_csv(tmp_path / "b.csv")
    np.testing.assert_allclose(found[["x", "y", "z"]], [[-8, -4, 3]], atol=1e-6)
    assert found["t"].tolist() == [0]
