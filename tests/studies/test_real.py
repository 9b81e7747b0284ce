"""Trials on the real hippocampi: nnU-Net's fold 0, and two halves that share nothing."""

from pathlib import Path

import pandas as pd
import pytest
from sklearn.model_selection import KFold

from nnunet_triad.demo.material import check_hippocampi
from nnunet_triad.demo.steps import sentence_model
from nnunet_triad.errors import UserError
from studies.design import DATA, REAL, SCALES, SCRATCH
from studies.plan import trials
from studies.real import divide
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
    assert {t.labelled for t in tuned} == {1, 2, 4}
    assert len({(t.initialization, t.seed, t.labelled) for t in tuned}) == (6 + 3 + 3) * 3


def test_a_folder_without_the_volumes_is_refused(tmp_path):
    with pytest.raises(UserError, match="--hippocampi: expected MSD's Task04_Hippocampus"):
        check_hippocampi(tmp_path)


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
