"""The demo's result: Dice of both initialisations, as a table and as a picture."""

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from nnunet_triad.demo.material import Material
from nnunet_triad.demo.steps import ENCODER, INITIALIZATIONS, predictions
from nnunet_triad.evaluation import Result, append_results, score_folder
from nnunet_triad.files import save_figure
from nnunet_triad.images import Nan, read_labels, read_volume
from nnunet_triad.texts import read_json

_COLOURS = ("#4477aa", "#ccbb44", "#66ccee", "#ee6677", "#aa3377", "#228833")


def compare(folder: Path, material: Material) -> Path:
    """Score both predictions of the test cases, print the table and draw the picture.

    Returns:
        FOLDER/demo.png; the scores are in FOLDER/results.csv.
    """
    labels = _read_labels(folder / "nnUNet_raw" / material.dataset)
    table = _score(folder, material, labels)
    means = table.pivot_table(index="label", columns="initialization", values="value", sort=False)
    num_cases = table["case"].nunique()
    print(f"\nDice on {num_cases} test cases, mean by label:\n")
    pretrained, scratch = INITIALIZATIONS
    print(means.assign(difference=means[pretrained] - means[scratch]).round(3).to_string())
    return _draw(folder, material, table, labels)


def _read_labels(raw: Path) -> dict[str, int]:
    description = read_json(raw / "dataset.json")
    return {name: value for name, value in description["labels"].items() if value != 0}


def _score(folder: Path, material: Material, labels: dict[str, int]) -> pd.DataFrame:
    truths = folder / "nnUNet_raw" / material.dataset / "labelsTr"
    results = [
        Result(
            task="segmentation",
            dataset=material.dataset,
            architecture=ENCODER,
            initialization=initialization,
            fold=0,
            case=case,
            label=label,
            metric="dice",
            value=value,
        )
        for initialization in INITIALIZATIONS
        for case, label, value in score_folder(
            predictions(folder, material, initialization), truths, labels
        )
    ]
    (folder / "results.csv").unlink(missing_ok=True)  # of an earlier call
    append_results(folder / "results.csv", results)
    return pd.DataFrame(results)


def _draw(folder: Path, material: Material, table: pd.DataFrame, labels: dict[str, int]) -> Path:
    figure = Figure(figsize=(16, 8.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.2))  # type: ignore[misc]
    left.suptitle("1. Pre-training without labels: fresh steps")
    axes = left.subplots()
    axes.imshow(matplotlib.image.imread(folder / "pretrained" / "reconstructions.png"))
    axes.axis("off")
    top, bottom = right.subfigures(2, 1, height_ratios=(1.1, 1))
    top.suptitle("2. Fine-tuning inside nnU-Net, from triad-mini and from scratch: a test case")
    _draw_case(top, folder, material, table["case"].iloc[0], labels)
    bottom.suptitle(f"3. Dice on {table['case'].nunique()} test cases")
    _draw_scores(bottom.subplots(), table)
    return save_figure(figure, folder / "demo.png", dpi=110)


def _draw_case(
    figure: SubFigure, folder: Path, material: Material, case: str, labels: dict[str, int]
) -> None:
    raw = folder / "nnUNet_raw" / material.dataset
    files = sorted((raw / "imagesTr").glob(f"{case}_*.nii.gz"))
    channels = [read_volume(path, nan=Nan.REFUSE).voxels for path in files]
    maps = {"truth": read_labels(raw / "labelsTr" / f"{case}.nii.gz").voxels}
    for initialization in INITIALIZATIONS:
        path = predictions(folder, material, initialization) / f"{case}.nii.gz"
        maps[initialization] = read_labels(path).voxels
    box = _shown_box(channels[0], maps["truth"], labels)
    all_axes = list(figure.subplots(1, len(channels) + len(maps)))
    shown_axes = all_axes[: len(channels)]
    for axes, channel, name in zip(shown_axes, channels, _channel_names(raw), strict=True):
        axes.imshow(channel[box].T, cmap="gray", origin="lower")
        axes.set_title(name)
    colours = ListedColormap(_COLOURS[: max(labels.values())])
    for axes, (title, label_map) in zip(all_axes[len(channels) :], maps.items(), strict=True):
        axes.imshow(channels[0][box].T, cmap="gray", origin="lower")
        shown = np.ma.masked_equal(label_map[box].T, 0)
        axes.imshow(
            shown, cmap=colours, vmin=1, vmax=max(labels.values()), alpha=0.7, origin="lower"
        )
        axes.set_title(title)
    for axes in all_axes:
        axes.axis("off")
    handles: list[Any] = [
        Patch(color=_COLOURS[value - 1], label=name.replace("_", " "))
        for name, value in labels.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _channel_names(raw: Path) -> list[str]:
    description = read_json(raw / "dataset.json")
    return list(description["channel_names"].values())


def _shown_box(
    image: np.ndarray, truth: np.ndarray, labels: dict[str, int]
) -> tuple[slice, slice, int]:
    """Return the slice that shows the rarest label best, and what of it holds the head."""
    rarest = min(labels.values(), key=lambda value: (truth == value).sum() or np.inf)
    z = int((truth == rarest).sum(axis=(0, 1)).argmax())
    places = np.argwhere((image > 0).any(axis=2))
    x, y = (slice(max(0, low - 2), high + 3) for low, high in zip(*_range(places), strict=True))
    return x, y, z


def _range(places: np.ndarray) -> tuple[list[int], list[int]]:
    return places.min(axis=0).tolist(), places.max(axis=0).tolist()


def _draw_scores(axes: Axes, table: pd.DataFrame) -> None:
    """Bars of the mean, a dot a case."""
    names = list(dict.fromkeys(table["label"]))
    for offset, initialization, colour in zip(
        (-0.2, 0.2), reversed(INITIALIZATIONS), ("#bbbbbb", "#77aadd"), strict=True
    ):
        rows = table[table["initialization"] == initialization]
        groups = [rows.loc[rows["label"] == name, "value"] for name in names]
        places = np.arange(len(names)) + offset
        heights = [group.mean() for group in groups]
        axes.bar(places, heights, width=0.38, color=colour, label=initialization)
        for place, height in zip(places, heights, strict=True):
            axes.text(place, 0.02, f"{height:.2f}", ha="center", color="black")
        for place, group in zip(places, groups, strict=True):
            axes.plot([place] * len(group), group, "k.", markersize=4)
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylim(0, 1)
    axes.set_ylabel("Dice")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
