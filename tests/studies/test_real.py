"""Trials on the real hippocampi: nnU-Net's fold 0, and two halves that share nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK
from sklearn.model_selection import KFold

from nnunet_triad.demo.material import check_hippocampi
from nnunet_triad.demo.steps import sentence_model
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import dice
from nnunet_triad.images import read_labels
from registration.manifest import read_manifest
from registration.pairs import resample
from studies.design import DATA, REAL, REAL_TUNING, SCALES, SCRATCH
from studies.plan import trials
from studies.real import divide, make_real_classes, make_real_pairs
from studies.report import tables
from studies.run import run_studies, trial_file
from tests.real_data import HIPPOCAMPI, needs_hippocampi

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"
CASES = [f"hippocampus_{number:03d}" for number in range(260)]
FIRST, SECOND = f"{REAL}-first", f"{REAL}-second"


def test_halves_are_of_fold_zero_and_share_no_case():
    """nnU-Net's documented split: scikit-learn's five folds, shuffled with seed 12345."""
    train, val = next(KFold(n_splits=5, shuffle=True, random_state=12345).split(CASES))
    one, other = (divide(CASES, DATA[name]) for name in (FIRST, SECOND))

    assert sorted(one[0] + other[0]) == [CASES[k] for k in train]
    assert sorted(one[1] + other[1]) == [CASES[k] for k in val]
    assert {len(part) for half in (one, other) for part in half} == {104, 26}


def test_confirmed_on_other_seeds_than_chosen_on():
    found = [t for t in trials(SCALES["full"]) if t.data in (FIRST, SECOND)]
    seeds = {name: {t.seed for t in found if t.data == name} for name in (FIRST, SECOND)}

    assert not seeds[FIRST] & seeds[SECOND]
    tuned = [t for t in found if t.data == SECOND and t.initialization != SCRATCH]
    few = [t for t in tuned if t.training == REAL_TUNING and t.labelled <= 4]
    assert {t.labelled for t in few} == {1, 2, 4}
    assert len({(t.initialization, t.seed, t.labelled) for t in few}) == (6 + 3 + 3) * 3
    assert {t.labelled for t in tuned} == {1, 2, 4, 8, 16, 104}


def test_a_folder_without_the_volumes_is_refused(tmp_path):
    with pytest.raises(UserError, match="--hippocampi: expected MSD's Task04_Hippocampus"):
        check_hippocampi(tmp_path)


@needs_hippocampi
def test_classes_are_tertiles_of_the_volume_and_tested_on_fold_zero(tmp_path):
    make_real_classes(tmp_path, HIPPOCAMPI)
    table = pd.read_csv(tmp_path / "parts.csv")
    names = [Path(image).name for image in table.image]
    masks = (SimpleITK.ReadImage(HIPPOCAMPI / "labelsTr" / name) > 0 for name in names)
    voxels = [int(SimpleITK.GetArrayFromImage(mask).sum()) for mask in masks]

    sizes = pd.Series(voxels).groupby(table.label).agg(["min", "max"])
    assert sizes.loc["small", "max"] <= sizes.loc["middle", "min"]
    assert sizes.loc["middle", "max"] <= sizes.loc["large", "min"]
    learnt = table[table.split != "test"].label.value_counts()
    assert learnt.max() - learnt.min() <= 4  # equal volumes stay together
    _, val = next(KFold(n_splits=5, shuffle=True, random_state=12345).split(sorted(names)))
    assert set(np.array(names)[table.split == "test"]) == {sorted(names)[k] for k in val}


@needs_hippocampi
def test_pairs_are_aligned_on_one_grid_and_share_nobody_between_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("studies.real._NUM_TRAIN", 2)
    monkeypatch.setattr("studies.real._NUM_VAL_PAIRS", 1)
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
        for file in sorted((HIPPOCAMPI / part).glob("hippocampus_*.nii.gz"))[:30]:
            (tmp_path / part / file.name).symlink_to(file)
    make_real_pairs(tmp_path / "pairs", tmp_path)

    pairs = read_manifest(tmp_path / "pairs" / "manifest.csv")
    members = {
        split: {f.name for p in pairs if p.split == split for f in (p.moving, p.fixed) if f}
        for split in ("train", "val", "test")
    }
    assert [len(found) for found in members.values()] == [2, 2, 6]
    assert len(set.union(*members.values())) == 10
    before, after = [], []
    for pair in (pair for pair in pairs if pair.split == "test"):
        aligned = [read_labels(path) for path in (pair.moving_labels, pair.fixed_labels)]
        assert aligned[0].voxels.shape == aligned[1].voxels.shape == (32, 64, 32)
        after.append(dice(aligned[0].voxels > 0, aligned[1].voxels > 0))
        raw = [read_labels(tmp_path / "labelsTr" / p.name) for p in (pair.moving, pair.fixed)]
        moved = resample(raw[0], raw[1].grid, order=0)
        before.append(dice(moved > 0, raw[1].voxels > 0))
    assert np.mean(after) > max(0.6, np.mean(before) + 0.05)


@pytest.mark.long
@needs_hippocampi
def test_two_iterations_on_real_volumes_inside_nnunet(tmp_path):
    key, smoke = f"{FIRST}-unet_4", SCALES["smoke"]
    wanted = [t for t in trials(smoke) if t.key.startswith(key)][:2]

    run_studies(
        tmp_path,
        smoke,
        model=sentence_model(),
        workers=1,
        only=key,
        limit=2,
        hippocampi=HIPPOCAMPI,
    )

    tables = [
        pd.read_csv(trial_file(tmp_path, t), keep_default_na=False, na_values={"value": [""]})
        for t in wanted
    ]
    last = tables[0].query("metric == 'dice' and iteration == iteration.max()")
    assert last.case.nunique() == 26
    assert set(last.label) == {"Anterior", "Posterior"}
    shown = [t[t.metric == "shown_mean"].value.item() for t in tables]
    assert shown[0] == shown[1]


def test_the_published_tables_follow_from_the_published_values():
    text = (EVIDENCE / "index.md").read_text(encoding="utf-8")
    table = pd.read_csv(EVIDENCE / "real.csv", keep_default_na=False, na_values={"value": [""]})

    found = [line for line in tables(table).splitlines() if line.startswith("| ")]

    assert len(found) > 8
    assert [line for line in found if line not in text] == []
