"""Score registrations of a manifest's pairs into the tidy results table."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import Result, dice
from nnunet_triad.evaluation.statistics import PairedComparison, compare_values
from nnunet_triad.images import Volume
from registration.figures import draw_box_plots, draw_overlay, save_picture
from registration.label_sets import LabelSet
from registration.manifest import Pair
from registration.metrics import (
    dice_by_structure,
    endpoint_error_mm,
    hd95_by_structure,
    mean_of_known,
    structures_of,
)
from registration.pairs import normalize_intensity, read_image, read_labels, read_labels_on
from registration.references import Method, voxel_displacement
from registration.spatial import folding_percent, sd_log_jacobian
from registration.transform_file import TransformField, apply_field, read_field

MEAN = "mean"  # label of the mean over structures
WHOLE = ""  # label of what belongs to no structure
_DRAWN_METRICS = ("dice_group", "dice", "hd95")
_WHITE_PERCENTILE = 99.9  # of the intensities, in pictures


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A registered pair with what the pictures need."""

    pair: Pair
    field: TransformField
    results: list[Result]


def score_pair(
    pair: Pair, method: Method, *, dataset: str, label_set: LabelSet | None = None
) -> Scored:
    """Register a pair and score it on the fixed image's own grid.

    Rows: dice (labels warped by nearest neighbour) and dice_linear (one-hot, linear, argmax) of
    each structure, and their mean under the label `mean`; dice_group and dice_linear_group where
    the label set has groups (left and right averaged); hd95, mm; non_positive_jacobian (a share)
    and sdlogj (central differences, over the whole transform); endpoint_error_mm where the true
    field is known; seconds.

    Raises:
        UserError: a file is wrong, labels have another grid than their image, or the images do not
            overlap.
    """
    assert pair.fixed is not None
    moving, fixed = read_image(pair.moving), read_image(pair.fixed)
    start = time.perf_counter()
    try:
        field = method.register(moving, fixed)
    except UserError as error:
        raise UserError(f"{pair.name}: {error}") from None
    seconds = time.perf_counter() - start
    displacement = voxel_displacement(field)
    values: dict[tuple[str, str], float] = {
        ("non_positive_jacobian", WHOLE): folding_percent(displacement) / 100,
        ("sdlogj", WHOLE): sd_log_jacobian(displacement),
        ("seconds", WHOLE): seconds,
    }
    if pair.moving_labels is not None and pair.fixed_labels is not None:
        labels = [
            read_labels_on(path, image)
            for path, image in ((pair.moving_labels, moving), (pair.fixed_labels, fixed))
        ]
        values |= score_labels(labels[0], labels[1], field, label_set=label_set)
    if pair.displacement is not None:
        values["endpoint_error_mm", WHOLE] = _endpoint_error(pair, field, fixed)
    results = [
        Result(
            task="registration",
            dataset=dataset,
            architecture=method.architecture,
            initialization=method.initialization,
            fold=0,
            case=pair.name,
            label=label,
            metric=metric,
            value=value,
            seed=method.seed,
            subject=pair.subject,
        )
        for (metric, label), value in values.items()
    ]
    return Scored(pair=pair, field=field, results=results)


def _endpoint_error(pair: Pair, field: TransformField, fixed: Volume) -> float:
    assert pair.displacement is not None
    truth = read_field(pair.displacement)
    field.grid.check_covers(
        truth.grid,
        name=str(pair.displacement),
        of=str(pair.fixed),
        advice="give the true field on the fixed image's grid",
    )
    is_inside = fixed.voxels > 0.05 * fixed.voxels.max()  # air has no true displacement to see
    return endpoint_error_mm(field.displacement_mm, truth.displacement_mm, is_inside)


def score_labels(
    moving: Volume, fixed: Volume, field: TransformField, *, label_set: LabelSet | None
) -> dict[tuple[str, str], float]:
    """Return metrics by (metric, structure); every label for itself without a label set."""
    structures: Mapping[str, Sequence[int]] = (
        structures_of(moving.voxels, fixed.voxels) if label_set is None else label_set.structures
    )
    groups = {} if label_set is None else label_set.groups
    nearest = apply_field(moving, field, is_labels=True).voxels
    linear = warp_linearly(moving, field, structures)
    by_metric = {
        "dice": dice_by_structure(nearest, fixed.voxels, moving.voxels, structures),
        "dice_linear": dice_by_structure(linear, fixed.voxels, moving.voxels, structures),
        "hd95": hd95_by_structure(
            nearest,
            fixed.voxels,
            moving.voxels,
            structures,
            spacing_mm=fixed.grid.spacing_mm.tolist(),
        ),
    }
    values: dict[tuple[str, str], float] = {}
    for metric, scores in by_metric.items():
        values |= _with_mean(metric, scores)
        if groups and metric != "hd95":
            merged = {
                group: mean_of_known(scores[member] for member in members)
                for group, members in groups.items()
            }
            values |= _with_mean(f"{metric}_group", merged)
    return values


def warp_linearly(
    labels: Volume, field: TransformField, structures: Mapping[str, Sequence[int]]
) -> np.ndarray:
    """Warp each label's mask linearly; the largest wins; what is no structure counts as background.

    Source: TransMorph's evaluation on IXI: one-hot, linear warp, argmax.
    """
    values = sorted({value for members in structures.values() for value in members} - {0})
    background = Volume(
        voxels=(~np.isin(labels.voxels, values)).astype(np.float32), affine=labels.affine
    )
    best = apply_field(background, field).voxels.copy()
    winner = np.zeros(best.shape, dtype=np.int32)
    for value in values:
        mask = labels.voxels == value
        if not mask.any():
            continue
        score = apply_field(
            Volume(voxels=mask.astype(np.float32), affine=labels.affine), field
        ).voxels
        is_better = score > best
        winner[is_better] = value
        best[is_better] = score[is_better]
    return winner


def _with_mean(metric: str, scores: Mapping[str, float]) -> dict[tuple[str, str], float]:
    rows = {(metric, label): value for label, value in scores.items()}
    return {**rows, (metric, MEAN): mean_of_known(scores.values())}


def score_pairs(
    pairs: Sequence[Pair],
    methods: Sequence[Method],
    *,
    dataset: str,
    label_set: LabelSet | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Iterator[Scored]:
    """Score every pair with every method."""
    for pair in pairs:
        for method in methods:
            yield score_pair(pair, method, dataset=dataset, label_set=label_set)
            progress()


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over the pairs, a row a model and metric."""
    rows = table[table["label"].isin([MEAN, WHOLE])]
    keys = ["dataset", "architecture", "initialization", "seed", "metric"]
    found = rows.groupby(keys, sort=False)["value"].agg(["mean", "std", "count"])
    return found.reset_index()


def compare_models(
    table: pd.DataFrame, first: str, second: str, *, metric: str
) -> PairedComparison:
    """Compare two models on the pairs that both registered: paired Wilcoxon test and bootstrap.

    Pairs of one subject count as one; a pair without a subject is one of its own.

    Args:
        table: a results table.
        first: ARCHITECTURE/INITIALIZATION.
        second: the same.
        metric: whose mean over the structures is compared; several seeds of a pair are averaged.

    Raises:
        UserError: a model is not in the table, or they have no pair in common.
    """
    rows = table[
        (table["task"] == "registration")
        & (table["metric"] == metric)
        & table["label"].isin([MEAN, WHOLE])
    ]
    columns = []
    for model in (first, second):
        architecture, _, initialization = model.rpartition("/")
        own = rows[
            (rows["architecture"] == architecture) & (rows["initialization"] == initialization)
        ]
        if own.empty:
            known = sorted(set(rows["architecture"] + "/" + rows["initialization"]))
            raise UserError(
                f"{model}: expected a model with {metric} in the table, "
                f"one of {', '.join(known) or 'none'}"
            )
        columns.append(own.groupby(["dataset", "case"])["value"].mean())
    both = pd.concat(columns, axis=1, keys=["first", "second"]).dropna()
    if both.empty:
        raise UserError(f"{first} and {second}: expected pairs in common, got none")
    stated = rows.groupby(["dataset", "case"])["subject"].max()  # "" where no row has one
    subjects = [f"{pair[0]}\n{stated[pair] or pair[1]}" for pair in both.index]
    return compare_values(both["first"].to_numpy(), both["second"].to_numpy(), subjects=subjects)


def picture_paths(output: Path) -> list[Path]:
    """Return where `draw_results` may write: a picture a metric, then the overlay."""
    return [output.with_name(f"{output.stem}_{name}.png") for name in (*_DRAWN_METRICS, "overlay")]


def draw_results(table: pd.DataFrame, shown: Sequence[Scored], output: Path) -> list[Path]:
    """Draw box plots by structure, and one pair registered by each method.

    Args:
        table: the results of this evaluation.
        shown: the same pair, once a method.
        output: the results table, beside which the pictures go.

    Returns:
        The pictures.
    """
    paths = []
    *places, overlay_path = picture_paths(output)
    for metric, path in zip(_DRAWN_METRICS, places, strict=True):
        rows = table[(table["metric"] == metric) & (table["label"] != MEAN)]
        if rows["value"].notna().any():
            figure = draw_box_plots(rows, metric=metric)
            paths.append(save_picture(figure, path))
    overlay = _draw_pair(shown)
    if overlay is not None:
        paths.append(save_picture(overlay, overlay_path))
    return paths


def _draw_pair(shown: Sequence[Scored]) -> Figure | None:
    pair = shown[0].pair if shown else None
    if pair is None or pair.fixed is None or not pair.has_labels:
        return None
    assert pair.fixed_labels is not None and pair.moving_labels is not None
    fixed, moving = read_image(pair.fixed), read_image(pair.moving)
    labels, truth = read_labels(pair.moving_labels), read_labels(pair.fixed_labels)
    rows = []
    for scored in shown:
        first = scored.results[0]
        warped = apply_field(moving, scored.field).voxels
        warped_labels = Volume(
            voxels=apply_field(labels, scored.field, is_labels=True).voxels, affine=fixed.affine
        )
        score = dice(warped_labels.voxels > 0, truth.voxels > 0)
        title = f"{first.architecture}\n{first.initialization} ({_dice_of(scored) or score:.3f})"
        image = Volume(
            voxels=normalize_intensity(warped, percentile=_WHITE_PERCENTILE), affine=fixed.affine
        )
        rows.append((title, image.to_ras().voxels, warped_labels.to_ras().voxels))
    still = Volume(
        voxels=normalize_intensity(fixed.voxels, percentile=_WHITE_PERCENTILE), affine=fixed.affine
    ).to_ras()
    return draw_overlay(
        still.voxels, truth.to_ras().voxels, rows, spacing_mm=still.grid.spacing_mm.tolist()
    )


def _dice_of(scored: Scored) -> float | None:
    return next((r.value for r in scored.results if (r.metric, r.label) == ("dice", MEAN)), None)
