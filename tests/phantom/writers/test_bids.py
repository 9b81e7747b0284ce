import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.template import load_icbm
from nnunet_triad.phantom.writers.bids import write_bids
from tests.phantom.writers.conftest import tree_bytes


def test_interrupted_call_is_repeated_to_the_same_bytes(tmp_path: Path) -> None:
    # Pelvises: the ICBM152 volume would take most of the time.
    population = Population(
        num_subjects=2, seed=4, spacing_mm=6.0, anatomies=("pelvis",), lesion="mixed"
    )
    whole = tree_bytes(write_bids(tmp_path / "a", population))
    folder = write_bids(tmp_path / "b", population)
    images = sorted(folder.rglob("*.nii.gz"))
    images[0].unlink()
    (folder / "participants.tsv").unlink()
    assert tree_bytes(write_bids(folder, population)) == whole


def test_bids_tree_holds_the_unchanged_icbm_volume_and_true_settings(
    tmp_path: Path, population: Population
) -> None:
    folder = write_bids(tmp_path / "bids", population, sequence_names=("T1w", "FLAIR"))
    icbm = nib.load(folder / "sub-000" / "anat" / "sub-000_T1w.nii.gz")
    np.testing.assert_array_equal(icbm.get_fdata(), load_icbm("t1")[0])
    np.testing.assert_array_equal(icbm.affine, load_icbm("t1")[1])
    for number in (0, 1, 2):
        subject = f"sub-{number:03d}"
        image = nib.load(folder / subject / "anat" / f"{subject}_FLAIR.nii.gz")
        sidecar = json.loads((folder / subject / "anat" / f"{subject}_FLAIR.json").read_text())
        assert 8 < sidecar["RepetitionTime"] < 10  # seconds
        assert 0.11 < sidecar["EchoTime"] < 0.13
        assert sidecar["InversionTime"] == 1.7
        assert sidecar["MagneticFieldStrength"] in (1.5, 3.0)
        assert sidecar["SliceThickness"] == max(image.header.get_zooms())
        truth = folder / "derivatives" / "truth" / subject / "anat"
        labels = nib.load(truth / f"{subject}_desc-FLAIR_dseg.nii.gz")
        assert labels.shape == image.shape
        np.testing.assert_array_equal(labels.affine, image.affine)
    with (folder / "participants.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["participant_id"] for row in rows] == ["sub-000", "sub-001", "sub-002"]
    description = json.loads((folder / "dataset_description.json").read_text())
    assert description["DatasetType"] == "raw"


def test_images_of_one_visit_have_names_of_their_own(
    tmp_path: Path,
) -> None:
    population = Population(num_subjects=1, spacing_mm=8.0, anatomies=("pelvis",))
    names = ("T1w", "T1ce", "T1se", "T2w", "STIR")
    folder = write_bids(tmp_path / "bids", population, sequence_names=names)
    found = sorted(path.name for path in (folder / "sub-000").rglob("*.nii.gz"))
    assert found == [
        "sub-000_T1w.nii.gz",
        "sub-000_T2w.nii.gz",
        "sub-000_acq-se_T1w.nii.gz",
        "sub-000_acq-stir_T2w.nii.gz",
        "sub-000_ce-gd_T1w.nii.gz",
    ]
