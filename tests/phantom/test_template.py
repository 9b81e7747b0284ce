import numpy as np
import pytest

from nnunet_triad.phantom import ANATOMIES
from nnunet_triad.phantom.template import (
    icbm_fractions,
    label_map,
    label_values,
    load_icbm,
    load_template,
)


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_fractions_are_between_zero_and_one_and_leave_air(anatomy: str) -> None:
    fractions = load_template(anatomy, 4.0).fractions
    total = fractions.sum(axis=0)
    assert fractions.min() >= 0
    assert total.max() < 1.0001
    assert (total < 0.01).any()  # air
    assert (total > 0.99).mean() > 0.1  # body


def test_icbm_tissues_are_in_the_order_of_their_brightness_in_t1() -> None:
    fractions, _ = icbm_fractions()
    t1 = load_icbm("t1")[0].astype(float)
    csf, grey, white = (t1[fraction > 0.9].mean() for fraction in fractions)
    assert csf < grey < white


def test_icbm_fractions_fill_the_brain_and_nothing_else() -> None:
    fractions, affine = icbm_fractions()
    brain = load_icbm("t1")[0] > 0
    np.testing.assert_allclose(fractions.sum(axis=0), brain, atol=1e-6)
    np.testing.assert_allclose(np.diag(affine), 1)


def test_brain_keeps_its_volume_at_every_spacing() -> None:
    litres = []
    for spacing_mm in (3.0, 4.0, 6.0):
        template = load_template("brain", spacing_mm)
        parts = [template.tissues.index(name) for name in ("grey_matter", "white_matter")]
        litres.append(template.fractions[parts].sum() * spacing_mm**3 / 1e6)
    assert litres == pytest.approx([litres[0]] * 3, rel=0.01)
    assert 1.2 < litres[0] < 1.9


def test_skull_encloses_the_brain() -> None:
    template = load_template("brain", 4.0)
    tissue = dict(zip(template.tissues, template.fractions, strict=True))
    middle = tissue["grey_matter"].shape[2] // 2
    row = {name: volume[:, template.shape[1] // 2, middle] for name, volume in tissue.items()}
    inside = np.flatnonzero(row["grey_matter"] + row["white_matter"] > 0.5)
    skull = np.flatnonzero(row["bone"] > 0.3)
    scalp = np.flatnonzero(row["fat"] > 0.3)
    assert scalp[0] < skull[0] < inside[0] < inside[-1] < skull[-1] < scalp[-1]


def test_prostate_zones_touch_and_bladder_lies_above() -> None:
    template = load_template("pelvis", 4.0)
    tissue = dict(zip(template.tissues, template.fractions, strict=True))
    z = {
        name: np.average(np.arange(v.shape[2]), weights=v.sum((0, 1))) for name, v in tissue.items()
    }
    assert z["urine"] > z["transition_zone"] > z["peripheral_zone"]
    assert ((tissue["transition_zone"] > 0.1) & (tissue["peripheral_zone"] > 0.1)).any()


def test_breast_holds_fibroglandular_tissue_within_fat() -> None:
    template = load_template("breast", 4.0)
    labels = label_map(dict(zip(template.tissues, template.fractions, strict=True)), "breast")
    values = label_values("breast")
    gland, fat = (int((labels == values[name]).sum()) for name in ("fibroglandular", "fat"))
    assert 0.1 < gland / (gland + fat) < 0.6


def test_label_map_takes_the_largest_share() -> None:
    fractions = {
        "csf": np.array([[[0.5, 0.1, 0.3]]], np.float32),
        "grey_matter": np.array([[[0.3, 0.2, 0.3]]], np.float32),
        "fat": np.array([[[0.2, 0.7, 0.4]]], np.float32),
    }
    # The second voxel is mostly fat, which has no label; the third has more without than with any.
    assert label_map(fractions, "brain").ravel().tolist() == [1, 0, 0]


def test_label_values_count_from_background() -> None:
    assert label_values("brain") == {
        "background": 0,
        "CSF": 1,
        "grey_matter": 2,
        "white_matter": 3,
        "necrotic_core": 4,
        "oedema": 5,
        "enhancing_rim": 6,
    }


def test_unknown_anatomy_is_refused() -> None:
    with pytest.raises(ValueError, match="anatomy: expected one of brain, pelvis, breast"):
        load_template("knee", 2.0)


def test_spacing_finer_than_the_maps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"spacing_mm: expected 1 to 8, got 0\.5"):
        load_template("brain", 0.5)
