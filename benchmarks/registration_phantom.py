"""Registration of phantom brains whose true displacement is known.

    python -m benchmarks.registration_phantom WORK WEIGHTS.safetensors

Each run trains on atlas-to-subject pairs and is scored on subjects that it never saw: Dice,
endpoint error and folding, before training and after. Runs that are there already are not repeated.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from nnunet_triad.evaluation import append_results, read_results
from nnunet_triad.weights import load_weights
from registration.evaluate import score_pairs
from registration.loop import start_training, train
from registration.model_file import ModelInfo, save_model
from registration.references import Method, affine_method, model_method
from registration.settings import RegistrationSettings
from registration.training_data import load_data

NETWORKS = ("transmorph_t", "swinunetr_t")
SEEDS = (0, 1, 2)
SPACING_MM = 7.0
MARGIN = 1  # voxels around the brains
SETTINGS = RegistrationSettings(
    network="transmorph_t",
    epochs=4,
    learning_rate=1e-2,
    has_flips=False,
    is_half_resolution=True,
    picture_every=1000,
)


def main(work: Path, weights: Path) -> None:
    """Make the data, do the runs that are missing, and print the table."""
    manifest = _make_data(work / "data")
    results = work / "results.csv"
    data = load_data(manifest, SETTINGS)
    _score([affine_method("none"), affine_method("affine")], work, results)
    for network in NETWORKS:
        for seed in SEEDS:
            for initialization in ("scratch", "triad"):
                settings = replace(SETTINGS, network=network, seed=seed)
                encoder = None if initialization == "scratch" else load_weights(weights)
                folder = work / f"{network}_{initialization}_{seed}"
                _untrained(folder / "untrained", settings, data, encoder)
                model = train(data, folder, settings=settings, weights=encoder)
                after = model_method(model, alignment="none")
                before = model_method(folder / "untrained", alignment="none")
                label = f"{network} untrained"
                _score([replace(before, architecture=label), after], work, results)
    print(_table(read_results(results)))


def _make_data(folder: Path) -> Path:
    """Simulate 31 brains, and cut the air around them off so that they fit small networks."""
    manifest = folder / "manifest.csv"
    if manifest.is_file():
        return manifest
    raw = folder / "raw"
    command = ["triad-phantom", "registration", str(raw), "--subjects", "31", "--seed", "7"]
    script = "import sys; from nnunet_triad.phantom.cli import main; main()"
    subprocess.run(
        [sys.executable, "-c", script, *command[1:], "--spacing-mm", str(SPACING_MM)], check=True
    )
    box = _common_box(sorted((raw / "labels").glob("sub-*.nii.gz")))
    for file in sorted(raw.glob("*/sub-*.nii.gz")):
        target = folder / file.relative_to(raw)
        target.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.load(file).slicer[box], target)
    manifest.write_text((raw / "manifest.csv").read_text())
    return manifest


def _common_box(label_files: list[Path]) -> tuple[slice, ...]:
    inside = np.any([np.asarray(nib.load(file).dataobj) > 0 for file in label_files], axis=0)
    places = np.nonzero(inside)
    return tuple(slice(max(int(p.min()) - MARGIN, 0), int(p.max()) + 1 + MARGIN) for p in places)


def _untrained(folder, settings, data, encoder) -> None:  # type: ignore[no-untyped-def]
    training = start_training(data, settings, encoder)
    spacing = (SPACING_MM,) * 3
    info = ModelInfo(settings=settings, spacing_mm=spacing, initialization=training.source)
    save_model(folder / "model.safetensors", training.network, info)


def _score(methods: list[Method], work: Path, results: Path) -> None:
    """Score the test pairs with the methods that the table does not have yet."""
    if results.exists():
        table = read_results(results)
        done = set(zip(table["architecture"], table["initialization"], table["seed"], strict=True))
        methods = [m for m in methods if (m.architecture, m.initialization, m.seed) not in done]
    test = load_data(work / "data" / "manifest.csv").test
    for scored in score_pairs(test, methods, dataset="Phantom"):
        append_results(results, scored.results)


def _table(table: pd.DataFrame) -> str:
    """Return mean and standard deviation over the seeds of the mean over the test pairs."""
    metrics = {
        ("dice", "mean"): ("Dice", 1.0, 4),
        ("endpoint_error_mm", ""): ("endpoint error, mm", 1.0, 2),
        ("non_positive_jacobian", ""): ("folding, %", 100.0, 3),
    }
    keys = ["architecture", "initialization"]
    rows = [
        f"| what | encoder | {' | '.join(title for title, _, _ in metrics.values())} |",
        "|---|---|---|---|---|",
    ]
    for (architecture, initialization), group in table.groupby(keys, sort=False):
        cells = []
        for (metric, label), (_, factor, digits) in metrics.items():
            chosen = group[(group["metric"] == metric) & (group["label"] == label)]
            means = factor * chosen.groupby("seed")["value"].mean()
            spread = f" ± {means.std():.{digits}f}" if len(means) > 1 else ""
            cells.append(f"{means.mean():.{digits}f}{spread}")
        rows.append(f"| {architecture} | {initialization} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
