"""Whole runs: what they leave, what they learn, and that a killed one ends as if it were whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.preprocessing import StandardScaler

from classification import features as features_module
from classification import loop
from classification.compare import compare
from classification.data import ClassificationData
from classification.dry_run import measure
from classification.features import PENALTIES, Features, fit_linear, read_or_compute
from classification.initialization import read_weights
from classification.loop import (
    epoch_loader,
    finetune,
    open_folder,
    run_epoch,
    start_training,
    train_step,
)
from classification.model import Classifier
from classification.model_file import Description, Model, build_network, load_model
from classification.predict import read_predictions
from classification.run import train
from classification.saliency import saliency_map
from classification.settings import PreprocessSettings, TrainSettings
from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.results import read_results
from nnunet_triad.training.state_file import save_state
from nnunet_triad.training.stop_signal import StopSignal, TrainingStopped
from nnunet_triad.training.training_log import TrainingLog
from nnunet_triad.weights.file import WeightsInfo, save_weights

CPU = torch.device("cpu")
FILES = (
    *("settings.json", "model.pt", "log.csv", "predictions.csv", "metrics.csv", "results.csv"),
    *("confusion.png", "roc.png", "calibration.png", "training.png"),
)


def read_log(folder: Path) -> pd.DataFrame:
    """Return a run's log without what differs from run to run."""
    return pd.read_csv(folder / "log.csv").drop(columns="seconds")


@pytest.fixture(scope="module")
def run_folder(data, tmp_path_factory) -> Path:
    """A run of a few epochs on a little more than the nine training volumes."""
    output = tmp_path_factory.mktemp("run")
    settings = TrainSettings(
        encoder="swin_t",
        preprocess=PreprocessSettings(size=32),
        epochs=6,
        batch_size=3,
        warmup_epochs=1,
        augmentation="none",
    )
    train(data, output, settings=settings, device=CPU, is_quiet=True)
    return output


def test_run_leaves_model_tables_and_figures(run_folder):
    assert [name for name in FILES if not (run_folder / name).exists()] == []
    settings = json.loads((run_folder / "settings.json").read_text())
    assert (settings["encoder"], settings["preprocess"]["size"]) == ("swin_t", 32)
    log = pd.read_csv(run_folder / "log.csv")
    assert log["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert log["learning_rate"].iloc[0] == pytest.approx(1e-3)  # the warm-up's end
    assert log["learning_rate"].iloc[-1] < 1e-4


def test_run_learns(run_folder):
    log = pd.read_csv(run_folder / "log.csv")
    assert log["loss"].iloc[-1] < 0.6 * log["loss"].iloc[0]


def test_run_keeps_the_best_epoch_of_validation(run_folder):
    log = pd.read_csv(run_folder / "log.csv")
    best = log.sort_values(["val_accuracy", "val_loss"], ascending=[False, True]).iloc[0]
    assert load_model(run_folder).epoch == best["epoch"]


def test_tables_say_the_same(run_folder):
    predictions = read_predictions(run_folder)
    assert predictions.classes == ("bright", "dark", "striped")
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1)
    metrics = pd.read_csv(run_folder / "metrics.csv", keep_default_na=False)
    accuracy = float(metrics.set_index("metric").loc["accuracy", "value"])
    rows = read_results(run_folder / "results.csv")
    correct = rows[rows["metric"] == "correct"]
    assert correct["value"].mean() == pytest.approx(accuracy)
    assert (len(correct), len(rows)) == (3, 3 + 3 * 3)
    assert set(rows["initialization"]) == {"scratch"}


def test_killed_run_ends_as_if_it_had_never_stopped(data, tmp_path, make_settings):
    """SIGKILL in the middle of an epoch, checkpoints after each step; then the same command."""
    settings = make_settings(epochs=2, checkpoint_every=1)
    finetune(data, tmp_path / "whole", settings=settings, device=CPU, is_quiet=True)
    cache = data.cache.files[0][0].parent
    killed = tmp_path / "killed"
    code = (
        "import torch; from pathlib import Path; torch.set_num_threads(1)\n"
        "from classification.manifest import read_manifest\n"
        "from classification.run import load_data\n"
        "from classification.loop import finetune\n"
        "from classification.settings import PreprocessSettings, TrainSettings\n"
        "s = TrainSettings(encoder='swin_t', preprocess=PreprocessSettings(size=32), epochs=2,"
        " batch_size=3, warmup_epochs=1, checkpoint_every=1)\n"
        f"m = read_manifest(Path({str(data.manifest.path)!r}))\n"
        f"d = load_data(m, s, Path({str(cache)!r}))\n"
        f"p = Path({str(killed)!r})\n"
        "finetune(d, p, settings=s, device=torch.device('cpu'), is_quiet=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while not (killed / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    stopped = torch.load(killed / "checkpoint.pt", weights_only=True)
    assert (stopped["step"], stopped["batch"]) < (2, 0)
    finetune(data, killed, settings=settings, device=CPU, is_quiet=True)
    whole, resumed = (load_model(tmp_path / name) for name in ("whole", "killed"))
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
    logs = [read_log(tmp_path / name) for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(logs[0], logs[1], check_exact=True)


def test_stop_signal_saves_within_the_epoch(data, tmp_path, make_settings):
    training = start_training(data, make_settings(), CPU)
    stop = StopSignal()
    stop.is_requested = True
    columns = ("epoch", "loss")
    with (
        open_folder(data, tmp_path) as folder,
        TrainingLog(tmp_path, columns, first_step=0, steps=2, is_quiet=True) as log,
        pytest.raises(TrainingStopped, match="epoch 1"),
    ):
        run_epoch(training, folder, log, stop)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (saved["step"], saved["batch"]) == (0, 1)


def test_checkpoint_of_another_command_is_refused_in_one_line(data, tmp_path, make_settings):
    settings = {"network": "transmorph_t", "epochs": 2}
    content = {"settings": settings, "data_fingerprint": "", "model": {}, "optimizer": {}}
    save_state(tmp_path / "checkpoint.pt", content, step=1)
    with pytest.raises(UserError, match=r"expected a file of triad-classify train, got one of ano"):
        finetune(data, tmp_path, settings=make_settings(), device=CPU, is_quiet=True)


def test_weights_that_were_read_are_not_read_again(data, tmp_path, make_settings):
    spec = encoder_spec("swin_t")
    path = tmp_path / "triad_swin_t.safetensors"
    save_weights(path, build_encoder(spec), WeightsInfo(spec=spec))
    settings = make_settings(init=str(path))
    weights = read_weights(settings)
    path.unlink()

    training = start_training(data, settings, CPU, weights)

    assert training.initialization == training.description.transfer["sha256"] == weights.sha256


@pytest.mark.parametrize("map_intensity", [True, False])
def test_weights_of_another_intensity_scale_see_it(data, tmp_path, make_settings, map_intensity):
    """Percentiles to 0 and 1, where the cubes are z-scores: the map is told from the samples."""
    spec = encoder_spec("swin_t")
    path = tmp_path / "triad_swin_t.safetensors"
    encoder = build_encoder(spec)
    info = WeightsInfo(spec=spec, axes="xyz", intensity_normalization="percentiles 0.5 99.5")
    save_weights(path, encoder, info)
    settings = make_settings(init=str(path), map_intensity=map_intensity)
    training = start_training(data, settings, CPU)
    rows = data.manifest.rows("train")
    image = data.load(int(rows[0])).float()[None]
    stem = training.network.encoder.patch_embed
    mapped = image
    if map_intensity:
        values = [data.load(int(row)).float().numpy() for row in rows[:16]]
        lows, highs = (
            np.median([np.percentile(v, q, axis=(1, 2, 3)) for v in values], axis=0)
            for q in (0.5, 99.5)
        )
        shape = (1, -1, 1, 1, 1)
        low, high = (torch.tensor(v, dtype=torch.float32).view(shape) for v in (lows, highs))
        mapped = (image - low) / (high - low)
    found = stem(image)
    expected = encoder.patch_embed(mapped.mean(dim=1, keepdim=True))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert training.description.transfer["axes"] == "xyz, as the weights saw them"


def test_gradcam_is_along_the_image_s_axes_where_the_encoder_s_are_others():
    spec = encoder_spec("swin_t")
    torch.manual_seed(0)
    network = Classifier(spec, torch.nn.Linear(spec.channels[-1], 2)).eval()
    image = torch.randn(1, 1, 64, 64, 64)
    same = Model(path=Path("m"), network=network, settings=None, description=None, epoch=0)
    expected = saliency_map(same, image, "gradcam")
    network.encoder.compute_as(merging="new", order=(1, 2, 0))
    back = image.permute(0, 1, 4, 2, 3)  # what the encoder sees is the image again
    found = saliency_map(same, back, "gradcam")
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=1e-4)


def test_run_goes_on_from_the_same_weights_in_another_place_and_from_no_others(
    data, tmp_path, make_settings
):
    spec, run = encoder_spec("swin_t"), tmp_path / "run"
    for name, licence in (("a", "MIT"), ("other", "CC0-1.0")):
        torch.manual_seed(0)
        info = WeightsInfo(spec=spec, licence=licence)
        save_weights(tmp_path / f"{name}.safetensors", build_encoder(spec), info)
    settings = make_settings(init=str(tmp_path / "a.safetensors"), epochs=1)
    finetune(data, run, settings=settings, device=CPU, is_quiet=True)

    moved = (tmp_path / "a.safetensors").rename(tmp_path / "moved.safetensors")
    finetune(data, run, settings=replace(settings, init=str(moved)), device=CPU, is_quiet=True)

    other = replace(settings, init=str(tmp_path / "other.safetensors"))
    with pytest.raises(UserError, match="init: expected the weights with which"):
        finetune(data, run, settings=other, device=CPU, is_quiet=True)


@pytest.mark.parametrize("mode", ["finetune", "knn"])
def test_settings_are_written_first_and_a_second_run_is_refused(
    data, tmp_path, make_settings, monkeypatch, mode
):
    seen = []

    def look(*_, **__):
        seen.append(json.loads((tmp_path / "settings.json").read_text()))
        with pytest.raises(UserError, match="in which no other process trains"):
            fit(data, tmp_path, settings=settings, device=CPU, is_quiet=True)
        raise KeyboardInterrupt

    fit, settings = (
        finetune if mode == "finetune" else features_module.probe,
        make_settings(mode=mode),
    )
    monkeypatch.setattr(loop, "run_epoch", look)
    monkeypatch.setattr(features_module, "read_or_compute", look)
    with pytest.raises(KeyboardInterrupt):
        fit(data, tmp_path, settings=settings, device=CPU, is_quiet=True)
    assert seen[0]["manifest"] == str(data.manifest.path)
    assert seen[0]["mode"] == mode


def test_missing_memory_is_told_in_one_line(data, tmp_path, make_settings, monkeypatch):
    def fail(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(loop, "train_step", fail)
    with pytest.raises(UserError, match=r"memory: expected enough .*smaller --batch-size"):
        finetune(data, tmp_path, settings=make_settings(), device=CPU, is_quiet=True)


def test_epoch_after_a_nan_on_validation_replaces_it(data, tmp_path, make_settings, monkeypatch):
    scores = iter([np.nan, 2.0])

    def validate(training):
        value = next(scores)
        return {"val_loss": value, "val_accuracy": 0.5, "val_balanced_accuracy": 0.5}

    monkeypatch.setattr(loop, "validate", validate)
    settings = make_settings(select="loss")
    path = finetune(data, tmp_path, settings=settings, device=CPU, is_quiet=True)
    assert load_model(path).epoch == 2


def test_other_settings_or_data_are_refused(data, run_folder, make_settings):
    settings = load_model(run_folder).settings
    with pytest.raises(UserError, match=r"learning_rate: expected 0.001, with which"):
        other = replace(settings, learning_rate=0.1)
        finetune(data, run_folder, settings=other, device=CPU, is_quiet=True)
    labels = (data.manifest.labels + 1) % len(data.manifest.classes)
    others = replace(data.manifest, labels=labels)
    fewer = ClassificationData(manifest=others, cache=data.cache)
    with pytest.raises(UserError, match="expected the images, labels and splits"):
        finetune(fewer, run_folder, settings=settings, device=CPU, is_quiet=True)


def test_the_encoder_takes_its_share_of_the_rate(data, tmp_path, make_settings):
    settings = make_settings(learning_rate=1e-3, encoder_rate=0.1, warmup_epochs=0, batch_size=2)
    training = start_training(data, settings, CPU)
    before = {name: p.detach().clone() for name, p in training.network.named_parameters()}

    train_step(training, next(iter(epoch_loader(training))))

    # Adam's first step moves every value by the rate, where its gradient is not zero.
    moved = {
        name: float((p.detach() - before[name]).abs().max())
        for name, p in training.network.named_parameters()
    }
    encoder = [m for name, m in moved.items() if name.startswith("encoder.")]
    others = [m for name, m in moved.items() if not name.startswith("encoder.")]
    assert max(encoder) == pytest.approx(1e-4, rel=1e-2)
    assert max(others) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize(
    ("encoder", "init", "given", "expected"),
    [
        ("swin_t", "scratch", None, 1),
        ("swin_t", "weights.safetensors", None, 0.1),
        ("swin_b", "voco", None, 0.1),
        ("unet", "weights.safetensors", None, 1),
        ("swin_t", "weights.safetensors", 1.0, 1),  # the paper's
        ("swin_t", "scratch", 0.5, 0.5),
    ],
)
def test_a_pre_trained_swin_is_spared_unless_asked(encoder, init, given, expected):
    settings = TrainSettings(encoder=encoder, init=init, encoder_rate=given)

    assert settings.encoder_rate == expected
    assert TrainSettings.from_dict(settings.to_dict()) == settings


def test_diverged_run_names_its_samples(data, tmp_path, make_settings):
    settings = make_settings(warmup_epochs=0, recompute_activations=False)
    object.__setattr__(settings, "learning_rate", 1e30)  # beyond what settings take: it diverges
    with pytest.raises(UserError, match=r"loss: expected a finite number .*nii.gz"):
        finetune(data, tmp_path, settings=settings, device=CPU, is_quiet=True)


def test_dry_run_reports_memory_and_time(data, make_settings):
    report = measure(data, make_settings(), CPU)
    assert "encoder 1.17 M" in report
    assert "GiB on cpu" in report
    assert "2 epochs of 3 steps" in report


@pytest.mark.parametrize("mode", ["linear-probe", "knn"])
def test_frozen_modes_need_one_pass_of_the_encoder(
    data, tmp_path, make_settings, monkeypatch, mode
):
    seen = []
    real = features_module.compute

    def counting(network, data, rows, **options):
        network.encoder.register_forward_hook(lambda m, inputs, o: seen.append(len(inputs[0])))
        return real(network, data, rows, **options)

    monkeypatch.setattr(features_module, "compute", counting)
    settings = make_settings(mode=mode)
    features_module.probe(data, tmp_path, settings=settings, device=CPU, is_quiet=True)
    assert sum(seen) == len(data.manifest)
    features_module.probe(data, tmp_path, settings=settings, device=CPU, is_quiet=True)
    assert sum(seen) == len(data.manifest)  # the second time from features.npz


def test_dry_run_of_a_probe_measures_batches_of_one_pass(data, make_settings, monkeypatch):
    """A loader a batch would count the start of its processes each time."""
    loaders = []
    real = features_module.make_loader

    def counting(*arguments, **options):
        loaders.append(options)
        return real(*arguments, **options)

    monkeypatch.setattr(features_module, "make_loader", counting)
    printed = measure(data, make_settings(mode="knn"), CPU)
    assert len(loaders) == 1
    assert "s a batch (median of 3, " in printed


@pytest.mark.parametrize(
    ("select", "scoring"),
    [
        ("accuracy", "accuracy"),
        ("balanced-accuracy", "balanced_accuracy"),
        ("loss", "neg_log_loss"),
    ],
)
def test_linear_probe_is_scikit_learns_regression(make_settings, select, scoring):
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    values = (random.normal(size=(60, 192)) + 2 * np.eye(192)[labels] + 5).astype(np.float32)
    splits = np.array(["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    features = Features(values=values, labels=labels, splits=splits)
    settings = make_settings(mode="linear-probe", select=select)
    description = Description(classes=("a", "b", "c"), num_channels=1, initialization="scratch")
    layer = fit_linear(build_network(settings, description), features, settings)
    found = layer(torch.from_numpy(values[50:])).softmax(dim=1).detach().numpy()
    scaler = StandardScaler().fit(values[:40])
    expected = []
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=2000)
        model.fit(scaler.transform(values[:40]), labels[:40])
        score = get_scorer(scoring)(model, scaler.transform(values[40:50]), labels[40:50])
        expected.append((score, model.predict_proba(scaler.transform(values[50:]))))
    best = max(expected, key=lambda item: item[0])[1]
    np.testing.assert_allclose(found, best, atol=1e-4)


def test_features_of_another_encoder_are_not_taken(data, tmp_path, make_settings):
    one = start_training(data, make_settings(), CPU).network.eval()
    other = start_training(data, make_settings(seed=1), CPU).network.eval()
    first, second, third = (
        read_or_compute(network, data, tmp_path, settings=make_settings(), is_quiet=True)
        for network in (one, other, other)
    )
    assert not np.allclose(first.values, second.values)
    np.testing.assert_array_equal(second.values, third.values)


def test_comparison_pairs_the_samples_of_two_runs(run_folder, data, tmp_path, make_settings):
    settings = make_settings(mode="knn")
    train(data, tmp_path / "knn", settings=settings, device=CPU, is_quiet=True)
    table = compare([run_folder, tmp_path / "knn"], tmp_path / "comparison")
    row = table.set_index("metric").loc["accuracy"]
    assert row["difference"] == pytest.approx(row["value"] - row["reference"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert 0 < row["p"] <= row["p_holm"] <= 1
    assert (tmp_path / "comparison" / "comparison.png").stat().st_size > 10_000


def test_table_of_predictions_is_not_replaced_by_the_comparison(run_folder, tmp_path):
    table = tmp_path / "comparison.csv"
    shutil.copy(run_folder / "predictions.csv", table)
    with pytest.raises(UserError, match="none of the inputs"):
        compare([run_folder, table], tmp_path)


def test_runs_of_other_samples_are_not_compared(run_folder, tmp_path):
    table = pd.read_csv(run_folder / "predictions.csv")
    (tmp_path / "other").mkdir()
    table.iloc[:2].to_csv(tmp_path / "other" / "predictions.csv", index=False)
    with pytest.raises(UserError, match="expected the 3 samples of the first run, got 2"):
        compare([run_folder, tmp_path / "other"], tmp_path)
    with pytest.raises(UserError, match="two or more runs"):
        compare([run_folder], tmp_path)
