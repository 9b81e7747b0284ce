"""Values of DICOM images: stored * slope + intercept (PS3.3, C.11.1), whatever the file's type."""

import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian

from nnunet_triad.phantom.dicom_stack import make_stack
from pretraining.curation.series import RejectedSeriesError
from tests.pretraining.curation.dicom_cases import (
    add_pixels,
    classic,
    enhanced,
    item,
    mosaic,
    read_series,
    save,
    save_big_endian,
)

SHAPE = (12, 14, 9)
AFFINE = np.diag([3.0, 3.5, 4.0, 1.0])


@pytest.fixture(scope="module")
def image():
    image = np.random.default_rng(0).integers(0, 3000, SHAPE).astype(np.uint16)
    image[0, 0] = 3000
    return image


@pytest.fixture(scope="module")
def stack(image):
    return make_stack(image, AFFINE)


def values(loaded):
    """The volume in the axes of `image`: the slices are axial, seen from the feet."""
    return np.asarray(loaded.volume)[::-1, ::-1]


def per_slice(image, scalings):
    slopes, intercepts = np.array(scalings).T
    return image.astype(np.float64) * slopes + intercepts


SCALINGS = {
    "beyond 16 bits": [(40, 0)] * 9,
    "negative": [(1, -1024)] * 9,
    "Siemens' phase": [(2, -4096)] * 9,
    "fractions": [(0.37, -0.5)] * 9,
    "each frame its own": [(1 + k / 4, -k) for k in range(9)],
    "one frame apart": [(1, 0)] * 8 + [(30.5, 0)],
    "nothing": [(1, 0)] * 9,
}


@pytest.mark.parametrize("name", SCALINGS)
def test_enhanced_frames_are_scaled_without_a_limit_of_the_pixels_type(
    image, stack, tmp_path, name
):
    save(enhanced(stack, "1.2.3", scalings=SCALINGS[name]), tmp_path / "a.dcm")
    np.testing.assert_array_equal(values(read_series(tmp_path)), per_slice(image, SCALINGS[name]))


@pytest.mark.parametrize("name", SCALINGS)
def test_classic_slices_are_scaled_each_by_its_own(image, stack, tmp_path, name):
    for k, (dataset, scaling) in enumerate(
        zip(classic(stack, "1.2.3"), SCALINGS[name], strict=True)
    ):
        dataset.RescaleSlope, dataset.RescaleIntercept = scaling
        save(dataset, tmp_path / f"{k}.dcm")
    np.testing.assert_array_equal(values(read_series(tmp_path)), per_slice(image, SCALINGS[name]))


def test_shared_scaling_holds_for_all_frames(image, stack, tmp_path):
    scaling = item(RescaleSlope=40, RescaleIntercept=-7)
    shared = item(PixelValueTransformationSequence=[scaling])
    save(enhanced(stack, "1.2.3", shared=shared), tmp_path / "a.dcm")
    np.testing.assert_array_equal(values(read_series(tmp_path)), image * 40.0 - 7)


def test_mosaic_is_scaled(image, stack, tmp_path):
    dataset = mosaic(stack, "1.2.3")
    dataset.RescaleSlope, dataset.RescaleIntercept = 40, -7
    save(dataset, tmp_path / "a.dcm")
    np.testing.assert_array_equal(values(read_series(tmp_path)), image * 40.0 - 7)


def test_scaled_values_reach_the_store_unwrapped(image, stack, tmp_path, curate_tree):
    save(enhanced(stack, "1.2.3", scalings=[(40, 0)] * 9), tmp_path / "dicom" / "a.dcm")
    store, _ = curate_tree(tmp_path / "dicom")
    (sidecar,) = (store.read_sidecar(name) for name in store.records["series_id"])
    assert sidecar["dtype"] == "float32"
    assert 65535 < sidecar["maximum"] <= int(image.max()) * 40


def test_unscaled_values_keep_their_type(image, stack, tmp_path):
    save(enhanced(stack, "1.2.3", scalings=[(1, 0)] * 9), tmp_path / "a.dcm")
    assert read_series(tmp_path).volume.dtype == np.uint16


def test_scaling_that_is_no_number_is_refused(stack, tmp_path):
    for k, dataset in enumerate(classic(stack, "1.2.3")):
        dataset.RescaleSlope, dataset.RescaleIntercept = "1e999", 0
        save(dataset, tmp_path / f"{k}.dcm")
    with pytest.raises(RejectedSeriesError, match="slope or intercept that is no finite number"):
        read_series(tmp_path)


def test_lookup_table_replaces_slope_and_intercept(image, stack, tmp_path):
    table = (np.arange(3001) ** 2 // 200).astype(np.uint16)
    lut = item(
        LUTDescriptor=[3001, 0, 16], ModalityLUTType="US", LUTData=table.astype("<u2").tobytes()
    )
    for k, dataset in enumerate(classic(stack, "1.2.3")):
        dataset.ModalityLUTSequence = [lut]
        save(dataset, tmp_path / f"{k}.dcm")
    np.testing.assert_array_equal(values(read_series(tmp_path)), table[image])


@pytest.mark.parametrize("kind", ["classic", "enhanced", "mosaic"])
def test_big_endian_pixels_are_not_swapped(image, stack, tmp_path, kind):
    datasets = {
        "classic": lambda: classic(stack, "1.2.3"),
        "enhanced": lambda: [enhanced(stack, "1.2.3", scalings=[(2, -5)] * 9)],
        "mosaic": lambda: [mosaic(stack, "1.2.3")],
    }[kind]()
    for k, dataset in enumerate(datasets):
        path = save_big_endian(dataset, tmp_path / f"{k}.dcm")
        assert ExplicitVRBigEndian.encode() in path.read_bytes()
    expected = image * 2.0 - 5 if kind == "enhanced" else image
    np.testing.assert_array_equal(values(read_series(tmp_path)), expected)


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_sign_of_12_bits_in_16_is_extended(image, stack, tmp_path, kind):
    """As Hitachi writes it: 12 bits, two's complement, the upper four bits zero."""
    signed = stack.frames.astype(np.int16) % 4096 - 2048
    stored = (signed & 0x0FFF).astype(np.int16)
    if kind == "classic":
        for k, dataset in enumerate(classic(stack, "1.2.3")):
            save(add_pixels(dataset, stored[k], bits_stored=12), tmp_path / f"{k}.dcm")
    else:
        dataset = enhanced(stack, "1.2.3")
        save(add_pixels(dataset, stored, bits_stored=12), tmp_path / "a.dcm")
    expected = signed.transpose(2, 1, 0)
    np.testing.assert_array_equal(np.asarray(read_series(tmp_path).volume), expected)
