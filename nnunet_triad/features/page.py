"""The page of a probe: one HTML file that needs no other, and no network."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nnunet_triad import __version__
from nnunet_triad.features.feature_sets import ENCODER, FLOORS, RANDOM_FLOOR
from nnunet_triad.features.figures import draw_embeddings, draw_scores
from nnunet_triad.features.nested import probes_for
from nnunet_triad.features.probe import LOWER_IS_BETTER, ProbeResult, metrics_for
from nnunet_triad.features.settings import ProbeSettings
from nnunet_triad.files import write_atomically


def write_page(
    path: Path,
    result: ProbeResult,
    sets: Mapping[str, NDArray[np.float64]],
    *,
    settings: ProbeSettings,
    about: Mapping[str, Any],
    left_out: str,
) -> None:
    """Write the page.

    Args:
        path: of the page.
        result: of the probe.
        sets: of features, as they were probed.
        settings: of the probe.
        about: the JSON of the encoder's table.
        left_out: what was not probed, in words; empty: nothing.
    """
    targets = result.targets
    drawn = {name: sets[name] for name in (ENCODER, RANDOM_FLOOR)}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nnunet_triad.features"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    metric = next(iter(metrics_for(targets)))
    page = environment.get_template("probe.html.j2").render(
        version=__version__,
        target=settings.target,
        counts=_counts(result),
        left_out=left_out,
        summary=summarize(result),
        metric=_word(metric),
        word=_word,
        scores_picture=_picture(draw_scores(result.scores, metric, chance=_chance(result))),
        embedding=_picture(draw_embeddings(drawn, targets, settings.target)),
        scores=_wide(result.scores),
        differences=result.differences.to_dict("records"),
        lower=LOWER_IS_BETTER,
        floors={name: text for name, text in FLOORS.items() if name in sets},
        sizes={name: values.shape[1] for name, values in sets.items()},
        settings=settings.to_dict(),
        about=about,
    )
    with write_atomically(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def summarize(result: ProbeResult) -> list[str]:
    """Say in a sentence a floor whether the encoder tells more.

    By the first probe, whichever does best: the best of several on the same cases would flatter.
    """
    metric = next(iter(metrics_for(result.targets)))
    probe = next(iter(probes_for(result.targets)))
    scores = result.scores
    is_own = (scores["features"] == ENCODER) & (scores["probe"] == probe)
    own = scores[is_own & (scores["metric"] == metric)].iloc[0]
    lines = [
        f"The encoder's features reach a {_word(metric)} of {own['value']:.2f} "
        f"({own['low']:.2f} to {own['high']:.2f}) by the probe {probe}."
    ]
    verdicts = {
        "above": "is above",
        "below": "is below",
        "not told apart": "cannot be told from",
    }
    same = result.differences
    same = same[(same["metric"] == metric) & (same["probe"] == probe)]
    lines += [
        f"That {verdicts[row['verdict']]} the floor {row['floor']}: {row['difference']:+.2f} "
        f"({row['low']:+.2f} to {row['high']:+.2f})."
        for row in same.to_dict("records")
    ]
    return lines


def _word(metric: str) -> str:
    return {"r2": "R\u00b2", "auc": "AUC"}.get(metric, metric.replace("_", " "))


def _chance(result: ProbeResult) -> float:
    """Return what the first metric is where nothing is told."""
    return 1 / len(result.targets.classes) if result.targets.classes else 0.0


def _counts(result: ProbeResult) -> str:
    targets = result.targets
    text = f"{len(targets)} cases of {len(set(targets.subjects))} subjects"
    if not targets.classes:
        low, high = targets.truth.min(), targets.truth.max()
        return f"{text}, numbers from {low:g} to {high:g}"
    numbers = np.bincount(targets.truth.astype(int), minlength=len(targets.classes))
    named = (f"{name}: {number}" for name, number in zip(targets.classes, numbers, strict=True))
    return f"{text} ({', '.join(named)})"


def _wide(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row a set of features and probe, with its metrics."""
    rows = []
    for (features, probe), part in scores.groupby(["features", "probe"], sort=False):
        metrics = {one["metric"]: one for one in part.to_dict("records")}
        chosen = part["chosen"].iloc[0]
        rows.append({"features": features, "probe": probe, "metrics": metrics, "chosen": chosen})
    return rows


def _picture(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return base64.b64encode(content.getvalue()).decode()
