"""A picture of one validation case: the image, the truth, the prediction."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nnunet_triad.files import save_figure, write_json
from nnunet_triad.images import Nan, read_labels, read_volume

# Colour-blind safe (Paul Tol's bright scheme); later labels start again.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


def draw_segmentation(
    picture: Path,
    raw: Path | None,
    preprocessed: Path,
    predictions: Path,
    labels: Mapping[frozenset[int], str],
) -> bool:
    """Draw the first validation case by name, in the axial slice with most labelled voxels.

    The choice does not depend on the prediction, so the pictures of several runs show the same
    slice, and nobody has picked a good one.

    Args:
        picture: the PNG to write.
        raw: nnU-Net's raw dataset, for the image; None when it is gone.
        preprocessed: nnU-Net's preprocessed dataset, for the truth.
        predictions: the validation folder.
        labels: label values -> name.

    Returns:
        Whether it was drawn: the images must be NIfTI and still be there.
    """
    cases = sorted(path.name for path in predictions.glob("*.nii.gz"))
    if not cases or raw is None:
        return False
    image = raw / "imagesTr" / cases[0].replace(".nii.gz", "_0000.nii.gz")
    truth = preprocessed / "gt_segmentations" / cases[0]
    if not image.is_file() or not truth.is_file():
        return False
    shown, truth_map, prediction = (
        volume.to_ras().voxels
        for volume in (
            read_volume(image, nan=Nan.LOWEST, min_length=1),
            read_labels(truth),
            read_labels(predictions / cases[0]),
        )
    )
    maps = {"image": None, "truth": truth_map, "prediction": prediction}
    _draw(picture, shown, maps, labels)
    about = {"case": cases[0].removesuffix(".nii.gz"), "labels": sorted(labels.values())}
    write_json(picture.with_suffix(".json"), about)
    return True


def _draw(
    picture: Path,
    image: np.ndarray,
    maps: Mapping[str, np.ndarray | None],
    labels: Mapping[frozenset[int], str],
) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    truth = maps["truth"]
    assert truth is not None
    counts = (truth > 0).sum(axis=(0, 1))
    z = int(np.median(np.flatnonzero(counts == counts.max())))  # the middle one of equals
    figure = Figure(figsize=(9, 3.2), layout="constrained", facecolor="white")
    low, high = np.percentile(image, (1, 99.5))
    for axes, (title, label_map) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
        axes.imshow(image[:, :, z].T, cmap="gray", origin="lower", vmin=low, vmax=high)
        if label_map is not None:
            axes.imshow(_colours(label_map[:, :, z].T), origin="lower")
        axes.set_title(title)
        axes.axis("off")
    handles = [Patch(color=_colour(value), label=name) for value, name in _names(labels).items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    save_figure(figure, picture, dpi=100)


def _names(labels: Mapping[frozenset[int], str]) -> dict[int, str]:
    """Return a name for each label value: that of the smallest region which holds it."""
    by_size = sorted(labels.items(), key=lambda item: -len(item[0]))
    return {value: name for values, name in by_size for value in sorted(values)}


def _colour(value: int) -> str:
    return _COLOURS[(value - 1) % len(_COLOURS)]


def _colours(label_map: np.ndarray) -> np.ndarray:
    """Return RGBA of a slice of label values; 0 is transparent."""
    rgba = np.zeros((*label_map.shape, 4))
    for value in np.unique(label_map[label_map > 0]).astype(int):
        colour = _colour(value).lstrip("#")
        rgb = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        rgba[label_map == value] = (*rgb, 0.65)
    return rgba
