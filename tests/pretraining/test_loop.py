"""A run: what it writes, and what stops it."""

import errno
import json
import logging
import math
import multiprocessing
import shutil
from pathlib import Path

import blosc2
import numpy as np
import pandas as pd
import pytest
import torch

from nnunet_triad import __version__
from nnunet_triad.errors import UserError
from nnunet_triad.training.state_file import load_state, save_state
from nnunet_triad.weights.locate import load_weights
from pretraining import loop, pretrain_data, training
from pretraining.loop import pretrain
from pretraining.pretrain_data import crop_loader, load_data, median_spacing
from pretraining.settings import PretrainSettings
from pretraining.store import VolumeStore
from tests.pretraining.conftest import write_embeddings, write_store


@pytest.fixture(autouse=True)
def _keep_random_state():
    with torch.random.fork_rng():
        yield


@pytest.fixture
def run(make_data, make_settings, group, tmp_path, monkeypatch):
    """Pre-train into tmp_path/run; pictures, which take longer than the steps, on demand only."""

    def run(*, has_pictures=False, **changes):
        if not has_pictures:
            monkeypatch.setattr(loop, "draw_pictures", lambda training, output: None)
        settings = make_settings(**changes)
        output = tmp_path / "run"
        return pretrain(make_data(settings), output, settings=settings, group=group, is_quiet=True)

    return run


def load_checkpoint(output: Path) -> dict:
    return load_state(output / "checkpoint.pt", command="triad-pretrain")


def test_run_ends_in_a_weights_file_that_says_all_of_itself(run):
    weights = load_weights(run(batch_size=3, held_out=1))

    info = weights.info
    assert info.spec.name == "swin_t"
    assert (info.input_channels, info.patch_size, info.pretraining_steps) == (1, (64, 32, 32), 2)
    assert info.spacing_mm == (2.0, 3.5, 4.25)  # of the voxels, not before the resize
    assert info.intensity_normalization == "zscore"
    assert info.data_summary == "4 volumes of DATASET; 1 more held out"
    assert info.package_version == __version__
    assert "arXiv:2502.14064" in info.citation
    assert weights.num_parameters == pytest.approx(1.17e6, rel=0.01)


def test_run_states_a_licence_only_when_told_also_when_it_continues(run):
    assert load_weights(run()).info.licence == ""

    assert load_weights(run(licence="CC BY 4.0")).info.licence == "CC BY 4.0"


def test_run_writes_checkpoint_log_settings_and_pictures(run, tmp_path, make_settings):
    path = run(batch_size=3, has_pictures=True)

    output = tmp_path / "run"
    assert {item.name for item in output.iterdir()} == {
        *("settings.json", "checkpoint.pt", "log.csv", "tensorboard", ".lock", path.name),
        *("reconstructions.png", "progress.png"),
    }
    settings = PretrainSettings.from_dict(json.loads((output / "settings.json").read_text()))
    assert settings == make_settings(batch_size=3, recompute_activations=False)
    log = pd.read_csv(output / "log.csv")
    assert log["step"].tolist() == [1, 2]
    np.testing.assert_allclose(log["loss"], log["l1"] + 0.01 * log["log_ratio"], rtol=1e-5)
    encoder = load_checkpoint(output)["model"]
    for name, value in load_weights(path).tensors.items():
        assert torch.equal(encoder[f"encoder.{name}"], value)


def test_run_on_fewer_volumes_than_a_batch_draws_them_again(run, tmp_path):
    run(batch_size=7, steps=1, warmup_steps=0)

    assert len(pd.read_csv(tmp_path / "run" / "log.csv")) == 1


def test_run_in_fp16_saves_and_restores_its_loss_scale(run, tmp_path):
    run(precision="fp16", steps=1, warmup_steps=0)

    scaler = load_checkpoint(tmp_path / "run")["scaler"]
    assert scaler["scale"] <= 65536.0
    assert scaler["_growth_tracker"] + np.log2(65536.0 / scaler["scale"]) == 1


def test_run_with_a_nan_in_a_volume_names_it_and_keeps_the_checkpoint(
    tmp_path, make_settings, group
):
    store_path = write_store(tmp_path / "store")
    write_embeddings(store_path)
    settings = make_settings(steps=40)
    data = load_data(store_path, settings)
    drawn = [{data.sampler.plan(step, k).name for k in (0, 1)} for step in range(40)]
    first_bad = next(step for step in range(1, 40) if drawn[step] - set.union(*drawn[:step]))
    bad = min(drawn[first_bad] - set.union(*drawn[:first_bad]))
    store = VolumeStore.open(store_path)
    volume = np.full(store.volume_shape, np.nan, dtype=np.float32)
    store.write_series(bad, volume, store.read_sidecar(bad) or {})

    with pytest.raises(UserError) as error:
        pretrain(data, tmp_path / "run", settings=settings, group=group, is_quiet=True)

    assert f"expected finite numbers at step {first_bad + 1}" in str(error.value)
    assert f"hold NaN or infinity: curate them again ({bad})" in str(error.value)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint["step"] == first_bad
    assert all(value.isfinite().all() for value in checkpoint["model"].values())


def test_run_on_a_full_disk_keeps_the_checkpoint_and_goes_on_later(run, tmp_path, monkeypatch):
    path = run()
    expected = path.read_bytes()
    (tmp_path / "run").rename(tmp_path / "expected")
    save, num_saved = torch.save, 0

    def fill_disk(content, file):
        nonlocal num_saved
        num_saved += 1
        if num_saved == 2:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", fill_disk)
    with pytest.raises(UserError, match="expected room for the checkpoint of step 2"):
        run()
    assert load_checkpoint(tmp_path / "run")["step"] == 1

    assert run().read_bytes() == expected


def damage(path: Path, kind: str) -> None:
    if kind == "missing":
        path.unlink()
    else:
        whole = path.read_bytes()
        contents = {
            "truncated": whole[: len(whole) // 2],
            "another file": b"no volume",
            "another volume": blosc2.asarray(np.zeros((4, 4, 4), np.uint16)).to_cframe(),
        }
        path.write_bytes(contents[kind])


@pytest.mark.parametrize(
    ("kind", "workers"),
    [
        *(("missing", 0), ("truncated", 0), ("another file", 0), ("another volume", 0)),
        ("truncated", 1),
    ],
)
def test_volume_that_cannot_be_read_is_named_in_one_line(
    tmp_path, make_settings, group, kind, workers
):
    store_path = write_store(tmp_path / "store", num_volumes=1)
    store = VolumeStore.open(store_path)
    name = store.records["series_id"][0]
    damage(store.volume_path(name), kind)
    settings = make_settings(log_ratio_weight=0.0, workers=workers)
    loader = crop_loader(load_data(store_path, settings), settings, steps=range(2), group=group)

    message = rf"{name}\.b2nd: expected a whole volume, got one that cannot be read \(\w+\); "
    with pytest.raises(UserError, match=message) as error:
        list(loop.timed(loader))
    assert str(error.value).count("expected") == 1


def test_run_whose_worker_is_killed_says_so_and_keeps_the_checkpoint(run, tmp_path, monkeypatch):
    do_step = loop.start_step

    def kill_workers(training, batch):
        for worker in multiprocessing.active_children():
            worker.kill()
            worker.join()
        return do_step(training, batch)

    monkeypatch.setattr(loop, "start_step", kill_workers)

    with pytest.raises(UserError, match=r"got one that was killed.*use fewer --workers"):
        run(steps=9, workers=1)

    assert 1 <= load_checkpoint(tmp_path / "run")["step"] < 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, r"seed: expected 0, with which .*checkpoint\.pt was begun, got 1; use"),
        ({"learning_rate": 2e-3}, "learning_rate: expected 0.001, with which"),
        ({"mask_ratio": 0.5}, r"objective\.mask_ratio: expected 0\.0, with which .* got 0\.5"),
        ({"held_out": 1}, "STORE: expected the volumes and text embeddings with which"),
    ],
)
def test_run_with_other_settings_is_refused(run, tmp_path, change, message):
    run(held_out=0)
    if "held_out" in change:  # as if the store had changed: its name must not matter, its rows do
        content = load_state(tmp_path / "run" / "checkpoint.pt", command="")
        content["data_fingerprint"] = "of other volumes"
        save_state(tmp_path / "run" / "checkpoint.pt", content, step=2)
        change = {}

    with pytest.raises(UserError, match=message):
        run(**{"held_out": 0, **change})


def test_run_continues_with_more_workers_and_other_pictures(run, tmp_path):
    run()

    run(picture_every=7, checkpoint_every=5)

    assert pd.read_csv(tmp_path / "run" / "log.csv")["step"].tolist() == [1, 2]


def test_checkpoint_of_another_command_is_refused(run, tmp_path):
    save_state(tmp_path / "run" / "checkpoint.pt", {"model": {}}, step=3)

    with pytest.raises(UserError, match="of triad-pretrain, got one of another command or package"):
        run()


def test_data_of_an_empty_store_is_refused(tmp_path, make_settings):
    VolumeStore.create(tmp_path, shape=(8, 8, 8)).rebuild_index()

    with pytest.raises(UserError, match="expected at least one volume, got an empty store"):
        load_data(tmp_path, make_settings())


def test_data_without_embeddings_is_refused_unless_they_are_not_needed(tmp_path, make_settings):
    store_path = write_store(tmp_path / "store", num_volumes=2)

    with pytest.raises(
        UserError, match=r"run triad-embed .* or pretrain with --log-ratio-weight 0"
    ):
        load_data(store_path, make_settings())
    assert load_data(store_path, make_settings(log_ratio_weight=0.0)).texts is None


def test_data_of_a_store_of_another_version_is_refused(tmp_path, make_settings):
    store_path = write_store(tmp_path / "store", num_volumes=1)
    settings = json.loads((store_path / "store.json").read_text())
    (store_path / "store.json").write_text(json.dumps({**settings, "format_version": 99}))

    with pytest.raises(UserError, match="expected a store of format version 1, got 99"):
        load_data(store_path, make_settings())


def test_spacing_is_the_median_of_the_stored_volumes(tmp_path):
    store = VolumeStore.open(write_store(tmp_path / "store", num_volumes=3))
    names = list(store.records["series_id"])
    for name, spacing in zip(names, ([1.5, 2, 9], [0.5, 3, 4], [1, 7, 5]), strict=True):
        change_sidecar(store, name, spacing_mm=spacing)

    assert median_spacing(store) == (1.0, 3.0, 5.0)


@pytest.mark.parametrize("spacing", [None, [1.0, 2.0], [0.0, 1.0, 1.0], ["a", 1.0, 1.0], 3.0])
def test_spacing_that_no_sidecar_says_is_not_known(tmp_path, spacing):
    store = VolumeStore.open(write_store(tmp_path / "store", num_volumes=1))
    change_sidecar(store, store.records["series_id"][0], spacing_mm=spacing)

    assert median_spacing(store) is None


def test_spacing_of_a_large_store_needs_few_sidecars(tmp_path, monkeypatch):
    store = VolumeStore.open(write_store(tmp_path / "store", num_volumes=5))
    monkeypatch.setattr(pretrain_data, "_NUM_SPACINGS", 2)
    read = []
    monkeypatch.setattr(store, "read_sidecar", lambda name: read.append(name) or {})

    assert median_spacing(store) is None
    assert read == ["DATASET/sub-0/ses-1/anat", "DATASET/sub-3/ses-1/anat"]


def change_sidecar(store: VolumeStore, name: str, **changes: object) -> None:
    sidecar = json.loads(store.sidecar_path(name).read_text())
    store.sidecar_path(name).write_text(json.dumps({**sidecar, **changes}))


def test_fingerprint_follows_volumes_texts_and_the_held_out(make_data, make_settings):
    def fingerprint(*, has_texts=True, **changes):
        return make_data(make_settings(**changes)).fingerprint(has_texts=has_texts)

    assert fingerprint() == fingerprint(seed=5, log_ratio_weight=0.0)
    assert fingerprint() != fingerprint(held_out=1)
    assert fingerprint() != fingerprint(has_texts=False)


def test_fingerprint_follows_the_voxels_and_not_the_place_of_the_store(
    tmp_path, store_path, make_settings
):
    def fingerprint(path):
        return load_data(path, make_settings()).fingerprint(has_texts=True)

    shutil.copytree(store_path, tmp_path / "store")
    store = VolumeStore.open(tmp_path / "store")
    names = list(store.records["series_id"])
    assert fingerprint(tmp_path / "store") == fingerprint(store_path)
    assert len(set(store.voxel_checksums())) == len(names)  # in their order, whichever thread reads

    change_sidecar(store, names[3], crc32=1)
    assert fingerprint(tmp_path / "store") != fingerprint(store_path)


def test_run_with_the_fingerprint_of_an_earlier_version_goes_on(
    run, tmp_path, make_data, make_settings
):
    run()
    path = tmp_path / "run" / "checkpoint.pt"
    content = load_state(path, command="")
    data = make_data(make_settings())
    content["data_fingerprint"] = data.earlier_fingerprint(has_texts=True)
    save_state(path, content, step=2)

    run()
    assert data.earlier_fingerprint(has_texts=True) != data.fingerprint(has_texts=True)


def test_second_run_on_a_folder_is_refused(run, tmp_path, monkeypatch):
    def begin_another(*_, **__):
        with pytest.raises(UserError, match="in which no other process trains"):
            run()
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "run_steps", begin_another)
    with pytest.raises(KeyboardInterrupt):
        run()


def test_tensorboard_gets_each_number(run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(batch_size=3, held_out=3)

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    log = pd.read_csv(tmp_path / "run" / "log.csv")
    assert set(events.Tags()["scalars"]) == set(log.columns) - {"step"}
    found = [event.value for event in events.Scalars("l1")]
    assert found == pytest.approx(log["l1"].tolist(), rel=1e-6)


def test_run_that_hands_steps_to_a_gpu_ends_as_one_that_waits_for_each(run, tmp_path, monkeypatch):
    rare = {"steps": 7, "warmup_steps": 0, "checkpoint_every": 100, "picture_every": 100}
    expected = run(**rare).read_bytes()
    rows = pd.read_csv(tmp_path / "run" / "log.csv")
    (tmp_path / "run").rename(tmp_path / "waited")
    for module in (loop, training):
        monkeypatch.setattr(module, "runs_ahead", lambda device: True)
    monkeypatch.setattr(loop, "_GPU_REPORT_EVERY", 3)
    read = []
    real = training.StepReport.read

    def spy(report: training.StepReport, of: training.Training) -> dict[str, float]:
        read.append((report.step, of.step))
        return real(report, of)

    monkeypatch.setattr(training.StepReport, "read", spy)

    assert run(**rare).read_bytes() == expected
    found = pd.read_csv(tmp_path / "run" / "log.csv")
    times = ["seconds", "wait_seconds"]
    pd.testing.assert_frame_equal(found.drop(columns=times), rows.drop(columns=times))
    assert [when for _, when in read] == [1, 3, 3, 6, 6, 6, 7]  # steps wait for others


def test_run_that_hands_steps_to_a_gpu_saves_nothing_after_a_loss_that_is_not_finite(
    run, tmp_path, monkeypatch
):
    for module in (loop, training):
        monkeypatch.setattr(module, "runs_ahead", lambda device: True)
    real = training.compute_losses

    def break_fourth(of: training.Training, batch: dict) -> dict:
        losses = real(of, batch)
        return {name: value * (math.nan if of.step == 3 else 1) for name, value in losses.items()}

    monkeypatch.setattr(training, "compute_losses", break_fourth)
    with pytest.raises(UserError, match="expected finite numbers at step 4, got loss nan"):
        run(steps=7, warmup_steps=0, checkpoint_every=2)
    assert load_checkpoint(tmp_path / "run")["step"] == 2
