"""Where a DICOM series lies: each kind against another program, and against the same image."""

import re
import subprocess
from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
import pytest
from pydicom.uid import RawDataStorage

from nnunet_triad.images import to_ras
from nnunet_triad.phantom.dicom_stack import make_stack
from pretraining.curation import dicom_convert
from pretraining.curation.dicom_convert import check_geometry
from pretraining.curation.dicom_mosaic import mosaic_layout
from pretraining.curation.dicom_planes import Plane
from pretraining.curation.series import RejectedSeriesError
from tests.pretraining.curation.dicom_cases import (
    add_private,
    classic,
    enhanced,
    header,
    mosaic,
    read_series,
    save,
)

SHAPE = (12, 14, 18)  # of an oblique grid, RAS, 3 x 3.5 x 4 mm: no symmetry
_A, _B = np.radians([15, 10])
_ROTATION = np.array(
    [[np.cos(_A), -np.sin(_A), 0], [np.sin(_A), np.cos(_A), 0], [0, 0, 1]]
) @ np.array([[1, 0, 0], [0, np.cos(_B), -np.sin(_B)], [0, np.sin(_B), np.cos(_B)]])
AFFINE = np.eye(4)
AFFINE[:3] = np.column_stack([_ROTATION * [3, 3.5, 4], [-41, -13, 22]])
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(300, 4000, SHAPE).astype(np.uint16)


def stack_of(image, plane, *, is_reversed=False):
    """The image as slices of a plane; reversed: from the other end, as sagittal mosaics."""
    stack = make_stack(image, AFFINE, slice_axis=PLANES[plane])
    return stack.keep(range(len(stack.frames))[::-1]) if is_reversed else stack


def write(stack, kind, folder, series="1.2.3"):
    if kind == "classic":
        for number, dataset in enumerate(classic(stack, series)):
            save(dataset, folder / f"{number}.dcm")
    else:
        save({"enhanced": enhanced, "mosaic": mosaic}[kind](stack, series), folder / "a.dcm")
    return folder


def assert_is(loaded, image, affine=AFFINE):
    """The volume and its affine are the image and its, voxel by voxel, axes apart."""
    volume, found = to_ras(np.asarray(loaded.volume), loaded.affine)
    expected, at = to_ras(image, affine)
    np.testing.assert_array_equal(volume, expected)
    np.testing.assert_allclose(found, at, atol=0.02)


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("kind", ["classic", "enhanced", "mosaic"])
def test_same_image_in_each_plane_and_either_order_lies_at_the_same_place(
    image, tmp_path, kind, plane, is_reversed
):
    loaded = read_series(write(stack_of(image, plane, is_reversed=is_reversed), kind, tmp_path))
    assert_is(loaded, image)


@pytest.mark.parametrize(("csa", "protocol"), [(True, False), (False, True)])
@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("plane", PLANES)
def test_mosaic_is_placed_by_either_of_siemens_headers_alone(
    image, tmp_path, plane, is_reversed, csa, protocol
):
    stack = stack_of(image, plane, is_reversed=is_reversed)
    save(mosaic(stack, "1.2.3", csa=csa, protocol=protocol), tmp_path / "a.dcm")
    assert_is(read_series(tmp_path), image)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("kind", ["classic", "enhanced", "mosaic"])
def test_each_kind_agrees_with_dcm2niix(image, tmp_path, kind, plane):
    program = pytest.importorskip("dcm2niix").bin
    folder = write(stack_of(image, plane, is_reversed=True), kind, tmp_path / "in")
    (tmp_path / "out").mkdir()
    command = [program, "-z", "n", "-f", "a", "-o", tmp_path / "out", folder]
    subprocess.run(command, check=True, capture_output=True)
    theirs = nib.load(tmp_path / "out" / "a.nii")
    assert_is(read_series(folder), np.asarray(theirs.dataobj), theirs.affine)


@dataclass(frozen=True, kw_only=True)
class RealMosaic:
    """Numbers of a real header, and the places of the first and the last tile, LPS, mm."""

    size: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float, float]
    num_slices: int
    normal: tuple[float, ...]
    centres: tuple[tuple[float, ...], ...]
    is_reversed: bool
    expected: tuple[tuple[float, ...], ...]


# Series of github neurolabusc/dcm_qa (6, 22, 16, 34) and dcm_qa_mosaic (10). `expected`: where the
# tile's pixels stand in the NIfTI of dcm2niix v1.0.20260724, by its affine.
REAL_MOSAICS = {
    "axial": RealMosaic(
        size=(384, 384),
        position=(-624.0, -661.82658862211, -6.5255017698948),
        orientation=(1.0, -1e-16, 0.0, 1e-16, 0.99415096409965, -0.1079993545339),
        spacing_mm=(3.25, 3.25, 3.6000000030835),
        num_slices=35,
        normal=(0.0, 0.10799944, 0.99415095),
        centres=((0.0, -41.47638866, -73.91709953), (0.0, -28.25726752, 47.76697846)),
        is_reversed=False,
        expected=((-104.0, -144.868, -62.685), (-104.0, -131.649, 58.999)),
    ),
    "sagittal": RealMosaic(
        size=(384, 384),
        position=(-61.200000762939, -660.3196144104, 598.57627105713),
        orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
        spacing_mm=(3.25, 3.25, 3.6000000448788),
        num_slices=35,
        normal=(1.0, 0.0, 0.0),
        centres=((-61.2, -36.31961259, -25.42372881), (61.2, -36.31961259, -25.42372881)),
        is_reversed=False,
        expected=((-61.2, -140.32, 78.576), (61.2, -140.32, 78.576)),
    ),
    "coronal": RealMosaic(
        size=(384, 384),
        position=(-624.0, -37.655651722011, 623.83806791559),
        orientation=(1.0, 0.0, 0.0, 0.0, -0.1529858224513, -0.988228383588),
        spacing_mm=(3.25, 3.25, 3.6000000917836),
        num_slices=35,
        normal=(0.0, 0.98822844, -0.15298548),
        centres=((0.0, -133.1188021, 7.183556426), (0.0, -12.15964824, -11.54190994)),
        is_reversed=False,
        expected=((-104.0, -117.208, 109.959), (-104.0, 3.751, 91.234)),
    ),
    "head_first": RealMosaic(
        size=(384, 384),
        position=(-615.0, -612.14945970158, 157.48988115473),
        orientation=(1.0, 0.0, 0.0, 0.0, 0.98713626451576, -0.1598811911322),
        spacing_mm=(3.203125, 3.203125, 3.5999998937649),
        num_slices=36,
        normal=(0.0, -0.15988136, -0.98713624),
        centres=((0.0, -25.20568674, -65.21621908), (0.0, -5.060657087, 59.16295032)),
        is_reversed=True,
        expected=((-102.5, -106.242, 75.551), (-102.5, -126.387, -48.828)),
    ),
    "not_square": RealMosaic(
        size=(1440, 720),
        position=(-866.17921113968, -1736.6223449707, -64.073608398438),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        spacing_mm=(2.4000000953674, 2.4000000953674, 2.3999999741376),
        num_slices=60,
        normal=(0.0, 0.0, 1.0),
        centres=(
            (-2.17917675545, -8.62227602906, -64.0736077482),
            (-2.17917675545, -8.62227602906, 77.5263922518),
        ),
        is_reversed=False,
        expected=((-110.179, -224.622, -64.074), (-110.179, -224.622, 77.526)),
    ),
}


def real_mosaic(row, *, csa, protocol):
    dataset = header(
        "1.2.3",
        ImagePositionPatient=[f"{value:.9g}" for value in row.position],
        ImageOrientationPatient=[f"{value:.9g}" for value in row.orientation],
        PixelSpacing=list(row.spacing_mm[:2]),
        SpacingBetweenSlices=row.spacing_mm[2],
    )
    dataset.Rows, dataset.Columns = row.size
    centres_mm = np.linspace(*row.centres, row.num_slices)
    add_private(
        dataset,
        num_slices=row.num_slices,
        normal=np.array(row.normal) if csa else None,
        centres_mm=centres_mm if protocol else None,
        is_reversed=row.is_reversed,
    )
    return dataset


@pytest.mark.parametrize(("csa", "protocol"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("name", REAL_MOSAICS)
def test_tiles_of_real_mosaics_lie_where_dcm2niix_puts_them(name, csa, protocol):
    row = REAL_MOSAICS[name]
    layout = mosaic_layout(real_mosaic(row, csa=csa, protocol=protocol))
    np.testing.assert_allclose(layout.positions_mm[[0, -1]], row.expected, atol=0.01)
    assert len(layout.positions_mm) == row.num_slices


def test_mosaic_whose_headers_contradict_each_other_is_refused():
    row = REAL_MOSAICS["sagittal"]
    turned = replace(row, normal=tuple(-value for value in row.normal))
    with pytest.raises(RejectedSeriesError, match="contradict each other on its slices"):
        mosaic_layout(real_mosaic(turned, csa=True, protocol=True))


def test_mosaic_that_tells_no_order_is_refused(image):
    dataset = mosaic(stack_of(image, "axial"), "1.2.3", csa=False, protocol=False)
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", SHAPE[2])
    with pytest.raises(RejectedSeriesError, match="do not tell the order of its slices"):
        mosaic_layout(dataset)


def test_mosaic_with_more_tiles_than_it_tells_of_is_set_aside(image, tmp_path):
    stack = stack_of(image, "axial")
    dataset = mosaic(stack, "1.2.3", csa=False, protocol=False)
    steps = stack.positions_mm[1] - stack.positions_mm[0]
    add_private(dataset, num_slices=17, normal=steps / np.linalg.norm(steps))
    save(dataset, tmp_path / "a.dcm")
    with pytest.raises(RejectedSeriesError, match="a mosaic of more than the 17 slices"):
        read_series(tmp_path)


def test_mosaics_of_time_points_are_counted(image, tmp_path):
    datasets = [mosaic(stack_of(image + time, "sagittal"), "1.2.3") for time in range(6)]
    for time, dataset in enumerate(datasets):
        dataset.AcquisitionNumber = dataset.InstanceNumber = time + 1
        save(dataset, tmp_path / f"{time}.dcm")
    loaded = read_series(tmp_path)
    assert (loaded.original_shape[3], loaded.time_point) == (6, 2)
    assert_is(loaded, image + 2)


# What a converter could do wrong.
WRONG = {
    "mirrored": (lambda volume, affine: (volume[::-1], affine), "another order than the headers"),
    "slices_turned": (
        lambda volume, affine: (volume[:, :, ::-1], affine),
        "another order than the headers",
    ),
    "axis_turned": (
        lambda volume, affine: (volume, affine @ np.diag([1.0, -1, 1, 1])),
        "not as the headers say",
    ),
    "moved": (
        lambda volume, affine: (volume, affine + np.outer(np.eye(4)[1], np.eye(4)[3])),
        r"moved a slice \(.* mm",
    ),
    "stretched": (
        lambda volume, affine: (volume, affine @ np.diag([1.0, 1, 1.01, 1])),
        r"moved a slice \(.* mm",
    ),
    "cut": (lambda volume, affine: (volume[:, :, 1:], affine), "changed the shape"),
}


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("kind", ["classic", "enhanced", "mosaic"])
def test_series_that_a_converter_gets_wrong_is_set_aside(
    image, tmp_path, monkeypatch, curate_tree, reasons, kind, fault
):
    spoil, reason = WRONG[fault]
    convert = dicom_convert.convert_generic.dicom_to_nifti

    def wrong(slices, path):
        right = convert(slices, path)["NII"]
        return {"NII": nib.Nifti1Image(*spoil(np.asarray(right.dataobj), right.affine))}

    monkeypatch.setattr(dicom_convert.convert_generic, "dicom_to_nifti", wrong)
    write(stack_of(image, "axial"), kind, tmp_path / "dicom")
    store, summary = curate_tree(tmp_path / "dicom")
    assert (len(store), summary.num_rejected) == (0, 1)
    (found,) = reasons(store)
    assert re.search(reason, found), found


def planes_at(positions_mm):
    """Small slices at these places, and their volume (x, y, z)."""
    stored = np.arange(len(positions_mm) * 5 * 6).reshape(-1, 5, 6)  # slices, rows, columns
    planes = [
        Plane(
            stored=values,
            scaling=(1, 0),
            position_mm=np.array(position_mm),
            orientation=np.array([1.0, 0, 0, 0, 1, 0]),
            pixel_spacing_mm=(1.0, 1.0),
        )
        for values, position_mm in zip(stored, positions_mm, strict=True)
    ]
    return planes, stored.transpose(2, 1, 0)


def test_slices_numbered_from_the_other_end_are_found():
    planes, volume = planes_at([[0.0, 0.0, 2.0 * k] for k in range(4)])
    affine = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -2, 6], [0, 0, 0, 1]])
    assert list(check_geometry(volume[:, :, ::-1], affine, planes)) == [3, 2, 1, 0]


def test_slices_beside_the_line_between_the_ends_are_refused():
    planes, volume = planes_at([[k * (40 - k) / 600, 0.0, 2.0 * k] for k in range(41)])
    affine = np.diag([-1.0, -1, 2, 1])
    with pytest.raises(RejectedSeriesError, match=r"do not lie on a line \(one 0.667 mm beside"):
        check_geometry(volume, affine, planes)


def test_stations_of_the_table_are_no_time_points(image, tmp_path):
    stack = stack_of(image, "coronal")
    for station in range(3):
        moved = replace(
            stack, positions_mm=stack.positions_mm + station * 60 * stack.orientation[3:]
        )
        write(moved, "classic", tmp_path / str(station))
    with pytest.raises(RejectedSeriesError, match="several stacks side by side"):
        read_series(tmp_path)


def test_directions_that_are_no_unit_vectors_are_refused(image, tmp_path):
    stack = stack_of(image, "axial")
    write(replace(stack, orientation=stack.orientation * 1.1), "enhanced", tmp_path)
    with pytest.raises(RejectedSeriesError, match="not perpendicular units"):
        read_series(tmp_path)


def test_numbers_that_differ_from_place_to_place_order_no_time_points(image, tmp_path):
    """Philips counts some slices of a volume as another acquisition (dcm_qa_philips_enh, 2301)."""
    number = 0
    volumes = [classic(stack_of(image + 50 * time, "axial"), "1.2.3") for time in range(5)]
    for k in range(SHAPE[2]):
        for time in range(5):
            dataset = volumes[time][k]
            number += 1
            dataset.InstanceNumber = number
            dataset.AcquisitionNumber = 19 if k == 7 and time > 2 else 23
            save(dataset, tmp_path / f"{number}.dcm")
    assert_is(read_series(tmp_path), image + 100)


def test_enhanced_file_a_time_point_counts_as_time_points(image, tmp_path):
    for time in range(5):
        dataset = enhanced(stack_of(image + time, "coronal"), "1.2.3")
        dataset.AcquisitionNumber = dataset.InstanceNumber = time + 1
        save(dataset, tmp_path / f"{9 - time}.dcm")
    loaded = read_series(tmp_path)
    assert (loaded.original_shape[3], loaded.time_point) == (5, 2)
    assert_is(loaded, image + 2)


def test_enhanced_file_a_slice_is_one_volume(image, tmp_path):
    stack = stack_of(image, "sagittal")
    for k in range(SHAPE[0]):
        dataset = enhanced(stack.keep([k]), "1.2.3")
        dataset.InstanceNumber = k + 1
        save(dataset, tmp_path / f"{k}.dcm")
    loaded = read_series(tmp_path)
    assert len(loaded.original_shape) == 3
    assert_is(loaded, image)


def spectroscopy(series):
    return header(series, "1.2.840.10008.5.1.4.1.1.4.2", Rows=1, Columns=1, NumberOfFrames=1)


OTHERS = {
    "raw data": lambda series: header(series, RawDataStorage),
    "spectroscopy": spectroscopy,
    "structured report": lambda series: header(series, "1.2.840.10008.5.1.4.1.1.88.33"),
    "presentation state": lambda series: header(series, "1.2.840.10008.5.1.4.1.1.11.1"),
    "an object without pixels": lambda series: header(series, "1.2.3.4.5"),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_objects_without_image_cost_no_series(image, tmp_path, kind, other):
    write(stack_of(image, "axial"), kind, tmp_path)
    save(OTHERS[other]("1.2.3"), tmp_path / "0000.dcm")  # the first of the series
    loaded = read_series(tmp_path)
    assert_is(loaded, image)
    assert loaded.notes == (f"1 objects without image dropped: {other}",)


def test_series_without_image_says_what_it_is(tmp_path):
    for number in range(3):
        save(OTHERS["raw data"]("1.2.3"), tmp_path / f"{number}.dcm")
    with pytest.raises(RejectedSeriesError, match="no image but raw data"):
        read_series(tmp_path)


def test_classic_copy_beside_an_enhanced_image_is_dropped_and_noted(image, tmp_path):
    """As Canon's archives: both forms under one SeriesInstanceUID (dcm_qa_canon_61)."""
    write(stack_of(image, "axial"), "classic", tmp_path)
    write(stack_of(image, "axial"), "enhanced", tmp_path)
    loaded = read_series(tmp_path)
    assert_is(loaded, image)
    assert loaded.notes == ("18 classic files dropped beside enhanced ones",)


def test_form_of_the_acquired_images_is_kept(image, tmp_path):
    write(stack_of(image, "axial"), "classic", tmp_path)
    dataset = enhanced(stack_of(4095 - image, "axial"), "1.2.3")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "PHASE MAP", "NONE"]
    save(dataset, tmp_path / "a.dcm")
    assert_is(read_series(tmp_path), image)


def test_form_with_most_slices_is_kept(image, tmp_path):
    stack = stack_of(image, "axial")
    write(stack, "classic", tmp_path)
    write(stack.keep([0, 1]), "enhanced", tmp_path)
    loaded = read_series(tmp_path)
    assert_is(loaded, image)
    assert loaded.notes == ("1 enhanced files dropped beside classic ones",)
