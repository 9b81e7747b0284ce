"""Phantoms as DICOM: what other programs read from them."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 (its own documentation's name)

from nnunet_triad.phantom import SCANNERS, SEQUENCES, Acquisition, icbm_t1
from nnunet_triad.phantom.dicom import DicomOptions, write_dicom_series


@pytest.fixture(scope="module")
def brain() -> Acquisition:
    whole = icbm_t1()
    return replace(
        whole,
        image=np.rint(whole.image[::5, ::6, ::7] * 4).astype(np.float32),
        labels=whole.labels[::5, ::6, ::7],
        affine=whole.affine @ np.diag([5.0, 6.0, 7.0, 1.0]),
    )


def read_all(paths):
    return [pydicom.dcmread(path) for path in paths]


def read_with_simpleitk(folder) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize("coarsest_axis", [0, 1, 2])
def test_write_dicom_series_is_read_by_simpleitk_where_the_affine_says(
    brain, tmp_path, coarsest_axis
):
    scale = np.ones(4)
    scale[coarsest_axis] = 3.0
    volume = replace(brain, affine=brain.affine @ np.diag(scale))
    paths = write_dicom_series(volume, tmp_path)
    assert len(paths) == volume.image.shape[coarsest_axis]

    image = read_with_simpleitk(tmp_path)

    random = np.random.default_rng(0)
    for voxel in random.integers(0, volume.image.shape, size=(20, 3)):
        right, anterior, superior = (volume.affine @ [*voxel, 1])[:3]
        index = image.TransformPhysicalPointToIndex((-right, -anterior, superior))
        assert image[index] == volume.image[tuple(voxel)]


def test_write_dicom_series_gives_the_same_bytes(brain, tmp_path):
    first, second = (write_dicom_series(brain, tmp_path / name) for name in ("a", "b"))
    assert [path.name for path in first] == [path.name for path in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_write_dicom_series_scales_values_that_whole_numbers_would_lose(brain, tmp_path):
    volume = replace(brain, image=brain.image / 1000)
    paths = write_dicom_series(volume, tmp_path)
    slope = float(pydicom.dcmread(paths[0]).RescaleSlope)
    assert 0 < slope < volume.image.max() / 4000

    read = sitk.GetArrayFromImage(read_with_simpleitk(tmp_path))

    np.testing.assert_allclose(
        np.sort(read, axis=None), np.sort(volume.image, axis=None), atol=slope / 2 * 1.001
    )


def test_write_dicom_series_tells_the_true_settings(brain, tmp_path):
    volume = replace(brain, sequence=SEQUENCES["FLAIR"], scanner=SCANNERS[2])
    header = pydicom.dcmread(write_dicom_series(volume, tmp_path)[0])
    assert header.RepetitionTime == volume.sequence.repetition_time_ms
    assert header.EchoTime == volume.sequence.echo_time_ms
    assert header.InversionTime == volume.sequence.inversion_time_ms
    assert header.MagneticFieldStrength == volume.scanner.field_strength_t
    assert header.Manufacturer == volume.scanner.manufacturer
    assert volume.subject_name in str(header.PatientName)


def test_missing_and_duplicated_slices_change_the_places(brain, tmp_path):
    options = DicomOptions(missing_slices=(3,), duplicated_slices=(5,))
    places = [
        float(one.ImagePositionPatient[2])
        for one in read_all(write_dicom_series(brain, tmp_path, options=options))
    ]
    expected = brain.affine[2, 3] + 7.0 * np.array(
        sorted([*(k for k in range(brain.image.shape[2]) if k != 3), 5])
    )
    np.testing.assert_allclose(places, expected)


def test_tilted_gantry_shears_the_stack_by_the_angle(brain, tmp_path):
    first, *_, last = read_all(
        write_dicom_series(brain, tmp_path, options=DicomOptions(tilt_deg=15.0))
    )
    step = np.array(last.ImagePositionPatient, float) - np.array(first.ImagePositionPatient, float)
    orientation = np.array(first.ImageOrientationPatient, float)
    normal = np.cross(orientation[:3], orientation[3:])
    angle = np.degrees(np.arccos(step @ normal / np.linalg.norm(step)))
    assert angle == pytest.approx(15.0, abs=1e-6)


def test_enhanced_series_holds_all_slices_of_all_time_points_in_one_file(brain, tmp_path):
    later = replace(brain, image=brain.image + 1)
    options = DicomOptions(kind="enhanced")
    (path,) = write_dicom_series([brain, later], tmp_path, options=options)
    dataset = pydicom.dcmread(path)
    num_slices = brain.image.shape[2]
    assert dataset.NumberOfFrames == 2 * num_slices
    assert dataset.pixel_array.shape == (2 * num_slices, *brain.image.shape[1::-1])
    np.testing.assert_array_equal(
        dataset.pixel_array[num_slices:], dataset.pixel_array[:num_slices] + 1
    )


def test_localizer_has_three_orientations(brain, tmp_path):
    options = DicomOptions(kind="localizer")
    datasets = read_all(write_dicom_series(brain, tmp_path, options=options))
    assert len({tuple(one.ImageOrientationPatient) for one in datasets}) == 3


def test_series_numbers_tell_series_of_one_study_apart(brain, tmp_path):
    headers = [
        pydicom.dcmread(
            write_dicom_series(brain, tmp_path, options=DicomOptions(series_number=number))[0]
        )
        for number in (1, 2)
    ]
    assert headers[0].StudyInstanceUID == headers[1].StudyInstanceUID
    assert headers[0].SeriesInstanceUID != headers[1].SeriesInstanceUID


def test_dicom_options_refuse_an_unknown_kind():
    with pytest.raises(ValueError, match=r"kind: expected one of classic, .*, got 'tape'"):
        DicomOptions(kind="tape")
