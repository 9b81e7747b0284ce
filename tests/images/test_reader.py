"""Reading: as nibabel and SimpleITK read, each policy for NaN, and refusals of one line."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name

from nnunet_triad.errors import UserError
from nnunet_triad.images import (
    Nan,
    UnreadableImageError,
    image_files,
    open_image,
    read_volume,
    write_volume,
)

SHAPE = (5, 7, 4)


def values(dtype=np.float32, shape=SHAPE):
    return np.random.default_rng(0).uniform(1, 200, shape).astype(dtype)


def oblique_affine():
    """Spacing 0.8, 1.5, 3 mm, axes permuted and turned by 20 degrees, left-handed."""
    cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, 3.0], [-0.8, 0, 0], [0, -1.5, 0]])
    affine[:3, 3] = (10.0, -20.0, 33.0)
    return affine


def save(path, array, affine=None, **header):
    """Write by nibabel, with both forms of the affine."""
    affine = oblique_affine() if affine is None else affine
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".NII", ".NII.GZ", ".img", ".mgz"])
def test_voxels_and_affine_are_nibabels(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    kind = nib.MGHImage if ending == ".mgz" else nib.Nifti1Image
    nib.save(kind(values(), oblique_affine().astype(np.float32)), path)
    found, theirs = read_volume(path, nan=Nan.REFUSE), nib.load(path)
    np.testing.assert_array_equal(found.voxels, theirs.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(found.affine, theirs.affine)
    assert (found.name, found.num_filled) == (str(path), 0)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".mhd", ".MHA"])
def test_each_voxel_is_where_simpleitk_sees_it(tmp_path, ending):
    nifti, path = save(tmp_path / "a.nii", values()), tmp_path / f"b{ending}"
    image = sitk.ReadImage(str(nifti))
    if ending == ".MHA":  # ITK writes by lower-case endings only
        sitk.WriteImage(image, str(tmp_path / "b.mha"))
        (tmp_path / "b.mha").rename(path)
    else:
        sitk.WriteImage(image, str(path))
    found = read_volume(path, nan=Nan.REFUSE)
    np.testing.assert_allclose(found.grid.spacing_mm, image.GetSpacing(), rtol=1e-6)
    lps = np.diag([-1.0, -1.0, 1.0])
    direction = lps @ (found.affine[:3, :3] / found.grid.spacing_mm)
    np.testing.assert_allclose(direction.ravel(), image.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(lps @ found.affine[:3, 3], image.GetOrigin(), atol=1e-4)
    for index in ((0, 0, 0), (4, 6, 3), (1, 5, 2)):
        x, y, z = (found.affine @ [*index, 1])[:3]
        point = image.TransformIndexToPhysicalPoint(index)
        assert point == pytest.approx((-x, -y, z), abs=1e-4)
        assert image[index] == found.voxels[index]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float64])
def test_any_type_becomes_float32_or_stays(tmp_path, dtype):
    path = save(tmp_path / "a.nii.gz", values(dtype))
    assert read_volume(path, nan=Nan.REFUSE).voxels.dtype == np.float32
    own = read_volume(path, nan=Nan.REFUSE, dtype=None).voxels
    assert own.dtype == dtype
    np.testing.assert_array_equal(own, values(dtype))


def test_slope_and_intercept_are_applied_unless_the_stored_values_are_wanted(tmp_path):
    path = save(tmp_path / "a.nii.gz", values(np.int16))
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[112:120] = np.array([0.5, -7.0], np.float32).tobytes()  # scl_slope, scl_inter
    path.write_bytes(gzip.compress(content))
    found = read_volume(path, nan=Nan.REFUSE)
    np.testing.assert_array_equal(found.voxels, values(np.int16) * 0.5 - 7)
    np.testing.assert_array_equal(found.voxels, nib.load(path).get_fdata(dtype=np.float32))
    with open_image(path) as file:
        np.testing.assert_array_equal(file.read(is_scaled=False), values(np.int16))


def test_big_endian_file_is_read_in_the_machines_order(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(values(np.int16), oblique_affine(), header)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\x00\x00\x01\x5c"
    found = read_volume(tmp_path / "a.nii", nan=Nan.REFUSE, dtype=None)
    assert found.voxels.dtype.isnative
    np.testing.assert_array_equal(found.voxels, values(np.int16))


def test_axes_of_one_behind_the_third_do_not_count(tmp_path):
    path = save(tmp_path / "a.nii.gz", values(shape=(*SHAPE, 1, 1)))
    np.testing.assert_array_equal(read_volume(path, nan=Nan.REFUSE).voxels, values())


def test_time_point_is_read_alone(tmp_path):
    for name in ("a.nii", "a.nii.gz"):
        path = save(tmp_path / name, values(shape=(*SHAPE, 3)))
        with open_image(path) as file:
            assert file.shape == (*SHAPE, 3)
            np.testing.assert_array_equal(
                file.read(time_point=1), values(shape=(*SHAPE, 3))[..., 1]
            )


def spoilt():
    """Return values of which two are no numbers, and their places."""
    array = values()
    array[1, 2, 3], array[4, 6, 0] = np.nan, -np.inf
    return array, ~np.isfinite(array)


@pytest.mark.parametrize(("nan", "filled"), [(Nan.ZERO, 0.0), (Nan.LOWEST, None)])
def test_voxels_that_are_no_number_get_a_value(tmp_path, nan, filled):
    array, places = spoilt()
    found = read_volume(save(tmp_path / "a.nii.gz", array), nan=nan)
    assert found.num_filled == 2
    np.testing.assert_array_equal(found.voxels[~places], array[~places])
    assert set(found.voxels[places]) == {array[~places].min() if filled is None else filled}


def test_voxels_that_are_no_number_stay_where_the_caller_wants_them(tmp_path):
    array, _ = spoilt()
    found = read_volume(save(tmp_path / "a.nii.gz", array), nan=Nan.KEEP)
    np.testing.assert_array_equal(found.voxels, array)
    assert found.num_filled == 0


def test_voxels_that_are_no_number_are_refused(tmp_path):
    array, _ = spoilt()
    message = "a.nii.gz: expected finite intensities, got NaN or infinity in 2 of 140 voxels"
    with pytest.raises(UserError, match=message):
        read_volume(save(tmp_path / "a.nii.gz", array), nan=Nan.REFUSE)


@pytest.mark.parametrize("nan", [Nan.REFUSE, Nan.LOWEST, Nan.ZERO])
def test_image_of_nothing_but_nan_is_refused(tmp_path, nan):
    path = save(tmp_path / "a.nii.gz", np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(UserError, match="expected finite intensities, got NaN or infinity in 140"):
        read_volume(path, nan=nan)


def test_infinity_that_only_float32_has_is_filled(tmp_path):
    array = values(np.float64)
    array[0, 0, 0] = 1e300
    assert read_volume(save(tmp_path / "a.nii.gz", array), nan=Nan.LOWEST).num_filled == 1


RGB = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
REFUSED = {
    "RGB": (RGB, "values of type .*, not one number a voxel"),
    "complex": (np.ones(SHAPE, np.complex64), "values of type complex64, not one number a voxel"),
    "4D": (np.ones((*SHAPE, 3), np.float32), "3D volume, got 4D of 5 x 7 x 4 x 3 voxels; split"),
    "5D": (np.ones((*SHAPE, 1, 3), np.float32), "3D volume, got 5D of 5 x 7 x 4 x 1 x 3 voxels"),
    "2D": (np.ones((5, 7), np.float32), "at least 2 voxels along each axis, got 5 x 7;"),
    "slice": (np.ones((5, 7, 1), np.float32), "at least 2 voxels along each axis, got 5 x 7 x 1"),
    "no voxels": (np.ones((5, 7, 0), np.float32), "at least 2 voxels along each axis"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_volume_is_refused(tmp_path, kind):
    array, message = REFUSED[kind]
    with pytest.raises(UserError, match=message) as caught:
        read_volume(save(tmp_path / "a.nii.gz", array), nan=Nan.KEEP)
    assert "\n" not in str(caught.value)


def test_metaimage_of_colours_is_refused(tmp_path):
    image = sitk.Image([4, 5, 6], sitk.sitkVectorUInt8, 3)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(UserError, match="several numbers a voxel"):
        read_volume(tmp_path / "a.mha", nan=Nan.KEEP)


def test_singular_affine_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", values())
    content = bytearray(path.read_bytes())
    content[252:254] = content[254:256] = np.int16(1).tobytes()
    content[280:328] = np.diag([1.0, 0, 1, 1])[:3].astype(np.float32).tobytes()  # sform
    path.write_bytes(content)
    with pytest.raises(UserError, match="expected an affine with three directions"):
        read_volume(path, nan=Nan.KEEP)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.mgz"])
def test_missing_and_damaged_files_are_refused_in_one_line(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(UserError, match="got no file"):
        read_volume(path, nan=Nan.KEEP)
    for content in (b"", b"hello", b"\x1f\x8b no image", bytes(400)):
        path.write_bytes(content)
        with pytest.raises(UnreadableImageError, match=f"{name}: expected a whole image") as caught:
            read_volume(path, nan=Nan.KEEP)
        assert "\n" not in str(caught.value)
        assert name not in caught.value.reason


@pytest.mark.parametrize("kept", [360, -100, -9, -1])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated_file_is_refused(tmp_path, name, kept):
    path = save(tmp_path / name, values())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UnreadableImageError, match=r"truncated or damaged|not a readable"):
        read_volume(path, nan=Nan.KEEP)


def test_wrong_checksum_is_found(tmp_path):
    path = save(tmp_path / "a.nii.gz", values(shape=(40, 30, 20)))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the CRC-32 at the end of the stream
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match="truncated or damaged"):
        read_volume(path, nan=Nan.KEEP)


def test_what_was_read_does_not_follow_the_file(tmp_path):
    path = save(tmp_path / "a.nii", values())
    found = read_volume(path, nan=Nan.ZERO)
    save(path, values() * 2)
    np.testing.assert_array_equal(found.voxels, values())


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1000.0), ("meter", 1e-3), ("mm", 1.0)])
def test_grid_is_in_mm_whatever_the_files_unit_is(tmp_path, unit, factor):
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    affine_mm = np.array([[0, -3, 0, 7], [2, 0, 0, -9], [0, 0, 4, 1], [0, 0, 0, 1.0]])
    affine = affine_mm.copy()
    affine[:3] *= factor
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, tmp_path / "a.nii.gz")

    volume = read_volume(tmp_path / "a.nii.gz", nan=Nan.REFUSE)

    np.testing.assert_allclose(volume.affine, affine_mm, rtol=1e-6)
    write_volume(tmp_path / "b.nii.gz", volume.voxels, volume.affine, header=volume.header)
    written = nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_allclose(written.affine, affine, rtol=1e-6)  # beside its image, as that one
    assert written.header.get_xyzt_units() == (unit, "sec")


@pytest.mark.parametrize("name", ["a.nrrd", "a.NRRD", "a.nhdr", "a.mha", "a.MHA", "a.mhd"])
def test_formats_of_itk_are_read_as_itk_places_them(tmp_path, name):
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(5, 4, 3))
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetOrigin((7.0, -9.0, 1.0))
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    lower = tmp_path / name.lower()
    sitk.WriteImage(image, str(lower))
    path = lower.rename(tmp_path / name)

    volume = read_volume(path, nan=Nan.REFUSE)

    for index in ((0, 0, 0), (2, 1, 3)):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], (-x, -y, z))
        assert volume.voxels[index] == image[index]


def test_time_series_of_metaimage_keeps_its_grid(tmp_path):
    image = sitk.Image([3, 4, 5, 2], sitk.sitkInt16)
    image.SetSpacing((2.0, 3.0, 4.0, 1.0))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with open_image(tmp_path / "a.mha") as file:
        assert file.shape == (3, 4, 5, 2)
        np.testing.assert_allclose(file.affine, np.diag([-2, -3, 4, 1]))


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nhdr", "a.nrrd"])
def test_files_of_an_image_are_those_that_simpleitk_writes(tmp_path, name, is_compressed):
    sitk.WriteImage(sitk.GetImageFromArray(values()), tmp_path / name, is_compressed)
    assert sorted(image_files(tmp_path / name)) == sorted(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("named", "places"),
    [
        ("below/b c.bin", ["below/b c.bin"]),
        ("LIST\n1.bin\nbelow/0.bin", ["1.bin", "below/0.bin"]),
        ("b%03d.bin 7 8 1", ["b007.bin", "b008.bin"]),
    ],
)
@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr", "a.mha", "a.nrrd"])
def test_files_of_an_image_are_those_that_its_header_names(tmp_path, name, named, places):
    written = np.arange(48, dtype=np.int16).reshape(2, 4, 6)
    header = tmp_path / ("a.mhd" if "m" in name else "a.nhdr")
    sitk.WriteImage(sitk.GetImageFromArray(written), header)
    text = header.read_text(encoding="utf-8").replace("a.raw", named)
    header.rename(tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "below").mkdir()
    for place, part in zip(places, np.split(written, len(places)), strict=True):
        (tmp_path / place).write_bytes(part.tobytes())

    found = image_files(tmp_path / name)

    voxels = read_volume(tmp_path / name, nan=Nan.KEEP).voxels
    np.testing.assert_array_equal(voxels.T, written)  # so SimpleITK reads the same files
    assert found == [tmp_path / name, *(tmp_path / place for place in places)]


@pytest.mark.parametrize("named", ["", "/", "gone.raw", "x" * 300, "x\0y", "%", "../..%/\0"])
def test_spoilt_header_names_no_files(tmp_path, named):
    header = tmp_path / "a.mhd"
    header.write_text(f"NDims = 3\nElementDataFile = {named}", encoding="utf-8")
    assert image_files(header) == [header]


@pytest.mark.parametrize("name", ["a.nii", "a.b.nii.gz", "a.img", "a.b.hdr", "a.img.gz", "a.HDR"])
def test_files_of_an_image_are_those_that_nibabel_writes(tmp_path, name):
    nib.save(nib.Nifti1Image(values(), oblique_affine()), tmp_path / name)
    assert sorted(image_files(tmp_path / name)) == sorted(tmp_path.iterdir())
