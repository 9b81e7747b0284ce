"""What nnU-Net shows a network is told from what its own readers and preprocessing give."""

from pathlib import Path
from types import SimpleNamespace

import blosc2
import nibabel as nib
import numpy as np
import pytest
from batchgenerators.utilities.file_and_folder_operations import write_pickle
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization
from scipy.spatial.transform import Rotation

from nnunet_triad.images.intensity import MASKED_ZSCORE, ZSCORE, Intensity, affine_map
from nnunet_triad.trainers.shown import axes_of_plan, scale_of, shown_by_plan

SHAPE = (6, 7, 8)
TURNED = Rotation.from_euler("yx", (25, 6), degrees=True).as_matrix()
AFFINES = {
    "axial": np.diag([-1.0, -1.0, 3.0]),
    "sagittal": np.array([[0.0, 0.0, 3.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "coronal": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -3.0], [0.0, 1.0, 0.0]]),
    "oblique": TURNED,
}


def write_image(path: Path, matrix: np.ndarray, values: np.ndarray) -> None:
    affine = np.eye(4)
    affine[:3, :3] = matrix
    nib.save(nib.Nifti1Image(values.astype(np.float32), affine), path)


def world_coordinate(matrix: np.ndarray, axis: int) -> np.ndarray:
    """Each voxel's place along a patient axis, mm."""
    return np.einsum("i,ixyz->xyz", matrix[axis], np.indices(SHAPE))


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("reader", [SimpleITKIO, NibabelIO, NibabelIOWithReorient])
def test_axes_are_those_along_which_world_coordinates_grow(
    tmp_path: Path, reader: type, name: str, transpose: tuple[int, int, int]
) -> None:
    matrix = AFFINES[name]
    steepest = []
    for axis in range(3):  # an image of x, one of y and one of z
        path = tmp_path / f"{axis}.nii.gz"
        write_image(path, matrix, world_coordinate(matrix, axis))
        array, properties = reader().read_images([str(path)])
        shown = array[0].transpose(transpose)
        spread = [np.abs(np.diff(shown, axis=side)).mean() for side in range(3)]
        steepest.append(int(np.argmax(spread)))
    write_pickle(properties, str(tmp_path / "case.pkl"))
    found = axes_of_plan(tmp_path, ["case"], transpose)
    assert "".join("xyz"[steepest.index(side)] for side in range(3)) == found.word
    assert found.num_oblique == (name == "oblique")


def write_properties(folder: Path, **directions: np.ndarray) -> None:
    for name, matrix in directions.items():
        direction = tuple((matrix / np.linalg.norm(matrix, axis=0)).ravel())
        write_pickle({"sitk_stuff": {"direction": direction}}, str(folder / f"{name}.pkl"))


def test_majority_decides_and_the_mixture_is_said(tmp_path: Path) -> None:
    write_properties(
        tmp_path, a=AFFINES["sagittal"], b=AFFINES["sagittal"], c=AFFINES["axial"], d=TURNED
    )
    write_pickle({"spacing": (1, 1, 1)}, str(tmp_path / "e.pkl"))  # a TIFF says no directions
    (tmp_path / "f.pkl").write_bytes(b"damaged")
    write_properties(tmp_path, g=AFFINES["sagittal"])
    found = axes_of_plan(tmp_path, ["a", "b", "c", "d", "e", "f", "g", "gone"], (0, 1, 2))
    assert found.word == "xzy"
    text = found.describe()
    assert "xzy in 3 cases; zyx in 2" in text
    assert "oblique (nearest axes taken): 1" in text
    assert "not said: 3" in text


def test_without_properties_nnunet_s_order_is_taken_and_that_is_said(tmp_path: Path) -> None:
    found = axes_of_plan(tmp_path, ["gone"], (1, 2, 0))
    assert found.word == "yxz"
    assert "no case says its directions" in found.describe()


def test_scale_of_ct_is_nnunet_s_own_formula() -> None:
    properties = {"mean": 40.0, "std": 80.0, "percentile_00_5": -900.0, "percentile_99_5": 900.0}
    raw = np.linspace(-200, 300, 11, dtype=np.float32)[None, None]
    shown = CTNormalization(use_mask_for_norm=False, intensityproperties=properties).run(raw.copy())
    window = Intensity.parse("window -175 250")
    slope, intercept = affine_map(window, scale_of("CTNormalization", properties), None) or (0, 0)
    np.testing.assert_allclose(slope * shown + intercept, (raw + 175) / 425, atol=1e-5)


def test_statistics_are_those_of_the_preprocessed_cases(tmp_path: Path) -> None:
    """Two channels on other scales; percentiles of what the network will be shown."""
    random = np.random.default_rng(0)
    cases = random.normal(0, 1, (3, 2, 8, 9, 10)).astype(np.float32)
    cases[:, 1] = np.exp(cases[:, 1])
    for number, case in enumerate(cases):
        for suffix, values in (("", case), ("_seg", np.zeros_like(case[:1]))):
            blosc2.asarray(values, urlpath=str(tmp_path / f"{number}{suffix}.b2nd"), mode="w")
        write_properties(tmp_path, **{str(number): np.eye(3)})
    plans = SimpleNamespace(transpose_forward=[0, 1, 2], plans={})
    configuration = SimpleNamespace(
        normalization_schemes=["ZScoreNormalization"] * 2, use_mask_for_norm=[False] * 2
    )
    seen = Intensity.parse("percentiles 0.5 99.5")
    shown = shown_by_plan(plans, configuration, tmp_path, seen=seen, maps_intensity=True)
    assert shown.axes == "zyx"
    assert shown.intensity == (ZSCORE, ZSCORE)
    for channel, found in enumerate(shown.statistics):
        expected = np.median([np.percentile(c[channel], (0.5, 99.5)) for c in cases], axis=0)
        np.testing.assert_allclose((found.lower, found.upper), expected, rtol=1e-5)
    unread = shown_by_plan(plans, configuration, tmp_path, seen=ZSCORE, maps_intensity=True)
    assert unread.statistics == ()  # the scales agree: no case is looked at


def test_statistics_within_nnunet_s_mask_leave_its_zeros_out(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    inside = random.normal(0, 1, (4, 9, 10)).astype(np.float32)
    case = np.concatenate([np.zeros((40, 9, 10), np.float32), inside])[None]
    for suffix, values in (("", case), ("_seg", np.zeros_like(case))):
        for name in ("a", "b"):  # of the second the properties are gone
            blosc2.asarray(values, urlpath=str(tmp_path / f"{name}{suffix}.b2nd"), mode="w")
    write_properties(tmp_path, a=np.eye(3))
    plans = SimpleNamespace(transpose_forward=[0, 1, 2], plans={})
    configuration = SimpleNamespace(
        normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[True]
    )
    seen = Intensity.parse("percentiles 0.5 99.5")
    shown = shown_by_plan(plans, configuration, tmp_path, seen=seen, maps_intensity=True)
    assert shown.intensity == (MASKED_ZSCORE,)
    (found,) = shown.statistics
    np.testing.assert_allclose(
        (found.lower, found.upper), np.percentile(inside, (0.5, 99.5)), rtol=1e-5
    )


def test_of_many_cases_some_are_looked_at_and_that_is_said(tmp_path: Path) -> None:
    names = [f"{number:03d}" for number in range(401)]
    write_properties(tmp_path, **{name: np.eye(3) for name in names[::3]})
    found = axes_of_plan(tmp_path, names, (0, 1, 2))
    assert found.counts == {"zyx": 134}
    assert "looked at: 134 of 401" in found.describe()
