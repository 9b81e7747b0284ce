"""The table, the intervals and the figure of the registration of phantoms."""

import numpy as np
import pytest

from nnunet_triad.evaluation import Result, append_results, read_results
from studies import registration_phantom as benchmark

ERRORS = {
    ("before", "none", 0): 3.2,
    ("60 refinements", "none", 0): 1.9,
    ("true displacement", "none", 0): 0.0,
    **{
        (f"{network}{state}", encoder, seed): error + 0.1 * seed
        for network in benchmark.NETWORKS
        for encoder, gain in (("scratch", 0.0), ("triad", 0.2))
        for state, error in ((" untrained", 3.2), ("", 2.5 - gain))
        for seed in (0, 1)
    },
}


@pytest.fixture
def table(tmp_path):
    """Six cases a model; every metric has the endpoint error's value."""
    rows = [
        Result(
            task="registration",
            dataset="Phantom",
            architecture=architecture,
            initialization=initialization,
            fold=0,
            case=f"pair{case}",
            label=label,
            metric=metric,
            value=value + 0.05 * case,
            seed=seed,
        )
        for (architecture, initialization, seed), value in ERRORS.items()
        for metric, label in benchmark.METRICS
        for case in range(6)
    ]
    append_results(tmp_path / "results.csv", rows)
    return read_results(tmp_path / "results.csv")


def test_table_has_mean_over_pairs_and_spread_over_seeds(table):
    lines = benchmark._table(table).splitlines()
    assert len(lines) == 2 + 3 + 8
    (line,) = [line for line in lines if line.startswith("| transmorph_t | triad |")]
    spread = np.std([2.3, 2.4], ddof=1)
    assert f"| {2.35 + 0.125:.2f} ± {spread:.2f} |" in line
    (line,) = [line for line in lines if line.startswith("| before | none |")]
    assert "| 3.325 |" in line  # one seed: no spread


def test_intervals_compare_the_same_pairs(table):
    lines = benchmark._comparisons(table).splitlines()
    assert "| swinunetr_t/triad - swinunetr_t/scratch | -0.20 | -0.20 to -0.20 |" in lines
    assert "| transmorph_t/scratch - before/none | -0.65 | -0.65 to -0.65 |" in lines


def test_figure_shows_each_trained_model_and_reference(table):
    (axes,) = benchmark._draw(table).axes
    names = [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()]
    assert names[:2] == ["before", "60 refinements"]
    assert sorted(names[2:]) == sorted(
        f"{network} {encoder}" for network in benchmark.NETWORKS for encoder in ("scratch", "triad")
    )
