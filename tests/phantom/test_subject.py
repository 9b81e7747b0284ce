import numpy as np
import pytest
from scipy import ndimage

from nnunet_triad.phantom import ANATOMIES, LESIONS, Subject, make_subject
from nnunet_triad.phantom.template import load_template
from nnunet_triad.phantom.writers.registration import displacement_between


def warped_by(displacement_mm: np.ndarray, volume: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Sample a volume at each voxel plus its displacement, by another library."""
    grid = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"))
    return ndimage.map_coordinates(
        volume, grid + displacement_mm / spacing_mm, order=1, mode="nearest"
    )


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_same_arguments_give_the_same_bytes(anatomy: str) -> None:
    a, b = (make_subject(5, 2, anatomy=anatomy, spacing_mm=5.0) for _ in range(2))
    assert a.displacement_mm.tobytes() == b.displacement_mm.tobytes()
    assert a.labels.tobytes() == b.labels.tobytes()
    assert list(a.fractions) == list(b.fractions)
    for tissue in a.fractions:
        assert a.fractions[tissue].tobytes() == b.fractions[tissue].tobytes()


def test_other_numbers_and_seeds_give_other_subjects(brain: Subject) -> None:
    for seed, number in ((1, 2), (2, 1)):
        other = make_subject(seed, number, spacing_mm=4.0)
        assert np.abs(other.displacement_mm - brain.displacement_mm).mean() > 1


def test_displacement_takes_the_template_to_the_subject() -> None:
    subject = make_subject(1, 4, spacing_mm=4.0, lesion=None)
    template = load_template("brain", 4.0)
    for tissue, fraction in zip(template.tissues, template.fractions, strict=True):
        expected = warped_by(subject.displacement_mm, fraction, 4.0)
        np.testing.assert_allclose(subject.fractions[tissue], expected, atol=2e-3)


def test_displacement_between_subjects_aligns_their_tissues() -> None:
    moving, fixed = (make_subject(1, n, spacing_mm=4.0, lesion=None) for n in (5, 6))
    displacement = displacement_between(moving, fixed)

    def dice(a: np.ndarray, b: np.ndarray) -> float:
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    white = [s.fractions["white_matter"] for s in (moving, fixed)]
    before = dice(white[0] > 0.5, white[1] > 0.5)
    after = dice(warped_by(displacement, white[0], 4.0) > 0.5, white[1] > 0.5)
    assert before < 0.7
    assert after > 0.85  # what two interpolations leave


def test_lesion_does_not_change_the_anatomy() -> None:
    with_lesion, without = (
        make_subject(1, 3, spacing_mm=4.0, lesion=lesion) for lesion in ("tumour", None)
    )
    np.testing.assert_array_equal(with_lesion.displacement_mm, without.displacement_mm)
    far = with_lesion.labels < 4
    np.testing.assert_allclose(
        with_lesion.fractions["bone"][far], without.fractions["bone"][far], atol=1e-6
    )


@pytest.mark.parametrize(("anatomy", "kind"), [(a, k) for a in LESIONS for k in LESIONS[a]])
def test_lesions_are_there_and_only_tissue_gives_way(anatomy: str, kind: str) -> None:
    sick, healthy = (
        make_subject(7, 1, anatomy=anatomy, spacing_mm=3.0, lesion=lesion)
        for lesion in (kind, None)
    )
    extra = set(sick.fractions) - set(healthy.fractions)
    volume_ml = sum(sick.fractions[t].sum() for t in extra) * 3.0**3 / 1000
    assert 0.2 < volume_ml < 120
    total = [np.sum(list(s.fractions.values()), axis=0) for s in (sick, healthy)]
    np.testing.assert_allclose(total[0], total[1], atol=1e-5)
    assert sick.lesion == kind
    assert (sick.labels != healthy.labels).any()


def test_tumour_has_a_core_within_a_rim_within_oedema() -> None:
    subject = make_subject(1, 1, spacing_mm=3.0)
    values = subject.label_names
    parts = {
        name: subject.labels == values[name]
        for name in ("necrotic_core", "enhancing_rim", "oedema")
    }
    center = ndimage.center_of_mass(parts["necrotic_core"])
    grid = np.stack(np.meshgrid(*map(np.arange, subject.labels.shape), indexing="ij"))
    distance = np.linalg.norm(grid - np.array(center)[:, None, None, None], axis=0)
    core, rim, oedema = (distance[part].mean() for part in parts.values())
    assert core < rim < oedema
    # Nothing but rim (and, through partial volume, oedema) touches the core.
    around = ndimage.binary_dilation(parts["necrotic_core"]) & ~parts["necrotic_core"]
    assert parts["enhancing_rim"][around].mean() > 0.8


def test_template_subject_is_the_template(template_brain: Subject) -> None:
    template = load_template("brain", 4.0)
    assert not template_brain.displacement_mm.any()
    assert template_brain.lesion is None
    for tissue, fraction in zip(template.tissues, template.fractions, strict=True):
        np.testing.assert_array_equal(template_brain.fractions[tissue], fraction)


def test_wide_ventricles_hold_more_fluid_and_little_else_changes() -> None:
    normal, wide = (
        make_subject(1, 8, spacing_mm=3.0, lesion=None, ventricle_growth=growth)
        for growth in (0.0, 0.4)
    )
    # The box of the lateral ventricles in the template's space, mm.
    grid = np.stack(np.meshgrid(*map(np.arange, normal.labels.shape), indexing="ij"))
    in_template = grid * 3.0 + normal.affine[:3, 3, None, None, None] + normal.displacement_mm
    low, high = np.array([(-32, -50, -5), (32, 38, 36)])[:, :, None, None, None]
    box = ((in_template > low) & (in_template < high)).all(axis=0)
    fluid = [(s.fractions["csf"] * box).sum() for s in (normal, wide)]
    assert fluid[1] > 1.15 * fluid[0]
    for tissue in ("grey_matter", "white_matter", "bone"):
        total = [s.fractions[tissue].sum() for s in (normal, wide)]
        assert total[1] == pytest.approx(total[0], rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": -1}, "number: expected 0 or more, got -1"),
        ({"anatomy": "knee"}, "anatomy: expected one of brain, pelvis, breast, got 'knee'"),
        ({"lesion": "cyst"}, "lesion: expected None or one of tumour, infarct, plaques for brain"),
        ({"ventricle_growth": 2.0}, r"ventricle_growth: expected 0 to 0\.5, got 2\.0"),
        (
            {"ventricle_growth": 0.2, "anatomy": "breast"},
            r"ventricle_growth: expected 0 for breast, got 0\.2",
        ),
    ],
)
def test_wrong_arguments_are_refused(options: dict, message: str) -> None:
    arguments = {"number": 1, "spacing_mm": 8.0, **options}
    with pytest.raises(ValueError, match=message):
        make_subject(1, **arguments)
