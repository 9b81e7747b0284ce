from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK

from nnunet_triad.errors import UserError
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.writers.registration import write_registration


def test_simpleitk_aligns_labels_with_the_written_displacement(tmp_path: Path) -> None:
    population = Population(num_subjects=6, seed=2, spacing_mm=4.0, lesion=None)
    path = write_registration(tmp_path / "data", population, pairs="atlas")
    table = pd.read_csv(path)
    assert set(table["split"]) == {"train", "val", "test"}
    assert len(table) == 5
    for row in table.head(2).itertuples():
        before, after = _dice(path.parent, row)
        assert before < 0.75
        assert after > 0.85

    icbm = pd.read_csv(path.parent / "icbm152.csv").iloc[0]
    assert nib.load(path.parent / icbm["moving"]).shape == (197, 233, 189)
    before, after = _dice(path.parent, icbm)
    assert after > max(0.85, before + 0.1)


def test_an_aligned_population_differs_by_a_smooth_map_on_a_grid_cut_to_the_tissue(
    tmp_path: Path,
) -> None:
    population = Population(num_subjects=6, seed=2, spacing_mm=6.5, lesion=None, is_aligned=True)
    path = write_registration(tmp_path / "data", population)

    table = pd.read_csv(path)
    lengths = []
    for row in table.itertuples():
        moving, fixed, field = (
            nib.load(path.parent / name) for name in (row.moving, row.fixed, row.displacement)
        )
        assert moving.shape == fixed.shape == field.shape[:3]
        assert max(fixed.shape) <= 32 < max(population.subject(0).labels.shape)
        np.testing.assert_array_equal(fixed.affine, field.affine)
        labels = np.asarray(nib.load(path.parent / row.fixed_labels).dataobj)
        assert (labels == 0).any(axis=(1, 2))[[0, -1]].all()  # a margin on both sides
        vectors = np.asarray(field.dataobj)[..., 0, :][labels > 0]
        lengths.append(np.linalg.norm(vectors, axis=-1).mean())
        before, after = _dice(path.parent, row)
        assert after > before
    # The velocity's root mean square is 4 mm; poses alone move a voxel by as much again.
    assert 2.5 < np.mean(lengths) < 4.5


def test_pairs_of_subjects_stay_within_their_split(tmp_path: Path) -> None:
    population = Population(num_subjects=10, spacing_mm=8.0, anatomies=("breast",), lesion=None)
    table = pd.read_csv(write_registration(tmp_path / "data", population, pairs="subjects"))
    members = {
        split: set(rows["moving"]) | set(rows["fixed"]) for split, rows in table.groupby("split")
    }
    assert set(members) == {"train", "val", "test"}
    assert not members["train"] & members["test"]
    assert not members["train"] & members["val"]


@pytest.mark.parametrize(
    ("options", "pairs", "message"),
    [
        ({"num_subjects": 5}, "atlas", "subjects: expected 6 or more"),
        ({"num_subjects": 9}, "subjects", "subjects: expected 10 or more"),
        ({"num_subjects": 9}, "all", "pairs: expected one of atlas, subjects, got 'all'"),
        ({"num_subjects": 9, "anatomies": ("brain", "breast")}, "atlas", "anatomy: expected one"),
    ],
)
def test_impossible_data_are_refused(
    tmp_path: Path, options: dict, pairs: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_registration(tmp_path / "data", Population(**options), pairs=pairs)


def _dice(folder: Path, row: pd.Series) -> tuple[float, float]:
    """Return the Dice of white matter before and after SimpleITK applied the displacement."""
    moving, fixed = (
        SimpleITK.ReadImage(str(folder / p)) for p in (row.moving_labels, row.fixed_labels)
    )
    field = SimpleITK.ReadImage(str(folder / row.displacement), SimpleITK.sitkVectorFloat64)
    overlaps = []
    for transform in (SimpleITK.Transform(), SimpleITK.DisplacementFieldTransform(field)):
        warped = SimpleITK.Resample(moving, fixed, transform, SimpleITK.sitkNearestNeighbor)
        a, b = (SimpleITK.GetArrayFromImage(image) == 3 for image in (warped, fixed))
        overlaps.append(2 * np.sum(a & b) / (a.sum() + b.sum()))
    return overlaps[0], overlaps[1]
