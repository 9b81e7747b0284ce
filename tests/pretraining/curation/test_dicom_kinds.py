"""Images of several kinds in one file or series: magnitude is kept, and echoes are no time."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from nnunet_triad.phantom.dicom import DicomOptions, write_dicom_series
from pretraining.curation.dicom_kinds import Kind, choose_kind

PHASE, MAGNITUDE = "PHASE", "MAGNITUDE"


def item(**values):
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return [dataset]


@pytest.fixture
def write_enhanced(brain, tmp_path):
    """Write one enhanced image that holds several volumes, their frames one after the other.

    Its functional groups are those of Philips' field maps (dcm_qa_enh, Philips_WIP_B0_NS).
    """

    def write(volumes, *, is_interleaved=False, image_type=("ORIGINAL", "PRIMARY", "T1", "MIXED")):
        (path,) = write_dicom_series(brain, tmp_path / "d", options=DicomOptions(kind="enhanced"))
        dataset = pydicom.dcmread(path)
        num_slices = int(dataset.NumberOfFrames)
        pixels = dataset.pixel_array
        frames, groups = [], []
        for factor, frame_type, component, echo_ms, b_value in volumes:
            for k, template in enumerate(dataset.PerFrameFunctionalGroupsSequence):
                group = Dataset()
                group.update(template)
                group.MRImageFrameTypeSequence = item(
                    FrameType=["ORIGINAL", "PRIMARY", "T1", frame_type],
                    ComplexImageComponent=component,
                    AcquisitionContrast="T1",
                )
                group.MREchoSequence = item(EffectiveEchoTime=echo_ms)
                if b_value is not None:
                    group.MRDiffusionSequence = item(DiffusionBValue=float(b_value))
                groups.append(group)
                frames.append((pixels[k] * factor).astype(pixels.dtype))
        order = np.arange(len(frames))
        if is_interleaved:
            order = order.reshape(len(volumes), num_slices).T.ravel()
        dataset.PerFrameFunctionalGroupsSequence = [groups[index] for index in order]
        dataset.NumberOfFrames = len(frames)
        dataset.ImageType = list(image_type)
        dataset.PixelData = np.stack([frames[index] for index in order]).tobytes()
        dataset.save_as(path)
        return tmp_path / "d"

    return write


@pytest.fixture
def expected(brain, write_nifti, curate_tree, tmp_path):
    """What the phantom's own voxels become."""
    write_nifti(tmp_path / "nifti" / "a.nii.gz")
    return curate_tree(tmp_path / "nifti", tmp_path / "nifti_store")[0].read_volume(0)


@pytest.mark.parametrize("is_interleaved", [False, True])
def test_magnitude_is_kept_of_an_image_that_has_phase_first(
    brain, write_enhanced, curate_tree, expected, is_interleaved
):
    volumes = [(3, "P", PHASE, 2.3, None), (1, "M", MAGNITUDE, 2.3, None)]
    store, _ = curate_tree(write_enhanced(volumes, is_interleaved=is_interleaved))
    np.testing.assert_array_equal(store.read_volume(0), expected)
    sidecar = store.read_sidecar(store.records["series_id"][0])
    assert sidecar["original_shape"] == list(brain.image.shape)
    assert sidecar["notes"] == [f"{brain.image.shape[2]} derived images dropped"]


def test_echoes_phases_and_field_maps_are_no_time_points(
    brain, write_enhanced, curate_tree, expected
):
    volumes = [
        (3, "P", PHASE, 2.3, None),
        (2, "M", MAGNITUDE, 4.6, None),
        (1, "M", MAGNITUDE, 2.3, None),
        (4, "FIELD_MAP", "REAL", 0.0, None),
    ]
    store, _ = curate_tree(write_enhanced(volumes))
    np.testing.assert_array_equal(store.read_volume(0), expected)
    sidecar = store.read_sidecar(store.records["series_id"][0])
    assert "Echo time: 2.3 ms" in sidecar["description"]
    assert sidecar["time_point"] is None
    assert sidecar["notes"][1:] == ["of 2 echoes the first kept"]


def test_image_of_nothing_but_phase_is_set_aside(write_enhanced, curate_tree, reasons):
    root = write_enhanced([(1, "P", PHASE, 2.3, None), (2, "P", PHASE, 4.6, None)])
    assert reasons(curate_tree(root)[0]) == ["derived: phase image"]


def test_slices_of_a_time_point_have_one_b_value_and_it_is_told(
    write_enhanced, curate_tree, expected
):
    # frames slice by slice; at each place the b-values come in the order 1000, 0, 500
    volumes = [
        (3, "M", MAGNITUDE, 80, 1000),
        (2, "M", MAGNITUDE, 80, 0),
        (1, "M", MAGNITUDE, 80, 500),
    ]
    store, _ = curate_tree(write_enhanced(volumes, is_interleaved=True))
    sidecar = store.read_sidecar(store.records["series_id"][0])
    assert "Diffusion b-value: 500 s/mm2" in sidecar["description"]
    assert (sidecar["time_point"], sidecar["original_shape"][3]) == (1, 3)
    np.testing.assert_array_equal(store.read_volume(0), expected)


def test_echoes_of_a_classic_series_are_no_time_points(brain, tmp_path, curate_tree, expected):
    for echo, (factor, time_ms) in enumerate([(2, 20.0), (1, 5.0)]):
        volume = replace(brain, image=brain.image * factor)
        for path in write_dicom_series(volume, tmp_path / "dicom" / str(echo)):
            dataset = pydicom.dcmread(path)
            dataset.EchoTime = time_ms
            dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID[:50]}.{echo}"
            dataset.save_as(path)
    store, _ = curate_tree(tmp_path / "dicom")
    np.testing.assert_array_equal(store.read_volume(0), expected)
    sidecar = store.read_sidecar(store.records["series_id"][0])
    assert "Echo time: 5 ms" in sidecar["description"]
    assert sidecar["notes"] == ["of 2 echoes the first kept"]


@pytest.mark.parametrize(
    ("kinds", "kept"),
    [
        ([Kind(), Kind(set_aside="phase image")], [0]),
        ([Kind(is_map=True), Kind(), Kind()], [1, 2]),
        ([Kind(dixon="fat"), Kind(dixon="water")], [1]),
        ([Kind(dixon="fat"), Kind()], [0, 1]),  # no word for the other: nothing is told apart
        ([Kind(echo_time_ms=9), Kind(echo_time_ms=3)] * 2, [1, 3]),
        ([Kind(echo_time_ms=9), Kind(echo_time_ms=3), Kind(echo_time_ms=3)], [0, 1, 2]),
        ([Kind(set_aside="phase image")] * 2, [0, 1]),  # for the caller to set aside
    ],
)
def test_kind_that_is_kept(kinds, kept):
    assert choose_kind(kinds)[0] == kept


def test_united_imagings_tiles_are_named(brain, tmp_path, curate_tree, reasons):
    options = DicomOptions(image_type=("ORIGINAL", "PRIMARY", "M", "VFRAME"))
    write_dicom_series(brain, tmp_path / "dicom", options=options)
    store, _ = curate_tree(tmp_path / "dicom")
    assert reasons(store) == ["United Imaging's tiled volumes: export one file a slice"]
