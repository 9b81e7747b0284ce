"""Tables in Markdown, figures, and the one tidy table of the studies."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_triad.files import write_atomically
from studies.design import (
    DATA,
    EXCHANGED,
    MAIN,
    PLAIN,
    PRETRAININGS,
    REAL,
    REAL_LONG,
    REAL_TUNING,
    SCRATCH,
    TRAININGS,
)
from studies.figures import draw_axes, draw_curves, draw_differences, draw_labelled
from studies.plan import ABLATION_ENCODER, ABLATION_LABELLED
from studies.simulate import LABELS
from studies.summary import (
    AXES,
    SEGMENTATION,
    Comparison,
    compare,
    compare_axes,
    compare_recipes,
    compare_remedies,
    compare_repeats,
    iterations_to_scratch,
    mean_and_spread,
    ordinary,
    read_table,
)

OTHER_TASKS = ("sequences", "aligned-brains")
REAL_TASKS = (f"{REAL}-size", f"{REAL}-pairs")
# what three pre-trainings were fine-tuned on, and how
REPEATED = (
    (f"{REAL}-second", REAL_TUNING),
    (f"{REAL}-second", REAL_LONG),
    (f"{REAL}-all", REAL_TUNING),
)
REAL_HALVES = (f"{REAL}-first", f"{REAL}-second")
# Each with encoders that were pre-trained at its own resolution, and the metrics that are shown:
# title -> metric, label, factor, digits.
_CLASSIFICATION = {
    "accuracy": ("accuracy", "", 1, 2),
    "macro F1": ("macro_f1", "", 1, 2),
    "AUC": ("auc", "", 1, 2),
}
_REGISTRATION = {
    "endpoint error, mm": ("endpoint_error_mm", "", 1, 2),
    "Dice": ("dice", "mean", 1, 3),
    "Dice, linear": ("dice_linear", "mean", 1, 3),
    "folding, %": ("non_positive_jacobian", "", 100, 3),
}
_RARE = {
    **{f"recall {name}": ("recall", name, 1, 2) for name in DATA["rare"].counts or ()},
    "balanced accuracy": ("balanced_accuracy", "", 1, 2),
}
PHANTOMS = {
    "Classification, encoders of the images' own resolution": (
        ("sequence", "lesion", "ventricles"),
        _CLASSIFICATION,
    ),
    "Rare classes": (("rare",), _RARE),
    "Registration, an encoder of the images' own resolution": (("atlas",), _REGISTRATION),
}


def write_report(folder: Path, output: Path) -> list[Path]:
    """Write tables.md, results.csv, and the figures of what has been run.

    Args:
        folder: of the studies.
        output: where to; made when missing.

    Raises:
        UserError: no trial is finished.
    """
    table = read_table(folder)
    output.mkdir(parents=True, exist_ok=True)
    with write_atomically(output / "results.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.5f")
    with write_atomically(output / "tables.md") as temporary:
        temporary.write_text(tables(table), encoding="utf-8")
    return [output / "results.csv", output / "tables.md", *_draw(table, output)]


def _draw(table: pd.DataFrame, output: Path) -> list[Path]:
    written = []
    if table.data.isin(SEGMENTATION).any():
        ablations = [c for c in compare(table, SEGMENTATION) if _is_ablation(c)]
        ablations.sort(key=lambda c: c.difference.estimate)
        written += [
            draw_labelled(ordinary(table), output / "labelled.png"),
            draw_curves(table, output / "curves.png"),
            draw_differences({"": ablations}, output / "ablations.png"),
        ]
    kinds = {"tasks": OTHER_TASKS, "phantoms": _phantom_data(), "real": REAL_HALVES}
    for name, data in kinds.items():
        panels = {DATA[d].title: compare(table, (d,)) for d in data}
        if any(panels.values()):
            written.append(draw_differences(panels, output / f"{name}.png"))
    confirmed = table[(table.data == REAL_HALVES[1]) & (table.training == REAL_TUNING)]
    if not confirmed.empty:
        originals = confirmed.initialization.map(lambda name: _repeated(name) or name)
        pooled = confirmed.assign(initialization=originals)
        written.append(draw_labelled(pooled, output / "real_labelled.png"))
    if compare_axes(table):
        written.append(draw_axes(table, output / "axes.png"))
    return written


def _repeated(name: str) -> str:
    """Return the pre-training that one repeats with another seed, empty where it repeats none."""
    return "" if name == SCRATCH else PRETRAININGS[name].repeats


def _phantom_data() -> tuple[str, ...]:
    return tuple(name for data, _ in PHANTOMS.values() for name in data if name != "rare")


def tables(table: pd.DataFrame) -> str:
    """Return all tables as Markdown; sections of what has not been run are left out."""
    segmentation = compare(table, SEGMENTATION)
    first = [c for c in segmentation if _is_main(c) and c.data == "brains"]
    sections = {
        "By labelled subjects": _comparisons(first),
        "On subjects that nothing was chosen on": _comparisons(
            [c for c in segmentation if c.data == "new-brains"]
        ),
        "By label": _by_label(table),
        "Iterations to scratch's final Dice": _iterations(table),
        "Ablations": _comparisons([c for c in segmentation if _is_ablation(c)]),
        "The masked recipe against the paper's": _recipes(compare_recipes(table)),
        "Several pre-trainings, on subjects that nothing was chosen on": _repeats(
            compare_repeats(table)
        ),
        "Real hippocampi, first half, chosen on": _comparisons(compare(table, REAL_HALVES[:1])),
        "Real hippocampi, second half, confirmed on": _comparisons(compare(table, REAL_HALVES[1:])),
        **{
            f"Real hippocampi, several pre-trainings: {DATA[data].title}, "
            f"{TRAININGS[training].title}": _repeats(
                compare_repeats(table, original="real-spark", data=data, training=training)
            )
            for data, training in REPEATED
        },
        "Real hippocampi, axes exchanged": _tasks(compare_axes(table, data=REAL_HALVES[1])),
        "Real hippocampi, other tasks": _tasks(compare(table, REAL_TASKS)),
        "Other tasks": _tasks(compare(table, OTHER_TASKS)),
        "Axes inside nnU-Net": _axes(table),
    }
    for title, (data, metrics) in PHANTOMS.items():
        found = compare_remedies(table) if data == ("rare",) else compare(table, data)
        sections[title] = _means(table, data, metrics) + _tasks(found, is_separate=True)
    return "\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)


def _is_main(c: Comparison) -> bool:
    return c.initialization in MAIN and c.training == PLAIN


def _is_ablation(c: Comparison) -> bool:
    setting = (c.data, c.network, c.labelled)
    return setting == ("brains", ABLATION_ENCODER, (ABLATION_LABELLED,))


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table, or nothing without rows."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    header = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    return "\n".join([*header, *lines]) + "\n" if lines else ""


def _interval(c: Comparison) -> str:
    d = c.difference
    # One seed's interval knows nothing of the others.
    mark = "**" if c.num_seeds > 1 and (d.low > 0 or d.high < 0) else ""
    return f"{mark}{d.estimate:+.3f}{mark} ({d.low:+.3f} to {d.high:+.3f})"


def _title(name: str) -> str:
    return SCRATCH if name == SCRATCH else PRETRAININGS[name].title


def _comparisons(found: list[Comparison]) -> str:
    titles = (
        *("encoder", "labelled", "pre-training", "fine-tuning", "seeds", "scratch"),
        *("pre-trained", "difference (95 % interval)", "p, Holm"),
    )
    return _markdown(
        titles,
        (
            (
                *(c.network, *c.labelled, _title(c.initialization), TRAININGS[c.training].title),
                *(c.num_seeds, f"{c.reference:.3f}", f"{c.value:.3f}", _interval(c)),
                f"{c.p_value:.2g}",
            )
            for c in found
        ),
    )


def _recipes(found: list[Comparison]) -> str:
    titles = (
        *("subjects", "labelled", "steps", "seeds", "the paper's", "masked"),
        *("masked - the paper's (95 % interval)", "p, Holm"),
    )
    return _markdown(
        titles,
        (
            (
                "new" if c.data == "new-brains" else "first",
                *c.labelled,
                "five times" if c.initialization == "long" else "plain",
                *(c.num_seeds, f"{c.reference:.3f}", f"{c.value:.3f}", _interval(c)),
                f"{c.p_value:.2g}",
            )
            for c in sorted(found, key=lambda c: (c.data, c.initialization, c.labelled))
        ),
    )


def _repeats(found: list[Comparison]) -> str:
    titles = ("labelled", "pre-trainings", "fine-tuning seeds", "scratch", "pre-trained")
    rows = []
    for c in found:
        seeds = ", ".join(str(PRETRAININGS[name].seed) for name in c.initializations)
        labelled = ", ".join(map(str, c.labelled))
        values = (c.num_seeds, f"{c.reference:.3f}", f"{c.value:.3f}", _interval(c))
        rows.append((labelled, f"seed {seeds}", *values))
    return _markdown((*titles, "difference (95 % interval)"), rows)


def _tasks(found: list[Comparison], *, is_separate: bool = False) -> str:
    titles = ("task", "pre-training", "seeds", "before", "reference", "value")
    rows = []
    for c in found:
        unit = " mm" if DATA[c.data].measure.endswith("_mm") else ""
        before = "" if np.isnan(c.before) else f"{c.before:.3f}{unit}"
        what = f"{DATA[c.data].title}: {c.network}, {TRAININGS[c.training].title}"
        values = (before, f"{c.reference:.3f}{unit}", f"{c.value:.3f}{unit}", _interval(c))
        rows.append((what, _title(c.initialization), c.num_seeds, *values, f"{c.p_value:.2g}"))
    text = _markdown((*titles, "difference (95 % interval)", "p, Holm"), rows)
    return f"\n{text}" if text and is_separate else text


def _axes(table: pd.DataFrame) -> str:
    """Return each order of the axes against scratch, and one against the other."""
    exchanged = TRAININGS[EXCHANGED].title
    found = [
        [
            *((SCRATCH, c) for c in compare(table, (AXES,), label=label)),
            *((exchanged, c) for c in compare_axes(table, label=label)),
        ]
        for label in (None, *LABELS)
    ]
    rows = []
    for (reference, c), *by_label in zip(*found, strict=True):
        values = (c.num_seeds, f"{c.reference:.3f}", f"{c.value:.3f}", _interval(c))
        cells = [f"{of_label.difference.estimate:+.3f}" for _, of_label in by_label]
        how = TRAININGS[c.training].title
        rows.append((c.network, how, reference, *values, f"{c.p_value:.2g}", *cells))
    titles = (
        *("encoder", "pre-trained", "against", "seeds", "Dice against", "Dice"),
        *("difference (95 % interval)", "p, Holm", *LABELS),
    )
    return _markdown(titles, rows)


def _by_label(table: pd.DataFrame) -> str:
    main = ordinary(table)
    main = main[main.initialization.isin([SCRATCH, *MAIN])]
    by_label = [compare(main, ("brains",), label=label) for label in LABELS]
    rows = []
    for found in zip(*by_label, strict=True):
        cells = [f"{c.value:.2f} ({c.difference.estimate:+.3f})" for c in found]
        c = found[0]
        rows.append((c.network, *c.labelled, _title(c.initialization), *cells))
    return _markdown(("encoder", "labelled", "pre-training", *LABELS), rows)


def _iterations(table: pd.DataFrame) -> str:
    rows = []
    last = table.iteration.max()
    for network, labelled, name, reached in iterations_to_scratch(table).itertuples(index=False):
        if name in MAIN:
            text = f"not within {last}" if np.isnan(reached) else f"{reached:.0f} of {last}"
            rows.append((network, labelled, _title(name), text))
    return _markdown(("encoder", "labelled", "pre-training", "iterations"), rows)


def _means(
    table: pd.DataFrame, data: Sequence[str], metrics: dict[str, tuple[str, str, int, int]]
) -> str:
    """Return means over the test cases; over seeds their mean and standard deviation."""
    keys = ["data", "network", "training", "initialization"]
    rows = []
    for setting, group in table[table.data.isin(data)].groupby(keys):
        name, network, training, initialization = map(str, setting)
        cells = [_cell(group, *metric) for metric in metrics.values()]
        how = TRAININGS[training].title
        rows.append((DATA[name].title, network, how, _title(initialization), *cells))
    return _markdown(("data", "network", "training", "from", *metrics), rows)


def _cell(rows: pd.DataFrame, metric: str, label: str, factor: int, digits: int) -> str:
    mean, spread = (factor * value for value in mean_and_spread(rows, metric, label))
    text = "" if np.isnan(mean) else f"{mean:.{digits}f}"
    return text if np.isnan(spread) else f"{text} ± {spread:.{digits}f}"
