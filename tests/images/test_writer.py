"""Writing: what nibabel and SimpleITK read from the file, its codes, and equal bytes."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name

from nnunet_triad.images import Nan, read_volume, write_volume
from tests.images.test_reader import oblique_affine, values


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_written_volume_comes_back(tmp_path, ending, dtype):
    path = write_volume(tmp_path / "new" / f"a{ending}", values(dtype), oblique_affine())
    image = nib.load(path)
    assert image.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(image.dataobj), values(dtype))
    np.testing.assert_allclose(image.affine, oblique_affine(), atol=1e-6)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert [int(image.header[name]) for name in ("qform_code", "sform_code")] == [1, 1]
    np.testing.assert_allclose(image.get_qform(), oblique_affine(), atol=1e-5)


def test_simpleitk_reads_the_same_voxels_at_the_same_points(tmp_path):
    path = write_volume(tmp_path / "a.nii.gz", values(), oblique_affine())
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, values())
    x, y, z = (oblique_affine() @ [4, 6, 3, 1])[:3]
    point = image.TransformIndexToPhysicalPoint((4, 6, 3))
    assert point == pytest.approx((-x, -y, z), abs=1e-4)


def test_equal_volumes_give_equal_bytes(tmp_path):
    one = write_volume(tmp_path / "a.nii.gz", values(), oblique_affine()).read_bytes()
    assert write_volume(tmp_path / "b.nii.gz", values(), oblique_affine()).read_bytes() == one


def test_header_of_another_image_gives_its_codes_but_not_its_type_and_window(tmp_path):
    header = nib.Nifti1Header()
    header.set_xyzt_units("micron")
    header["descrip"], header["cal_max"] = b"scanner", 90
    image = nib.Nifti1Image(values(np.int16), oblique_affine(), header)
    image.set_sform(oblique_affine(), code=4)
    nib.save(image, tmp_path / "image.nii.gz")
    source = read_volume(tmp_path / "image.nii.gz", nan=Nan.KEEP)
    labels = values(np.uint8)
    path = write_volume(tmp_path / "a.nii.gz", labels, source.affine, header=source.header)
    written = nib.load(path).header
    assert written.get_data_dtype() == np.uint8
    assert (int(written["sform_code"]), int(written["qform_code"])) == (4, 0)
    assert (written["descrip"], written["cal_max"]) == (b"scanner", 0)
    assert written.get_xyzt_units()[0] == "micron"
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), labels)


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_volume(tmp_path / "a.nii", values(), np.eye(4))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="int64"):
        write_volume(path, values(np.int64), np.eye(4))
    monkeypatch.setattr("nnunet_triad.files._sync", lambda path: (_ for _ in ()).throw(OSError(28)))
    with pytest.raises(OSError, match="28"):
        write_volume(path, values() * 2, np.eye(4))
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]
