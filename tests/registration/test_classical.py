"""Registration without a model, against known displacements, SimpleITK, and formulas."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from scipy import ndimage
from sklearn.metrics import normalized_mutual_info_score

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.images import Volume
from nnunet_triad.weights.file import WeightsInfo, save_weights
from registration.classical import Options, register_pair
from registration.cli import main
from registration.deform import levels_of, smooth
from registration.losses.mind import mind_descriptors, mind_loss
from registration.similarity import mutual_information
from registration.transform_file import TransformField, apply_field, write_field
from registration.trust import assess
from tests.commands import exit_code
from tests.registration.heads import head, save

SHAPE, SPACING = (32, 28, 36), (4.5, 5.0, 4.0)


@pytest.fixture(scope="module")
def known():
    """A textured head, the same one bent by a known field, its field (mm) and where the head is."""
    source, labels = head(SHAPE, SPACING)
    rough = np.random.default_rng(3).normal(size=SHAPE)
    texture = ndimage.gaussian_filter(rough, 1.5)
    inside = labels.voxels > 0
    voxels = source.voxels + (15 * texture / texture.std() * inside).astype(np.float32)
    moving = Volume(voxels=np.maximum(voxels, 0), affine=source.affine)
    places = np.indices(SHAPE)
    waves = [6 * np.sin(places[(axis + 1) % 3] / 6 + axis) for axis in range(3)]
    truth = TransformField(
        displacement_mm=np.stack(waves, axis=-1).astype(np.float32), affine=source.affine
    )
    fixed = apply_field(moving, truth)
    return moving, fixed, truth, ndimage.binary_erosion(fixed.voxels > 20, iterations=2)


@pytest.fixture(scope="module")
def found(known):
    """Its registration, with the inverse."""
    moving, fixed, *_ = known
    return register_pair(moving, fixed, Options(has_inverse=True))


def error_mm(found, known):
    """Mean distance between the field that was found and the true one."""
    _, fixed, truth, inside = known
    gap = found.field(fixed.grid).displacement_mm - truth.displacement_mm
    return np.linalg.norm(gap, axis=-1)[inside].mean()


def test_known_displacement_is_found(found, known):
    _, _, truth, inside = known
    before = np.linalg.norm(truth.displacement_mm, axis=-1)[inside].mean()
    assert before > 5
    assert error_mm(found, known) < 0.15 * before
    assert found.folding_percent == 0


def test_inverse_comes_back(found):
    assert found.inverse_error_mm < 0.05 * np.mean(SPACING)


def test_field_moves_the_image_as_simpleitk_does(found, known, tmp_path):
    moving, fixed, *_ = known
    paths = [save(tmp_path / f"{n}.nii.gz", v) for n, v in (("m", moving), ("f", fixed))]
    write_field(tmp_path / "field.nii.gz", found.field(fixed.grid))
    field = sitk.ReadImage(str(tmp_path / "field.nii.gz"), sitk.sitkVectorFloat64)
    images = [sitk.ReadImage(str(path), sitk.sitkFloat32) for path in paths]
    theirs = sitk.Resample(*images, sitk.DisplacementFieldTransform(field), sitk.sitkLinear)
    theirs = sitk.GetArrayFromImage(theirs).T
    inside = known[3]
    assert np.corrcoef(theirs[inside], fixed.voxels[inside])[0, 1] > 0.97
    assert np.corrcoef(moving.voxels[inside], fixed.voxels[inside])[0, 1] < 0.7


def test_same_images_stay_where_they_are(known):
    moving, *_ = known
    found = register_pair(moving, moving, Options(alignment="none"))
    assert found.displacement.abs().max() < 0.01


@pytest.mark.parametrize(("similarity", "share"), [("lncc", 0.25), ("mind", 0.4)])
def test_other_contrast_is_registered(similarity, share, known):
    moving, fixed, truth, inside = known
    other = np.where(moving.voxels > 20, 160 - moving.voxels, 0).astype(np.float32)
    inverted = Volume(voxels=other, affine=moving.affine)
    found = register_pair(inverted, fixed, Options(alignment="none", similarity=similarity))
    before = np.linalg.norm(truth.displacement_mm, axis=-1)[inside].mean()
    assert error_mm(found, known) < share * before


def test_thick_slices_are_not_made_thicker_and_the_fixed_grid_is_the_last():
    _, fixed = head((64, 60, 20), (1.0, 1.0, 5.0))
    shapes = [grid.shape for grid, _ in levels_of(fixed.grid)]
    assert shapes == [(8, 8, 10), (16, 15, 20), (32, 30, 20), (64, 60, 20)]


def test_smoothing_is_scipys_inside_and_keeps_a_constant():
    values = torch.rand(1, 2, 30, 28, 32)
    expected = ndimage.gaussian_filter(values.numpy(), (0, 0, 1.5, 1.0, 2.0), truncate=8)
    inner = (..., *[slice(12, -12)] * 3)
    found = smooth(values, (1.5, 1.0, 2.0))
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-4)
    torch.testing.assert_close(
        smooth(torch.ones(1, 1, 5, 6, 7), (2, 2, 2)), torch.ones(1, 1, 5, 6, 7)
    )


def naive_mind(image, radius=1, distance=1):
    """The published formula with loops over the twelve pairs, by scipy, float64."""
    steps = [distance * np.eye(3, dtype=int)[axis] * sign for axis in range(3) for sign in (1, -1)]
    pairs = [(a, b) for n, a in enumerate(steps) for b in steps[n + 1 :] if not (a * b).any()]
    margin = distance + radius
    wide = np.pad(image, margin, mode="edge")

    def moved(step):
        return np.roll(wide, tuple(-step), (0, 1, 2))

    inner = (slice(margin, -margin),) * 3
    gaps = np.stack(
        [
            ndimage.uniform_filter((moved(a) - moved(b)) ** 2, 2 * radius + 1)[inner]
            for a, b in pairs
        ]
    )
    gaps -= gaps.min(axis=0)
    return np.exp(-gaps / gaps.mean(axis=0))


def test_descriptors_equal_the_formula_and_ignore_scale_and_sign():
    image = np.random.default_rng(0).random((9, 12, 10))
    found = mind_descriptors(torch.from_numpy(image)[None, None])[0].numpy()
    assert found.shape == (12, 9, 12, 10)
    np.testing.assert_allclose(
        np.sort(found, axis=0), np.sort(naive_mind(image), axis=0), atol=1e-6
    )
    turned = mind_descriptors(torch.from_numpy(7 - 3 * image)[None, None])[0].numpy()
    np.testing.assert_allclose(turned, found, atol=1e-6)


def test_mind_loss_has_gradients_on_flat_images_and_refuses_other_shapes():
    flat = torch.zeros(1, 1, 8, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(mind_loss(flat, torch.rand(1, 1, 8, 8, 8)), flat)
    assert slope.isfinite().all()
    with pytest.raises(ValueError, match="expected the shape of warped"):
        mind_loss(flat, torch.zeros(1, 1, 8, 8, 9))


def test_mutual_information_is_scikit_learns():
    rng = np.random.default_rng(1)
    one = rng.random((6, 7, 8))
    other = np.clip(one + rng.normal(scale=0.2, size=one.shape), 0, 1)
    mask = rng.random(one.shape) > 0.3
    bins = [np.minimum(v[mask] * 32, 31).astype(int) for v in (one, other)]
    # Studholme's is (Ha + Hb) / Hab; scikit-learn's s = 2 I / (Ha + Hb), so it is 2 / (2 - s).
    score = normalized_mutual_info_score(*bins, average_method="arithmetic")
    assert mutual_information(one, other, mask) == pytest.approx(2 / (2 - score))
    assert mutual_information(one, one, mask) == pytest.approx(2)
    assert mutual_information(one, one, mask & False) == 1


def test_report_sees_a_good_field_and_one_that_makes_things_worse(found, known):
    moving, fixed, *_ = known
    good = assess(found, moving=moving, fixed=fixed)
    assert good.doubts == ()
    information = [values["mutual_information"] for values in good.similarity.values()]
    assert information[2] > information[1] + 0.02
    wrong = replace(found, displacement=-found.displacement, inverse=None)
    doubts = assess(wrong, moving=moving, fixed=fixed).doubts
    assert "use --no-deformation" in doubts[0]
    torn = replace(found, displacement=10 * torch.randn(found.displacement.shape))
    doubts = " ".join(assess(torn, moving=moving, fixed=fixed).doubts)
    assert "folds" in doubts
    assert "its inverse leave" in doubts


def run(capsys, *arguments):
    """Run the command; return its exit code and what it said."""
    code = exit_code(main, "triad-register", *arguments)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out + said.err


def test_command_works_without_a_model(pair_files, tmp_path, capsys):
    code, text = run(
        capsys, "apply", pair_files["moving"], pair_files["fixed"],
        "-o", tmp_path / "w.nii.gz", "--displacement", tmp_path / "f.nii.gz", "--inverse",
        "--labels", pair_files["moving_labels"], "--fixed-labels", pair_files["fixed_labels"],
    )  # fmt: skip
    assert code == 0, text
    report = json.loads((tmp_path / "w.json").read_text())
    assert set(report["similarity"]) == {"before", "aligned", "deformed"}
    # Their ripples have no counterpart in each other: the labels alone tell that the field is bad.
    means = {when: np.mean(list(scores.values())) for when, scores in report["dice"].items()}
    assert means["before"] < means["after"] < means["affine"]
    assert "trust: the labels agree less than after the alignment alone" in text
    assert len(report["doubts"]) == 1
    stages = report["similarity"]
    assert stages["deformed"]["local_correlation"] > stages["aligned"]["local_correlation"]
    assert nib.load(tmp_path / "f_inverse.nii.gz").header.get_intent()[0] == "vector"


def test_alignment_alone_is_written(pair_files, tmp_path, capsys):
    code, text = run(
        capsys, "apply", pair_files["moving"], pair_files["fixed"],
        "--affine", "rigid", "-o", tmp_path / "w.nii.gz", "--no-deformation", "--no-picture",
    )  # fmt: skip
    assert code == 0, text
    assert "trust: nothing of this speaks against the result" in text
    report = json.loads((tmp_path / "w.json").read_text())
    assert set(report["similarity"]) == {"before", "aligned"}
    assert np.linalg.det(np.array(report["affine"])[:3, :3]) == pytest.approx(1)


def test_labels_that_were_drawn_elsewhere_are_doubted(pair_files, tmp_path, capsys):
    # They agree with those of the fixed image before anything is moved.
    code, text = run(
        capsys, "apply", pair_files["moving"], pair_files["fixed"], "--no-deformation",
        "-o", tmp_path / "w.nii.gz", "--no-picture",
        "--labels", pair_files["fixed_labels"], "--fixed-labels", pair_files["fixed_labels"],
    )  # fmt: skip
    assert code == 0, text
    assert "trust: the labels agreed more before the alignment" in text


def test_feature_maps_of_an_encoder_are_compared(pair_files, tmp_path, capsys):
    spec = encoder_spec("unet")
    torch.manual_seed(0)
    info = WeightsInfo(spec=spec, intensity_normalization="zscore")
    save_weights(tmp_path / "unet.safetensors", build_encoder(spec), info)
    code, text = run(
        capsys, "apply", pair_files["moving"], pair_files["fixed"], "--no-picture",
        "-o", tmp_path / "w.nii.gz", "--features", tmp_path / "unet.safetensors",
    )  # fmt: skip
    assert code == 0, text
    stages = json.loads((tmp_path / "w.json").read_text())["similarity"]
    assert stages["deformed"]["local_correlation"] > stages["aligned"]["local_correlation"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--refine", 3), "refine: expected 0 without --model, got 3"),
        (("--similarity", "ssd"), "similarity: expected lncc or mind, got ssd"),
        (("--features", "nowhere.pt"), "nowhere.pt"),
    ],
)
def test_wrong_option_is_one_line(options, message, pair_files, tmp_path, capsys):
    files = (pair_files["moving"], pair_files["fixed"])
    code, text = run(capsys, "apply", *files, "-o", tmp_path / "w.nii.gz", *options)
    assert code == 2
    assert message in text.strip().splitlines()[-1]
    assert not (tmp_path / "w.nii.gz").exists()


def test_model_takes_no_options_of_what_works_without(pair_files, tmp_path, capsys):
    files = (pair_files["moving"], pair_files["fixed"])
    arguments = ("--model", tmp_path, "--no-deformation", "-o", tmp_path / "w.nii.gz")
    code, text = run(capsys, "apply", *files, *arguments)
    assert code == 2
    assert "expected no --similarity, --features or --no-deformation beside it" in text


def test_empty_image_and_images_apart_are_refused():
    fixed, _ = head()
    flat = Volume(voxels=np.full_like(fixed.voxels, 3), affine=fixed.affine)
    for pair, name in (((flat, fixed), "moving"), ((fixed, flat), "fixed")):
        with pytest.raises(UserError, match=f"{name}: expected an image with some contrast, got 3"):
            register_pair(*pair)
    affine = fixed.affine.copy()
    affine[:3, 3] += 900
    apart = Volume(voxels=fixed.voxels, affine=affine)
    with pytest.raises(UserError, match="expected images that overlap"):
        register_pair(apart, fixed, Options(alignment="none"))
