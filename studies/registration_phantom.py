"""Registration of phantom brains whose true displacement is known.

    python -m studies.registration_phantom WORK [WEIGHTS.safetensors]

Both networks learn to move the atlas onto subjects, from scratch and from a pre-trained encoder,
three seeds each, and are scored on subjects that they never saw: endpoint error, Dice and folding,
before training and after. Without WEIGHTS an encoder is pre-trained first, on other phantoms. What
is there already is not done again: stop it at any time and go on with the same command.
"""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nnunet_triad.evaluation import Result, append_results, read_results
from nnunet_triad.weights.file import EncoderWeights
from nnunet_triad.weights.locate import load_weights
from registration.evaluate import compare_models, score_pair
from registration.figures import save_figure
from registration.loop import start_training, train
from registration.manifest import Pair
from registration.model_file import ModelInfo, save_model
from registration.references import Method, affine_method, model_method, syn_method
from registration.settings import RegistrationSettings
from registration.training_data import RegistrationData, load_data
from registration.transform_file import read_field
from studies.registration_phantom_data import SPACING_MM, make_data, pretrain

NETWORKS = ("transmorph_t", "swinunetr_t")
SEEDS = (0, 1, 2)
DATA_SEED, PRETRAINING_SEED = 7, 21  # subjects in common: the atlas alone
NUM_REFINEMENTS = 60  # of instance optimisation, which needs no training
# Not the paper's, which needs 80,000 steps: a higher rate for a short training, and a smaller
# window and a stronger regulariser for voxels of 6 mm, chosen on validation pairs.
SETTINGS = RegistrationSettings(
    network="transmorph_t",
    epochs=16,
    learning_rate=2e-3,
    lncc_window=5,
    gradient_weight=2.0,
    has_flips=False,
    is_half_resolution=True,
    intensity="zscore",
    picture_every=1000,
)
METRICS = {
    ("endpoint_error_mm", ""): ("endpoint error, mm", 1.0, 2),
    ("dice", "mean"): ("Dice", 1.0, 3),
    ("dice_linear", "mean"): ("Dice, linear", 1.0, 3),
    ("non_positive_jacobian", ""): ("folding, %", 100.0, 3),
}


def main(work: Path, weights: Path | None) -> None:
    """Make the data, do the runs that are missing, print the tables and draw the figure."""
    manifest = make_data(work / "data", seed=DATA_SEED)
    weights = weights or pretrain(work / "pretraining", seed=PRETRAINING_SEED)
    data = load_data(manifest, SETTINGS)
    results = work / "results.csv"
    _score_references(data, work, results)
    for seed in SEEDS:
        for network in NETWORKS:
            for initialization in ("scratch", "triad"):
                settings = replace(SETTINGS, network=network, seed=seed)
                encoder = None if initialization == "scratch" else load_weights(weights)
                folder = work / f"{network}_{initialization}_{seed}"
                model = train(data, folder, settings=settings, weights=encoder)
                before = _untrained(folder / "untrained", settings, data, encoder)
                _score([before, model_method(model, alignment="none")], data.test, results)
    table = read_results(results)
    print(_table(table))
    print(_comparisons(table))
    print(f"figure: {save_figure(_draw(table), work / 'registration_phantom.png')}")


def _score_references(data: RegistrationData, work: Path, results: Path) -> None:
    """Score what needs no training, and the truth itself: Dice cannot exceed its value."""
    untrained = _untrained(work / "untrained", SETTINGS, data, None)
    refined = model_method(
        work / "untrained", alignment="none", num_refinements=NUM_REFINEMENTS
    ).register
    methods = [affine_method("none")]
    if importlib.util.find_spec("ants") is not None:
        methods.append(syn_method())
    methods.append(
        replace(untrained, architecture=f"{NUM_REFINEMENTS} refinements", register=refined)
    )
    _score(methods, data.test, results)
    if not _is_there("true displacement", results):
        rows = [
            row
            for pair in data.test
            for row in score_pair(pair, _truth(pair), dataset="Phantom").results
        ]
        append_results(results, rows)


def _truth(pair: Pair) -> Method:
    assert pair.displacement is not None
    field = read_field(pair.displacement)
    return Method(
        architecture="true displacement",
        initialization="none",
        register=lambda moving, fixed: field,
    )


def _untrained(
    folder: Path,
    settings: RegistrationSettings,
    data: RegistrationData,
    weights: EncoderWeights | None,
) -> Method:
    """Save the network as the training found it."""
    training = start_training(data, settings, weights)
    info = ModelInfo(
        settings=settings, spacing_mm=(SPACING_MM,) * 3, initialization=training.source
    )
    save_model(folder / "model.safetensors", training.network, info)
    method = model_method(folder, alignment="none")
    return replace(method, architecture=f"{settings.network} untrained")


def _is_there(
    architecture: str, results: Path, *, initialization: str = "none", seed: int = 0
) -> bool:
    if not results.exists():
        return False
    table = read_results(results)
    keys = zip(table["architecture"], table["initialization"], table["seed"], strict=True)
    return (architecture, initialization, seed) in set(keys)


def _score(methods: Sequence[Method], pairs: Sequence[Pair], results: Path) -> None:
    """Score pairs with the methods that the table does not have yet, a whole method at a time."""
    for method in methods:
        if _is_there(
            method.architecture, results, initialization=method.initialization, seed=method.seed
        ):
            continue
        rows: list[Result] = []
        for pair in pairs:
            rows += score_pair(pair, method, dataset="Phantom").results
        append_results(results, rows)


def _table(table: pd.DataFrame) -> str:
    """Return the mean over the test pairs; over seeds its mean and standard deviation."""
    titles = " | ".join(title for title, _, _ in METRICS.values())
    rows = [f"| what | encoder | {titles} |", "|---|---|" + "---|" * len(METRICS)]
    keys = ["architecture", "initialization"]
    for (architecture, initialization), group in table.groupby(keys, sort=False):
        cells = [_cell(group, *column) for column in METRICS.items()]
        rows.append(f"| {architecture} | {initialization} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(group: pd.DataFrame, metric: tuple[str, str], style: tuple[str, float, int]) -> str:
    _, factor, digits = style
    means = factor * _of(group, *metric).groupby("seed")["value"].mean()
    spread = f" ± {means.std():.{digits}f}" if len(means) > 1 else ""
    return f"{means.mean():.{digits}f}{spread}"


def _of(table: pd.DataFrame, metric: str, label: str = "") -> pd.DataFrame:
    return table[(table["metric"] == metric) & (table["label"] == label)]


def _comparisons(table: pd.DataFrame) -> str:
    """Return paired bootstrap intervals over the test pairs, seeds averaged."""
    rows = ["| difference of endpoint errors | mm | 95 % interval |", "|---|---|---|"]
    for network in NETWORKS:
        for first, second in (
            (f"{network}/scratch", "before/none"),
            (f"{network}/triad", "before/none"),
            (f"{network}/triad", f"{network}/scratch"),
        ):
            gap = compare_models(table, first, second, metric="endpoint_error_mm").difference
            rows.append(
                f"| {first} - {second} | {gap.estimate:+.2f} | {gap.low:+.2f} to {gap.high:+.2f} |"
            )
    return "\n".join(rows)


def _draw(table: pd.DataFrame) -> Figure:
    """Draw the endpoint error of each method: test pairs as dots, seeds as bars over them."""
    errors = _of(table, "endpoint_error_mm")
    errors = errors[~errors["architecture"].isin(["true displacement"])]
    errors = errors[~errors["architecture"].str.endswith("untrained")]
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    groups = list(errors.groupby(["architecture", "initialization"], sort=False))
    colors = {"none": "0.45", "scratch": "tab:orange", "triad": "tab:blue"}
    for place, ((_, initialization), group) in enumerate(groups):
        cases = group.groupby("case")["value"].mean().to_numpy()
        offsets = np.linspace(-0.18, 0.18, len(cases))
        color = colors[str(initialization)]
        axes.scatter(place + offsets, cases, s=14, color=color, alpha=0.5, linewidths=0)
        for mean in group.groupby("seed")["value"].mean():
            axes.plot([place - 0.3, place + 0.3], [mean, mean], color=color, linewidth=1.5)
    names = [f"{a}\n{i}" if i != "none" else f"{a}" for (a, i), _ in groups]
    axes.set_xticks(range(len(groups)), [name.replace(" refine", "\nrefine") for name in names])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel("endpoint error, mm")
    axes.set_ylim(bottom=0)
    axes.set_title("Test pairs (dots) and means, a line a seed", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
