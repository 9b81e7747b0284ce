"""Trials inside nnU-Net: the same batches for each initialisation, and axes as they are claimed."""

import pandas as pd
import pytest
import torch

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.demo.steps import sentence_model
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.locate import load_weights
from studies.design import EXCHANGED, INSIDE, SCALES, SCRATCH, TRAININGS
from studies.inside import claiming
from studies.plan import trials
from studies.report import tables, write_report
from studies.run import run_studies, trial_file
from studies.simulate import LABELS
from studies.summary import AXES, compare_axes

SMOKE = SCALES["smoke"]


def rows(initialization, training, seed, value):
    return pd.DataFrame(
        [
            {
                **{"data": AXES, "network": "swin_t", "labelled": 4, "training": training},
                **{"initialization": initialization, "seed": seed, "iteration": 80},
                **{"case": case, "label": label, "metric": "dice", "value": value + extra},
            }
            for case, extra in (("a", 0.0), ("b", 0.1))
            for label in LABELS
        ]
    )


def arms():
    """Two seeds whose axes cost 0.02 and 0.04, and whose pre-training gives 0.1."""
    values = {0: (0.3, 0.4, 0.38), 1: (0.5, 0.6, 0.56)}
    names = ((SCRATCH, INSIDE), ("stretched", INSIDE), ("stretched", EXCHANGED))
    return pd.concat(
        rows(*name, seed, value)
        for seed, found in values.items()
        for name, value in zip(names, found, strict=True)
    )


def test_axes_are_compared_seed_by_seed():
    (comparison,) = compare_axes(arms())

    assert comparison.difference.estimate == pytest.approx(0.03)
    assert comparison.difference.low == pytest.approx(0.02)
    assert comparison.difference.high == pytest.approx(0.04)
    assert (comparison.value, comparison.reference) == pytest.approx((0.55, 0.52))


def test_tables_and_figure_show_both_orders_against_scratch_and_each_other(tmp_path):
    (tmp_path / "trials").mkdir()
    arms().to_csv(tmp_path / "trials" / "all.csv", index=False)

    text = tables(arms())
    written = write_report(tmp_path, tmp_path / "report")

    right, exchanged = TRAININGS[INSIDE].title, TRAININGS[EXCHANGED].title
    assert f"| swin_t | {right} | {SCRATCH} | 2 | 0.450 | 0.550 | **+0.100** (+0.100 to" in text
    assert f"| swin_t | {exchanged} | {SCRATCH} | 2 | 0.450 | 0.520 | **+0.070** (+0.060 to" in text
    assert f"| swin_t | {right} | {exchanged} | 2 | 0.520 | 0.550 | **+0.030** (+0.020 to" in text
    assert text.rstrip().endswith("| +0.030 | +0.030 | +0.030 | +0.030 |")
    assert {path.name for path in written} == {"results.csv", "tables.md", "axes.png"}


def test_weights_claim_other_axes_and_stay_the_same(tmp_path):
    path = tmp_path / "triad_unet_t.safetensors"
    spec = encoder_spec("unet_t")
    save_weights(path, build_encoder(spec), WeightsInfo(spec=spec, axes="xyz"))
    (tmp_path / "work").mkdir()

    claimed = load_weights(claiming(path, "zyx", tmp_path / "work"))

    assert claimed.info.axes == "zyx"
    for name, tensor in load_weights(path).tensors.items():
        assert torch.equal(claimed.tensors[name], tensor)
    assert claiming(path, "", tmp_path) == path


@pytest.mark.long
def test_the_initialisations_of_a_seed_are_shown_the_same(tmp_path):
    key = "thick-slices-unet_t"
    wanted = [t for t in trials(SMOKE) if t.key.startswith(key)][:4]

    run_studies(tmp_path, SMOKE, model=sentence_model(), workers=1, only=key, limit=4)

    shown, scores = {}, {}
    for trial in wanted:
        setting = (trial.initialization, trial.training, trial.seed)
        table = pd.read_csv(
            trial_file(tmp_path, trial), keep_default_na=False, na_values={"value": [""]}
        )
        shown[setting] = table[table.metric == "shown_mean"].value.item()
        scores[setting] = table[table.metric == "dice"].value.tolist()
        assert len(scores[setting]) == 2 * len(LABELS)
    first = (SCRATCH, INSIDE, 0), ("stretched", INSIDE, 0), ("stretched", EXCHANGED, 0)
    assert len({shown[setting] for setting in first}) == 1
    assert shown[SCRATCH, INSIDE, 1] != shown[SCRATCH, INSIDE, 0]
    assert len({str(scores[setting]) for setting in first}) == 3
