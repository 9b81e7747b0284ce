import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunet_triad.errors import UserError
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.template import load_icbm
from nnunet_triad.phantom.writers.brats21 import write_brats21
from nnunet_triad.phantom.writers.nnunet_raw import write_nnunet
from tests.phantom.writers.conftest import tree_bytes


def test_phantom_dataset_is_what_nnunet_wants(tmp_path: Path, population: Population) -> None:
    folder = write_nnunet(tmp_path, population, num_test_subjects=1)
    assert folder.name == "Dataset500_Phantom"
    verify_dataset_integrity(str(folder), num_processes=1)
    assert sorted(p.name for p in (folder / "imagesTs").iterdir()) == ["phantom_003_0000.nii.gz"]
    assert sorted(p.name for p in (folder / "labelsTs").iterdir()) == ["phantom_003.nii.gz"]
    icbm = nib.load(folder / "imagesTr" / "phantom_000_0000.nii.gz")
    np.testing.assert_array_equal(icbm.get_fdata(), load_icbm("t1")[0])


def test_pelvis_dataset_is_repeated_to_the_same_bytes(tmp_path: Path) -> None:
    population = Population(num_subjects=2, spacing_mm=5.0, anatomies=("pelvis",))
    options = {"sequence_names": ("T2w", "T1w")}
    first, second = (write_nnunet(tmp_path / name, population, **options) for name in "ab")
    assert tree_bytes(first) == tree_bytes(second)
    description = json.loads((first / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "T2w", "1": "T1w"}
    assert description["labels"]["bladder"] == 3
    assert len(list((first / "imagesTr").iterdir())) == 4


def test_slices_may_be_thicker_than_pixels(tmp_path: Path) -> None:
    population = Population(num_subjects=1, spacing_mm=5.0, anatomies=("pelvis",))
    folder = write_nnunet(tmp_path, population, slice_mm=10.0)
    image = nib.load(folder / "imagesTr" / "phantom_000_0000.nii.gz")
    assert image.header.get_zooms() == (5, 5, 10)
    assert image.shape == (40, 32, 12)


@pytest.mark.parametrize("dataset_id", [499, 502])
def test_unknown_id_is_refused(tmp_path: Path, population: Population, dataset_id: int) -> None:
    with pytest.raises(UserError, match="dataset: expected 500 or 501"):
        write_nnunet(tmp_path, population, dataset_id=dataset_id)


def test_brats21_needs_brains(tmp_path: Path) -> None:
    population = Population(num_subjects=1, anatomies=("breast",))
    with pytest.raises(UserError, match="anatomy: expected brain for 501, got breast"):
        write_nnunet(tmp_path, population, dataset_id=501)
    with pytest.raises(UserError, match="anatomy: expected brain, got breast"):
        write_brats21(tmp_path, population)


def test_brats21_in_both_forms_is_as_published(tmp_path: Path) -> None:
    # One population in both: the published labels map onto nnU-Net's.
    population = Population(num_subjects=2, seed=4, spacing_mm=5.0)
    published = write_brats21(tmp_path / "published", population)
    raw = write_nnunet(tmp_path / "raw", population, dataset_id=501)
    verify_dataset_integrity(str(raw), num_processes=1)
    description = json.loads((raw / "dataset.json").read_text())
    assert description["labels"]["tumor core"] == [2, 3]
    assert description["regions_class_order"] == [1, 2, 3]

    case = published / "BraTS2021_00001"
    assert sorted(path.name for path in case.iterdir()) == [
        f"BraTS2021_00001_{word}.nii.gz" for word in ("flair", "seg", "t1", "t1ce", "t2")
    ]
    segmentation = nib.load(case / "BraTS2021_00001_seg.nii.gz")
    assert segmentation.shape == (48, 48, 31)
    assert nib.aff2axcodes(segmentation.affine) == ("L", "P", "S")
    values = np.asarray(segmentation.dataobj)
    assert set(np.unique(values)) == {0, 1, 2, 4}
    ours = np.asarray(nib.load(raw / "labelsTr" / "BraTS2021_00001.nii.gz").dataobj)
    for theirs, mine in ((1, 2), (2, 1), (4, 3)):
        assert (values == theirs).sum() == (ours == mine).sum() > 0

    t1 = nib.load(published / "BraTS2021_00000" / "BraTS2021_00000_t1.nii.gz")
    assert t1.shape == (240, 240, 155)
    np.testing.assert_array_equal(t1.affine[:3, 3], (0, 239, 0))
    icbm = load_icbm("t1")[0]
    assert np.asarray(t1.dataobj).sum(dtype=int) == icbm.sum(dtype=int)  # nothing cut off


def test_skull_is_stripped_from_every_channel(tmp_path: Path) -> None:
    population = Population(num_subjects=2, seed=4, spacing_mm=5.0)
    from nnunet_triad.phantom.writers.brain_extraction import channels_of

    stripped, whole = (
        channels_of(population, 1, ("T1w", "FLAIR"), is_stripped=flag) for flag in (True, False)
    )
    for a, b in zip(stripped, whole, strict=True):
        brain = a.image > 0
        np.testing.assert_array_equal(a.image[brain], b.image[brain])
        assert 0.05 < brain.mean() < 0.5 < (b.image > 0).mean()
        assert (a.image[a.labels > 0] > 0).all()
