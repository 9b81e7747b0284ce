"""Classification and registration of phantoms by the commands that a user could type."""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd

from nnunet_triad.evaluation.results import read_results
from registration.evaluate import score_pair
from registration.manifest import Pair, read_manifest
from registration.model_file import ModelInfo, build_network, save_model
from registration.references import Method, affine_method, model_method, syn_method
from registration.settings import RegistrationSettings
from registration.transform_file import read_field
from studies.command import run
from studies.design import DATA, REFERENCES, SCRATCH, TRAININGS, Scale, Trial

BEFORE = "before"  # network of the rows that say how far apart a pair was
_SIZE, _EPOCHS, _PASSES = 32, 24, 16
_NUM_REFINEMENTS = 60
# Not the paper's, which needs 80,000 steps: a higher rate for a short training, and a smaller
# window and a stronger regulariser for voxels of 6 mm, chosen on validation pairs.
_WINDOW, _GRADIENT_WEIGHT = 5, 2.0


def run_task(
    trial: Trial, work: Path, *, manifest: Path, weights: Path | None, scale: Scale
) -> pd.DataFrame:
    """Train a network and measure it on the test part.

    Args:
        trial: what to do.
        work: folder of the run; deleted at its end, and gone on with when it is there.
        manifest: of `make_data`.
        weights: file to start the encoder from; None: from scratch.
        scale: how much of it.

    Returns:
        Columns network (the trial's, or another one's beside it), case ("" of a metric of all
        cases together), label, metric, value.
    """
    if trial.training == REFERENCES:
        table = _score_references(work, manifest)
    else:
        train = _register if trial.task == "registration" else _classify
        table = train(trial, work, manifest, weights or SCRATCH, scale)
    shutil.rmtree(work)
    return table[["network", "case", "label", "metric", "value"]]


def _classify(
    trial: Trial, work: Path, manifest: Path, init: Path | str, scale: Scale
) -> pd.DataFrame:
    epochs = int(min(DATA[trial.data].passes or _EPOCHS, scale.most_epochs))
    run(
        *("triad-classify", "train", manifest, work, "--encoder", trial.network, "--init", init),
        *TRAININGS[trial.training].options,
        *DATA[trial.data].options,
        *("--size", _SIZE, "--epochs", epochs),
        *("--warmup-epochs", min(2, epochs - 1), "--batch-size", 4),
        *("--select", "balanced-accuracy", "--seed", trial.seed, "--device", "cpu"),
        *("--cache", work / "cache"),
    )
    cases = read_results(work / "results.csv")
    cases = cases[cases.metric == "correct"]
    cases = cases.assign(case=[Path(case).name for case in cases.case])  # wherever the images lie
    together = pd.read_csv(work / "metrics.csv", keep_default_na=False).assign(case="")
    return pd.concat([cases, together]).assign(network=trial.network)


def _register(
    trial: Trial, work: Path, manifest: Path, init: Path | str, scale: Scale
) -> pd.DataFrame:
    passes = int(min(DATA[trial.data].passes or _PASSES, scale.most_epochs))
    run(
        *("triad-register", "train", manifest, work, "--network", trial.network, "--init", init),
        *("--epochs", passes, "--learning-rate", 2e-3),
        *("--lncc-window", _WINDOW, "--gradient-weight", _GRADIENT_WEIGHT),
        *("--intensity", "zscore"),  # as the encoders were pre-trained, from scratch too
        *("--no-flips", "--half-resolution", "--picture-every", 1000),
        *("--seed", trial.seed, "--device", "cpu"),
    )
    results = work / "results.csv"
    results.unlink(missing_ok=True)  # of an evaluation that was stopped
    run(
        *("triad-register", "evaluate", manifest, "--output", results, "--model", work),
        *("--reference", BEFORE, "--device", "cpu"),
    )
    table = read_results(results)
    return _of_whole_pairs(
        table.assign(network=table.architecture.where(table.architecture == BEFORE, trial.network))
    )


def _of_whole_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are no single structure's."""
    return table[table.label.isin(["", "mean"])]


def _score_references(work: Path, manifest: Path) -> pd.DataFrame:
    """Score what needs no training, and the truth itself: Dice cannot exceed its value."""
    settings = RegistrationSettings(
        network="transmorph_t",
        lncc_window=_WINDOW,
        gradient_weight=_GRADIENT_WEIGHT,
        is_half_resolution=True,
        intensity="zscore",
    )
    work.mkdir(parents=True, exist_ok=True)
    untrained = work / "model.safetensors"
    info = ModelInfo(settings=settings, spacing_mm=(6.0, 6.0, 6.0))
    save_model(untrained, build_network(settings), info)
    refined = model_method(untrained, alignment="none", num_refinements=_NUM_REFINEMENTS)
    methods = [
        affine_method("none"),
        replace(refined, architecture=f"{_NUM_REFINEMENTS} refinements"),
    ]
    if importlib.util.find_spec("ants") is not None:
        methods.append(syn_method())
    rows = []
    for pair in read_manifest(manifest):
        if pair.split == "test":
            for method in (*methods, _truth(pair)):
                rows += score_pair(pair, method, dataset=manifest.parent.name).results
    return _of_whole_pairs(pd.DataFrame([vars(row) for row in rows])).rename(
        columns={"architecture": "network"}
    )


def _truth(pair: Pair) -> Method:
    assert pair.displacement is not None
    field = read_field(pair.displacement)
    return Method(
        architecture="true displacement",
        initialization="none",
        register=lambda moving, fixed: field,
    )
