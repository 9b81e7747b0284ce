import numpy as np
import pytest
from scipy import stats

from nnunet_triad.phantom import SCANNERS, SEQUENCES, Subject, acquire, icbm_t1
from nnunet_triad.phantom.acquisition import add_rician_noise, bias_field
from nnunet_triad.phantom.sequences import Scanner
from nnunet_triad.phantom.signal import tissue_signal
from nnunet_triad.phantom.template import load_icbm
from nnunet_triad.phantom.tissues import TISSUES

IDEAL = Scanner(
    manufacturer="none",
    model="ideal",
    field_strength_t=1.5,
    software_version="0",
    serial_number="0",
    noise_percent=0.0,
    bias_percent=0.0,
    gain=1000.0,
)


def test_same_arguments_give_the_same_bytes(brain: Subject) -> None:
    a, b = (acquire(brain, SEQUENCES["T2w"], SCANNERS[0], seed=3) for _ in range(2))
    assert a.image.tobytes() == b.image.tobytes()


def test_seed_changes_noise_and_not_labels(brain: Subject) -> None:
    a, b = (acquire(brain, SEQUENCES["T2w"], SCANNERS[0], seed=s) for s in (3, 4))
    assert (a.image != b.image).mean() > 0.9
    np.testing.assert_array_equal(a.labels, b.labels)


def test_pure_voxels_of_an_ideal_scanner_have_the_tissues_signal(brain: Subject) -> None:
    for name in ("T1w", "T2w", "FLAIR"):
        volume = acquire(brain, SEQUENCES[name], IDEAL)
        for tissue in ("white_matter", "grey_matter"):
            expected = 1000 * tissue_signal(TISSUES[tissue], SEQUENCES[name], field_strength_t=1.5)
            pure = volume.image[brain.fractions[tissue] > 0.97]
            assert len(pure) > 10
            np.testing.assert_allclose(pure, expected, rtol=0.06)


def test_csf_is_dark_on_t1_and_flair_and_bright_on_t2(template_brain: Subject) -> None:
    csf = template_brain.fractions["csf"] > 0.9
    white = template_brain.fractions["white_matter"] > 0.9
    ratio = {}
    for name in ("T1w", "T2w", "FLAIR"):
        image = acquire(template_brain, SEQUENCES[name], SCANNERS[1]).image
        ratio[name] = image[csf].mean() / image[white].mean()
    assert ratio["T1w"] < 0.5
    assert ratio["FLAIR"] < 0.5
    assert ratio["T2w"] > 2


def test_partial_volume_averages_signal_over_thick_slices(brain: Subject) -> None:
    thin = acquire(brain, SEQUENCES["T1w"], IDEAL)
    thick = acquire(brain, SEQUENCES["T1w"], IDEAL, spacing_mm=(4, 4, 8))
    x, y, z = thick.image.shape
    assert (x, y) == thin.image.shape[:2]
    assert thick.spacing_mm == (4, 4, 8)
    num_whole = thin.image.shape[2] // 2
    pairs = thin.image[..., : 2 * num_whole].reshape(x, y, num_whole, 2).mean(axis=-1)
    np.testing.assert_allclose(thick.image[..., :num_whole], pairs, rtol=1e-4, atol=1e-3)
    assert thick.labels.shape == (x, y, z)


def test_slices_along_another_axis_keep_world_coordinates(brain: Subject) -> None:
    volume = acquire(brain, SEQUENCES["T1w"], IDEAL, spacing_mm=(12, 4, 4))

    def center_mm(image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        grid = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"))
        voxel = (grid * image).sum(axis=(1, 2, 3)) / image.sum()
        return affine[:3, :3] @ voxel + affine[:3, 3]

    thin = acquire(brain, SEQUENCES["T1w"], IDEAL)
    np.testing.assert_allclose(
        center_mm(volume.image, volume.affine), center_mm(thin.image, thin.affine), atol=0.7
    )


def test_lesion_rim_is_bright_after_contrast_agent_only(brain: Subject) -> None:
    rim = brain.fractions["enhancing_rim"] > 0.8
    white = brain.fractions["white_matter"] > 0.99
    ratio = {}
    for name in ("T1w", "T1ce"):
        image = acquire(brain, SEQUENCES[name], IDEAL).image
        ratio[name] = image[rim].mean() / image[white].mean()
    assert ratio["T1w"] < 0.9
    assert ratio["T1ce"] > 1.2


def test_noise_in_air_has_rayleigh_statistics() -> None:
    noise = add_rician_noise(np.zeros((40, 50, 30), np.float32), 5.0, np.random.default_rng(0))
    assert noise.mean() == pytest.approx(5 * np.sqrt(np.pi / 2), rel=0.01)
    assert noise.std() == pytest.approx(5 * np.sqrt(2 - np.pi / 2), rel=0.02)


def test_noise_on_signal_has_rician_statistics() -> None:
    signal, sigma = 12.0, 5.0
    image = np.full((40, 50, 30), signal, np.float32)
    noisy = add_rician_noise(image, sigma, np.random.default_rng(1))
    rice = stats.rice(signal / sigma, scale=sigma)
    assert stats.kstest(noisy.ravel()[:5000], rice.cdf).pvalue > 0.01
    assert noisy.mean() == pytest.approx(rice.mean(), rel=0.01)


def test_no_noise_leaves_the_image() -> None:
    image = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    np.testing.assert_array_equal(add_rician_noise(image, 0.0, np.random.default_rng(0)), image)


def test_noise_of_a_scanner_is_its_percentage_of_the_signal(template_brain: Subject) -> None:
    # CSF is the brightest tissue on T2; in air the Rayleigh mean is sigma times sqrt(pi / 2).
    scanner = SCANNERS[0]
    volume = acquire(template_brain, SEQUENCES["T2w"], scanner)
    air = np.sum(list(template_brain.fractions.values()), axis=0) == 0
    sigma = volume.image[air].mean() / np.sqrt(np.pi / 2)
    csf = scanner.gain * tissue_signal(TISSUES["csf"], SEQUENCES["T2w"], field_strength_t=1.5)
    assert sigma / csf == pytest.approx(scanner.noise_percent / 100, rel=0.05)


def test_bias_field_spans_its_range_smoothly() -> None:
    field = bias_field(np.random.default_rng(2), (60, 80, 40), range_percent=40)
    assert field.min() == pytest.approx(0.8, abs=1e-4)
    assert field.max() == pytest.approx(1.2, abs=1e-4)
    assert max(np.abs(np.diff(field, axis=a)).max() for a in range(3)) < 0.08


def test_bias_field_of_nothing_is_one() -> None:
    assert (bias_field(np.random.default_rng(0), (3, 4, 5), range_percent=0) == 1).all()


def test_icbm_volume_is_unchanged() -> None:
    volume = icbm_t1()
    image, affine = load_icbm("t1")
    np.testing.assert_array_equal(volume.image, image)
    np.testing.assert_array_equal(volume.affine, affine)
    assert volume.labels.shape == (197, 233, 189)
    assert set(np.unique(volume.labels)) == {0, 1, 2, 3}


def test_spacing_of_zero_is_refused(brain: Subject) -> None:
    with pytest.raises(ValueError, match="spacing_mm: expected more than 0"):
        acquire(brain, SEQUENCES["T1w"], IDEAL, spacing_mm=(4, 4, 0))
