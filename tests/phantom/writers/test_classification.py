from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.template import load_icbm
from nnunet_triad.phantom.writers.classification import TASKS, write_classification


def test_every_split_has_every_class_and_its_own_subjects(tmp_path: Path) -> None:
    population = Population(num_subjects=10, seed=1, spacing_mm=7.0)
    path = write_classification(tmp_path / "data", population, task="ventricles")
    table = pd.read_csv(path)
    assert list(table.columns) == ["image", "label", "split", "subject"]
    counts = pd.crosstab(table["split"], table["label"])
    assert set(counts.index) == {"train", "val", "test"}
    assert set(counts.columns) == set(TASKS["ventricles"])
    assert (counts.min(axis=1) == counts.max(axis=1)).all()  # balanced
    assert table["subject"].is_unique
    assert all((path.parent / image).is_file() for image in table["image"])
    first = nib.load(path.parent / table["image"][0])
    np.testing.assert_array_equal(first.get_fdata(), load_icbm("t1")[0])


@pytest.mark.parametrize(
    ("task", "num", "message"),
    [
        ("age", 40, "task: expected one of lesion, sequence, ventricles, got 'age'"),
        ("lesion", 19, "subjects: expected 20 or more, so that each split has every class"),
    ],
)
def test_impossible_data_are_refused(tmp_path: Path, task: str, num: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_classification(tmp_path / "data", Population(num_subjects=num), task=task)
    assert not (tmp_path / "data").exists()
