"""Registration without a model against ANTs' SyN: Dice, error, folding and CPU time, pair by pair.

    python -m benchmarks.registration_classical WORK [--hippocampus FOLDER] [--methods ours,syn]

Phantoms (`triad-phantom registration`, 3 mm, poses and all, whose displacement is known), the same
with another contrast, and pairs of different people of the Medical Segmentation Decathlon's
hippocampus task, drawn with a fixed seed. Each method runs on the original images with its own
alignment, on one thread; a process' CPU time is taken around it, without start and files. Rows go
to WORK/results.csv as they come: the same command continues, and leaves out what is there.
"""

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from nnunet_triad.cli import run_app
from nnunet_triad.errors import UserError
from nnunet_triad.files import write_table
from nnunet_triad.images import Volume, write_volume
from nnunet_triad.phantom.acquisition import acquire
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.sequences import SEQUENCES
from nnunet_triad.phantom.writers.brain_extraction import strip_skull
from nnunet_triad.phantom.writers.registration import displacement_between
from registration.metrics import dice_by_structure, endpoint_error_mm, structures_of
from registration.pairs import read_image, read_labels
from registration.references import voxel_displacement
from registration.spatial import folding_percent, sd_log_jacobian
from registration.transform_file import TransformField, apply_field, read_field

SEED = 20261201  # of the hippocampi's pairs
PHANTOM_SEED = 1
_METRICS = ("dice", "error_mm", "folding_percent", "sdlogj", "cpu_s")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images with labels; the true displacement where it is known."""

    name: str
    moving: Volume
    fixed: Volume
    moving_labels: Volume
    fixed_labels: Volume
    truth_mm: np.ndarray | None = None  # (x, y, z, 3), RAS


def phantoms(num_pairs: int, moving_sequence: str = "T1w") -> Iterator[Pair]:
    """Yield the template moved to each of some subjects; the fixed images are T1-weighted."""
    population = Population(
        num_subjects=num_pairs + 1, seed=PHANTOM_SEED, spacing_mm=3.0, lesion="none"
    )
    atlas = population.subject(0)
    moving, moving_labels = _phantom(population, 0, moving_sequence)
    for number in range(1, num_pairs + 1):
        fixed, labels = _phantom(population, number, "T1w")
        truth = displacement_between(atlas, population.subject(number))
        yield Pair(
            name=f"subject {number}",
            moving=moving,
            fixed=fixed,
            moving_labels=moving_labels,
            fixed_labels=labels,
            truth_mm=np.moveaxis(truth, 0, -1),
        )


def _phantom(population: Population, number: int, sequence: str) -> tuple[Volume, Volume]:
    volume = acquire(
        population.subject(number),
        SEQUENCES[sequence],
        population.scanner(number),
        seed=population.seed,
    )
    volume = strip_skull(volume)
    affine = volume.affine.astype(np.float64)
    image = Volume(voxels=volume.stored.astype(np.float32), affine=affine)
    return image, Volume(voxels=volume.labels.astype(np.int32), affine=affine)


def hippocampi(folder: Path, num_pairs: int, *, first: int = 0) -> Iterator[Pair]:
    """Yield pairs of volumes in a random order that a seed fixes; no volume comes twice."""
    names = sorted(path.name for path in (folder / "imagesTr").glob("hippocampus_*.nii.gz"))
    if len(names) < 2 * (first + num_pairs):
        raise UserError(
            f"{folder}: expected imagesTr of Task04_Hippocampus, got {len(names)} files"
        )
    order = np.random.default_rng(SEED).permutation(len(names))
    for number in range(first, first + num_pairs):
        one, other = (names[order[2 * number + side]] for side in range(2))
        yield Pair(
            name=f"{one[12:15]} to {other[12:15]}",
            moving=read_image(folder / "imagesTr" / one),
            fixed=read_image(folder / "imagesTr" / other),
            moving_labels=read_labels(folder / "labelsTr" / one),
            fixed_labels=read_labels(folder / "labelsTr" / other),
        )


def ours(pair: Pair, similarity: str = "lncc") -> tuple[TransformField, float]:
    """Register as `triad-register apply` does without a model, with the inverse, as ANTs has it."""
    from registration.classical import Options, register_pair

    start = time.process_time()
    found = register_pair(pair.moving, pair.fixed, Options(similarity=similarity, has_inverse=True))
    field = found.field(pair.fixed.grid)
    return field, time.process_time() - start


def ants(kind: str, pair: Pair, **options: str) -> tuple[TransformField, float]:
    """Register by antspyx with its published settings."""
    import ants as antspyx

    with tempfile.TemporaryDirectory() as name:
        images = []
        for role, image in (("moving", pair.moving), ("fixed", pair.fixed)):
            path = Path(name) / f"{role}.nii.gz"
            write_volume(path, image.voxels, image.affine)
            images.append(antspyx.image_read(str(path)))
        moving, fixed = images
        start = time.process_time()
        found = antspyx.registration(
            fixed=fixed,
            moving=moving,
            type_of_transform=kind,
            outprefix=f"{name}/ants_",
            **options,
        )
        seconds = time.process_time() - start
        composed = antspyx.apply_transforms(
            fixed=fixed,
            moving=moving,
            transformlist=found["fwdtransforms"],
            compose=f"{name}/whole_",
        )
        return read_field(Path(composed)), seconds


# SyN: mutual information over 4x, 2x and 1x, 40, 20 and 0 iterations; SyNCC: cross-correlation of
# radius 4 and 2100, 1200, 1200 and 20 iterations; each with its own rigid and affine stages.
METHODS: dict[str, Callable[[Pair], tuple[TransformField, float]]] = {
    "ours": ours,
    "mind": lambda pair: ours(pair, "mind"),
    "syn": lambda pair: ants("SyN", pair),
    "syncc": lambda pair: ants("SyNCC", pair),
}


def score(pair: Pair, field: TransformField) -> dict[str, float]:
    """Return mean Dice (labels warped by nearest neighbour), error in the tissue, folding."""
    truth = pair.fixed_labels.voxels
    warped = apply_field(pair.moving_labels, field, is_labels=True).voxels
    scores = dice_by_structure(
        warped, truth, pair.moving_labels.voxels, structures_of(truth, pair.moving_labels.voxels)
    )
    displacement = voxel_displacement(field)
    values = {
        "dice": float(np.nanmean(list(scores.values()))),
        "folding_percent": folding_percent(displacement),
        "sdlogj": sd_log_jacobian(displacement),
    }
    if pair.truth_mm is not None:
        values["error_mm"] = endpoint_error_mm(field.displacement_mm, pair.truth_mm, truth > 0)
    return values | {f"dice_{name}": value for name, value in scores.items()}


def run(work: Path, sets: dict[str, Callable[[], Iterator[Pair]]], methods: list[str]) -> Path:
    """Run what is not in WORK/results.csv yet."""
    path = work / "results.csv"
    rows: list[dict[Any, Any]] = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {(row["set"], row["pair"], row["method"]) for row in rows}
    for name, pairs in sets.items():
        for pair in pairs():
            for method in methods:
                if (name, pair.name, method) in done:
                    continue
                field, seconds = METHODS[method](pair)
                about: dict[Any, Any] = {"set": name, "pair": pair.name, "method": method}
                rows.append({**about, "cpu_s": seconds, **score(pair, field)})
                write_table(path, pd.DataFrame(rows))
                print(f"{name}: {pair.name}, {method}: {rows[-1]['dice']:.4f}", flush=True)
    return path


def summary(table: pd.DataFrame) -> str:
    """Return a Markdown table: mean and standard deviation over the pairs; then differences."""
    lines = [
        f"| set | method | pairs | {' | '.join(_METRICS)} |",
        "|---" * (3 + len(_METRICS)) + "|",
    ]
    for (name, method), group in table.groupby(["set", "method"], sort=False):
        cells = [
            f"{group[m].mean():.4g} ± {group[m].std():.2g}"
            if group.get(m, group["dice"] * np.nan).notna().any()
            else ""
            for m in _METRICS
        ]
        lines.append(f"| {name} | {method} | {len(group)} | {' | '.join(cells)} |")
    lines += [
        "",
        "| set | difference to ours, same pairs | metric | mean | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for name, group in table.groupby("set", sort=False):
        for method in [m for m in group["method"].unique() if m != "ours"]:
            lines += _differences(str(name), method, group)
    return "\n".join(lines)


def _differences(name: str, method: str, group: pd.DataFrame) -> list[str]:
    lines = []
    for metric in ("dice", "error_mm", "cpu_s"):
        if metric not in group or group[metric].isna().all():
            continue
        wide = group.pivot_table(index="pair", columns="method", values=metric)
        gaps = (wide["ours"] - wide[method]).dropna().to_numpy() if "ours" in wide else np.array([])
        if len(gaps):
            draws = np.random.default_rng(0).choice(gaps, (10_000, len(gaps))).mean(axis=1)
            low, high = np.percentile(draws, (2.5, 97.5))
            lines.append(
                f"| {name} | ours - {method} ({len(gaps)}) | {metric} | {gaps.mean():+.4g} | "
                f"{low:+.4g} to {high:+.4g} |"
            )
    return lines


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(help=(__doc__ or "").partition("\n")[0])
def main(
    work: Annotated[Path, typer.Argument(help="Folder of results.csv.")],
    hippocampus: Annotated[
        Path | None, typer.Option(help="Task04_Hippocampus, as published; without it: phantoms.")
    ] = None,
    methods: Annotated[str, typer.Option(help=f"Of {', '.join(METHODS)}.")] = "ours,syn",
    num_phantoms: Annotated[int, typer.Option("--phantoms", help="Pairs of phantoms.")] = 10,
    num_hippocampi: Annotated[int, typer.Option("--pairs", help="Pairs of hippocampi.")] = 40,
) -> None:
    """Run the comparison."""
    chosen = [name for name in methods.split(",") if name]
    for name in chosen:
        if name not in METHODS:
            raise UserError(f"methods: expected some of {', '.join(METHODS)}, got {name}")
    if chosen != ["ours"] and importlib.util.find_spec("ants") is None:
        print("antspyx is not installed: ours alone (pip install antspyx)", flush=True)
        chosen = [name for name in chosen if name == "ours"]
    _use_one_thread()
    sets: dict[str, Callable[[], Iterator[Pair]]] = {}
    if num_phantoms:
        sets["phantoms"] = lambda: phantoms(num_phantoms)
        sets["phantoms, T2 to T1"] = lambda: phantoms(num_phantoms, "T2w")
    if hippocampus is not None:
        sets["hippocampi"] = lambda: hippocampi(hippocampus, num_hippocampi)
    print(summary(pd.read_csv(run(work, sets, chosen))))


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # read when ITK first asks


if __name__ == "__main__":
    run_app(app)
