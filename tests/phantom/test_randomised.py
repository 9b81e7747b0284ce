"""Images of random contrast: the anatomy is kept, the looks are of no sequence."""

import json

import nibabel as nib
import numpy as np
import pytest

from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.sequences import SEQUENCES
from nnunet_triad.phantom.signal import tissue_signal
from nnunet_triad.phantom.tissues import TISSUES
from nnunet_triad.phantom.writers.bids import write_bids
from tests.phantom.writers.conftest import tree_bytes

PEOPLE = Population(num_subjects=2, seed=5, spacing_mm=4.0, anatomies=("pelvis",), lesion=None)
_TISSUES = ("fat", "muscle", "organ_wall", "urine", "peripheral_zone")


def _orders(population, count):
    """Return how each image ranks the means of the tissues."""
    found = set()
    for number in range(count):
        subject, images = population.randomised(number)
        masks = [subject.fractions[name] > 0.9 for name in _TISSUES]
        found |= {tuple(np.argsort([image[mask].mean() for mask in masks])) for image in images}
    return found


def test_contrasts_are_more_than_sequences_give():
    real = {
        tuple(
            np.argsort(
                [tissue_signal(TISSUES[name], sequence, field_strength_t=1.5) for name in _TISSUES]
            )
        )
        for sequence in SEQUENCES.values()
    }
    found = _orders(PEOPLE, 4)  # twelve images

    assert len(found) > len(real)
    assert len(found - real) > len(found) / 2


def test_a_tissue_has_regions_that_noise_does_not_explain():
    subject, images = PEOPLE.randomised(0)
    muscle = subject.fractions["muscle"] > 0.99
    inside = [image[muscle].astype(float) for image in images]
    # Noise is at most 6 % of a signal of 1, stored as 2,000; the field is smooth and multiplies.
    assert max(values.std() for values in inside) > 1.5 * 0.06 * 2000
    assert all(image.min() >= 0 for image in images)


def test_bids_tells_no_sequence_and_keeps_the_truth(tmp_path):
    folder = write_bids(tmp_path / "a", PEOPLE, is_randomised=True)
    again = write_bids(tmp_path / "b", PEOPLE, is_randomised=True)

    assert tree_bytes(folder) == tree_bytes(again)
    images = sorted(folder.glob("sub-*/anat/*.nii.gz"))
    assert len(images) == 6
    for image in images:
        settings = json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())
        assert not {"EchoTime", "RepetitionTime", "FlipAngle"} & settings.keys()
        name = image.name.split("_")[0]
        truth = folder / "derivatives" / "truth" / name / "anat" / f"{name}_desc-MRI_dseg.nii.gz"
        np.testing.assert_array_equal(nib.load(truth).affine, nib.load(image).affine)
        assert nib.load(truth).shape == nib.load(image).shape


def test_the_same_folder_does_not_take_both_kinds(tmp_path):
    write_bids(tmp_path / "a", PEOPLE, is_randomised=True)

    with pytest.raises(ValueError, match=r"randomised|other"):
        write_bids(tmp_path / "a", PEOPLE)
