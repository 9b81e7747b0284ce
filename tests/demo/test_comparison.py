import json
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from nnunet_triad.demo.comparison import _shown_box, compare
from nnunet_triad.demo.material import phantoms
from nnunet_triad.demo.steps import INITIALIZATIONS, predictions

LABELS = {"background": 0, "tissue": 1, "lesion": 2}
SHAPE = (20, 24, 10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the demo's steps leave, tiny: the truth for one initialisation, less for the other."""
    raw = tmp_path / "nnUNet_raw" / phantoms(tmp_path).dataset
    (tmp_path / "pretrained").mkdir()
    picture = np.random.default_rng(0).random((30, 40, 3))
    matplotlib.image.imsave(tmp_path / "pretrained" / "reconstructions.png", picture)
    truth = np.zeros(SHAPE, np.uint8)
    truth[4:16, 4:20, 2:8] = 1
    truth[8:12, 8:16, 4:6] = 2
    for case in ("phantom_001", "phantom_002"):
        save(raw / "imagesTr" / f"{case}_0000.nii.gz", truth.astype(np.float32) * 100)
        save(raw / "labelsTr" / f"{case}.nii.gz", truth)
        worse = np.where(truth == 2, 1, truth).astype(np.uint8)
        for name, labels in zip(INITIALIZATIONS, (truth, worse), strict=True):
            save(predictions(tmp_path, phantoms(tmp_path), name) / f"{case}.nii.gz", labels)
        save(raw / "imagesTr" / f"{case}_0001.nii.gz", truth.astype(np.float32) * 50)
    description = {"labels": LABELS, "channel_names": {"0": "T1ce", "1": "FLAIR"}}
    (raw / "dataset.json").write_text(json.dumps(description))
    return tmp_path


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def test_comparison_scores_both_initialisations(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(folder, phantoms(folder))
    table = pd.read_csv(folder / "results.csv")
    means = table.groupby(["initialization", "label"])["value"].mean()
    assert means["Triad", "lesion"] == 1
    assert means["Scratch", "lesion"] == 0
    # 1152 voxels of tissue, less the lesion's 64, which the worse prediction adds to it.
    tissue, lesion = 12 * 16 * 6 - 64, 64
    assert means["Scratch", "tissue"] == pytest.approx(2 * tissue / (2 * tissue + lesion))
    assert "lesion" in capsys.readouterr().out


def test_picture_shows_the_slice_and_the_part_that_matter() -> None:
    image, truth = np.zeros(SHAPE), np.zeros(SHAPE, np.uint8)
    image[4:16, 6:20, 2:8] = 1
    truth[4:16, 6:20, 2:8] = 1
    truth[8:10, 8:10, 5] = 2
    assert _shown_box(image, truth, {"tissue": 1, "lesion": 2}) == (slice(2, 18), slice(4, 22), 5)


def test_comparison_can_be_repeated(folder: Path) -> None:
    first = compare(folder, phantoms(folder))
    again = compare(folder, phantoms(folder))
    assert first == again
    assert matplotlib.image.imread(again)[..., :3].std() > 0.1
    assert len(pd.read_csv(folder / "results.csv")) == 2 * 2 * 2
