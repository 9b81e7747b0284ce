"""Pictures of a probe: features on two axes, and scores with their intervals."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nnunet_triad.features.targets import Targets

_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999",
    "#882255", "#117733", "#332288",
)  # fmt: skip  # Okabe and Ito's, then Tol's: apart for colour-blind readers
_MARKERS = "o^sDvPX*<>p"


def embed(values: NDArray[np.float64]) -> dict[str, tuple[NDArray[np.float64], tuple[str, str]]]:
    """Return features on two axes, and what the axes are called.

    Principal components of standardised features; UMAP besides where umap-learn is installed.

    Args:
        values: (n, d), NaN where a region is missing.

    Returns:
        Name of the method -> ((n, 2), names of the axes).
    """
    prepare = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    standard = prepare.fit_transform(values)
    number = min(2, *standard.shape)
    analysis = PCA(number, svd_solver="full").fit(standard)
    places = np.zeros((len(values), 2))
    places[:, :number] = analysis.transform(standard)
    shares = [*analysis.explained_variance_ratio_, 0.0][:2]
    names = tuple(f"component {i + 1} ({share:.0%})" for i, share in enumerate(shares))
    found = {"PCA": (places, (names[0], names[1]))}
    if find_spec("umap") is not None and len(values) > 15:
        import umap

        mapped = umap.UMAP(random_state=0, n_jobs=1).fit_transform(standard)
        found["UMAP"] = (np.asarray(mapped, np.float64), ("UMAP 1", "UMAP 2"))
    return found


def draw_embeddings(
    sets: Mapping[str, NDArray[np.float64]], targets: Targets, title: str
) -> Figure:
    """Draw a row a method, a column a set of features; colour and mark are the target."""
    found = {name: embed(values) for name, values in sets.items()}
    methods = list(next(iter(found.values())))
    shape = (len(methods), len(sets))
    figure = Figure(figsize=(4.4 * shape[1] + 1, 3.9 * shape[0]), layout="constrained")
    axes = np.atleast_2d(figure.subplots(*shape, squeeze=False))
    shown: Any = None
    for row, method in enumerate(methods):
        for column, name in enumerate(sets):
            axis = axes[row, column]
            places, labels = found[name][method]
            shown = _scatter(axis, places, targets)
            axis.set(title=f"{name}, {method}", xlabel=labels[0], ylabel=labels[1])
            axis.tick_params(labelbottom=False, labelleft=False, length=0)
    if targets.classes:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, title=title, loc="outside right upper")
    else:
        figure.colorbar(shown, ax=axes, label=title)
    return figure


def draw_scores(scores: pd.DataFrame, metric: str, *, chance: float) -> Figure:
    """Draw one metric of each set of features and probe with its interval, and chance."""
    chosen = scores[scores["metric"] == metric]
    names, probes = list(chosen["features"].unique()), list(chosen["probe"].unique())
    height = 0.22 * len(names) * len(probes) + 1.2
    figure = Figure(figsize=(7.5, height), layout="constrained")
    axis = figure.subplots()
    for number, probe in enumerate(probes):
        part = chosen[chosen["probe"] == probe].set_index("features").loc[names]
        values = part["value"].to_numpy()
        places = np.arange(len(names)) + (number - (len(probes) - 1) / 2) * 0.22
        bounds = np.abs(part[["low", "high"]].to_numpy().T - values)
        axis.errorbar(
            values,
            places,
            xerr=bounds,
            fmt=_MARKERS[number],
            color=_COLOURS[number],
            capsize=3,
            label=probe,
        )
    axis.axvline(chance, color="#777777", linestyle="--", linewidth=1, label="chance")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel(f"{metric.replace('_', ' ')}, 95 % interval over subjects")
    axis.grid(axis="x", alpha=0.3)
    axis.legend(title="probe", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _scatter(axis: Any, places: NDArray[np.float64], targets: Targets) -> Any:
    if not targets.classes:
        return axis.scatter(*places.T, c=targets.truth, cmap="viridis", s=14)
    for number, name in enumerate(targets.classes):
        own = places[targets.truth == number]
        axis.scatter(
            *own.T,
            s=16,
            alpha=0.75,
            color=_of(_COLOURS, number),
            marker=_of(_MARKERS, number),
            label=f"{name} ({len(own)})",
        )
    return None


def _of(values: Sequence[str], number: int) -> str:
    return values[number % len(values)]
