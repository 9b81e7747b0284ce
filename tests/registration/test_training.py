import csv
import math
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.training.loader import batches
from nnunet_triad.training.run_folder import RunFolder
from nnunet_triad.training.state_file import load_state, save_state
from nnunet_triad.training.stop_signal import TrainingStopped
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.locate import load_weights
from registration import loop, losses
from registration.dry_run import measure, random_pair
from registration.loop import (
    compute_losses,
    directions,
    keep_best,
    start_training,
    train,
    train_pair,
    validate,
)
from registration.losses import Loss
from registration.losses.dice import warped_dice_loss
from registration.losses.gradient import gradient_loss
from registration.losses.lncc import lncc_loss
from registration.manifest import Pair, write_manifest
from registration.model_file import load_model
from registration.settings import PRESETS, RegistrationSettings, intensity_of
from registration.spatial import warp
from registration.training_data import (
    RegistrationData,
    load_data,
    order_of_epoch,
    plan_pair,
    read_pair,
    training_loader,
)
from tests.documents import code_block
from tests.registration.heads import head, save

SETTINGS = RegistrationSettings(
    network="transmorph_t",
    epochs=2,
    learning_rate=1e-3,
    is_half_resolution=True,
)


@pytest.fixture
def manifest(tmp_path):
    """Two training pairs and one for validation, all with labels."""
    files = []
    for number in range(3):
        image, labels = head(
            centre_mm=(3 * number, -2.0, number), scale=1 - 0.02 * number, seed=number
        )
        files.append(
            (
                save(tmp_path / f"image_{number}.nii.gz", image),
                save(tmp_path / f"labels_{number}.nii.gz", labels),
            )
        )
    pairs = [
        Pair(
            moving=files[a][0],
            fixed=files[b][0],
            moving_labels=files[a][1],
            fixed_labels=files[b][1],
            split=split,
        )
        for a, b, split in ((0, 1, "train"), (2, 1, "train"), (0, 2, "val"))
    ]
    write_manifest(tmp_path / "pairs.csv", pairs)
    return tmp_path / "pairs.csv"


def rows_of(output):
    with (output / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def run(manifest, output, settings=SETTINGS, **options):
    return train(load_data(manifest, settings), output, settings=settings, is_quiet=True, **options)


def test_training_keeps_the_best_model_and_reports(manifest, tmp_path):
    model = run(manifest, tmp_path / "run", replace(SETTINGS, dice_weight=1.0, is_symmetric=True))
    rows = rows_of(tmp_path / "run")
    assert [row["epoch"] for row in rows] == ["1", "1", "2", "2"]
    assert all(float(row["dice_loss"]) > 0 for row in rows)
    scores = [float(row["val_dice"]) for row in rows if row["val_dice"]]
    _, info = load_model(model)
    assert info.validation == max(scores)
    assert info.epoch == 1 + scores.index(max(scores))
    assert (tmp_path / "run" / "registration.png").stat().st_size > 10_000
    assert any((tmp_path / "run" / "tensorboard").iterdir())


def test_stopped_training_goes_on_bit_for_bit(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("registration.loop.draw_registration", lambda *args, **kwargs: Figure())
    whole = run(manifest, tmp_path / "whole")
    real, calls = train_pair, []

    def stop_in_the_middle(training, batch):
        calls.append(batch["name"])
        if len(calls) == 3:  # the first pair of the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return real(training, batch)

    monkeypatch.setattr("registration.loop.train_pair", stop_in_the_middle)
    with pytest.raises(TrainingStopped, match=r"stopped after pair 3 of 4"):
        run(manifest, tmp_path / "run")
    assert_same(run(manifest, tmp_path / "run"), whole)


def test_killed_training_ends_in_the_same_bits(manifest, tmp_path, monkeypatch):
    """Killed after the first epoch's checkpoint, and in the middle of the second epoch."""
    monkeypatch.setattr("registration.loop.draw_registration", lambda *args, **kwargs: Figure())
    whole = run(manifest, tmp_path / "whole")

    for place, name, num_calls in ((RunFolder, "save", 1), (loop, "train_pair", 1)):
        with monkeypatch.context() as patch:
            kill_after(patch, place, name, num_calls)
            with pytest.raises(KeyboardInterrupt):
                run(manifest, tmp_path / "run")
    assert [row["step"] for row in rows_of(tmp_path / "run")] == ["1", "2"]

    assert_same(run(manifest, tmp_path / "run"), whole)


def kill_after(patch, place, name, num_calls):
    """Interrupt after so many calls of a function."""
    real, calls = getattr(place, name), []

    def call(*arguments, **options):
        calls.append(real(*arguments, **options))
        if len(calls) == num_calls:
            raise KeyboardInterrupt
        return calls[-1]

    patch.setattr(place, name, call)


def assert_same(model, whole):
    """The same weights, and the same log but for the times."""
    one, other = load_file(whole), load_file(model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    rows = [rows_of(path.parent) for path in (whole, model)]
    for row in (*rows[0], *rows[1]):
        row.pop("seconds")
    assert rows[0] == rows[1]


def test_other_settings_data_or_weights_do_not_continue_a_run(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("registration.loop.draw_registration", lambda *args, **kwargs: Figure())
    run(manifest, tmp_path / "run", replace(SETTINGS, epochs=1))
    with pytest.raises(UserError, match=r"learning_rate: expected 0\.001, with which"):
        run(manifest, tmp_path / "run", replace(SETTINGS, epochs=1, learning_rate=1e-4))
    text = manifest.read_text().splitlines()
    manifest.write_text("\n".join([text[0], text[2], text[1], *text[3:]]))
    with pytest.raises(UserError, match=r"MANIFEST: expected the pairs with which"):
        run(manifest, tmp_path / "run", replace(SETTINGS, epochs=1))


def test_checkpoint_of_another_command_is_refused_in_one_line(manifest, tmp_path):
    (tmp_path / "run").mkdir()
    settings = {"encoder": "swin_t", "steps": 2, "crop_size": [32, 32, 32]}
    content = {"settings": settings, "data_fingerprint": "", "model": {}, "optimizer": {}}
    save_state(tmp_path / "run" / "checkpoint.pt", content, step=1)
    with pytest.raises(UserError, match=r"expected a file of triad-register train, got one of ano"):
        run(manifest, tmp_path / "run")


def test_fingerprint_follows_what_the_files_hold_and_not_where_they_are(manifest, tmp_path):
    fingerprint = load_data(manifest).fingerprint
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    assert load_data(tmp_path / "copy" / "pairs.csv").fingerprint == fingerprint
    image, _ = head(seed=9)
    save(tmp_path / "copy" / "image_0.nii.gz", image)
    assert load_data(tmp_path / "copy" / "pairs.csv").fingerprint != fingerprint


def test_fingerprint_follows_voxels_that_lie_beside_their_header(tmp_path):
    def fingerprint(seed):
        save(tmp_path / "a.img", head(seed=seed)[0])
        pair = Pair(moving=tmp_path / "a.hdr", fixed=tmp_path / "a.hdr")
        data = RegistrationData(train=(pair,), val=(), test=(), earlier_fingerprint="")
        return data.fingerprint

    assert fingerprint(1) == fingerprint(1) != fingerprint(2)


def test_checkpoint_with_the_fingerprint_of_an_earlier_version_goes_on(
    manifest, tmp_path, monkeypatch
):
    monkeypatch.setattr("registration.loop.draw_registration", lambda *args, **kwargs: Figure())
    settings = replace(SETTINGS, epochs=1)
    run(manifest, tmp_path / "run", settings)
    path = tmp_path / "run" / "checkpoint.pt"
    content = load_state(path, command="")
    content["data_fingerprint"] = load_data(manifest).earlier_fingerprint
    save_state(path, content, step=content["step"])
    run(manifest, tmp_path / "run", settings)


def test_worker_of_the_loader_is_spawned_and_reads_as_the_process_itself(manifest):
    data = load_data(manifest)
    one, other = (
        training_loader(data, replace(SETTINGS, epochs=1, workers=number), first_step=0)
        for number in (0, 1)
    )
    assert other.multiprocessing_context.get_start_method() == "spawn"
    for first, second in zip(batches(one), batches(other), strict=True):
        assert first["name"] == second["name"]
        assert torch.equal(first["moving"], second["moving"])


def test_missing_memory_is_told_in_one_line(manifest, tmp_path, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0")

    monkeypatch.setattr(loop, "train_pair", fail)
    with pytest.raises(UserError, match=r"memory: expected enough .*; try --recompute-activ") as e:
        run(manifest, tmp_path / "run")
    assert "\n" not in str(e.value)


def test_model_after_a_nan_on_validation_replaces_it(manifest, tmp_path):
    training = start_training(load_data(manifest), SETTINGS, None)
    kept = []
    for epoch, loss in enumerate((math.nan, 2.0, math.nan, 3.0, 1.0)):
        training.step = epoch * len(training.data.train)
        keep_best(training, tmp_path, {"val_loss": loss})
        kept.append(training.best_epoch)
    assert kept == [0, 1, 1, 1, 4]


def test_loss_of_training_and_validation_is_the_weighted_sum_of_its_terms(manifest):
    weights = {"lncc_weight": 0.5, "gradient_weight": 3.0, "dice_weight": 0.25}
    training = start_training(load_data(manifest), replace(SETTINGS, **weights), None)
    with torch.no_grad():
        training.network.body.head.weight.normal_(std=0.01)
    training.network.eval()
    batch = read_pair(training.data.val[0], training.settings)
    found = {name: value.item() for name, value in compute_losses(training, batch).items()}

    displacement = training.network(batch["moving"], batch["fixed"])
    labels = [batch[f"{key}_labels"] for key in ("moving", "fixed")]
    present = sorted(set(labels[0].unique().tolist()) | set(labels[1].unique().tolist()))
    expected = {
        "lncc": lncc_loss(warp(batch["moving"], displacement), batch["fixed"]).item(),
        "gradient": gradient_loss(displacement).item(),
        "dice_loss": warped_dice_loss(*labels, displacement, classes=present).item(),
    }
    terms = zip((0.5, 3.0, 0.25), expected.values(), strict=True)
    expected["loss"] = sum(weight * term for weight, term in terms)
    assert found == pytest.approx(expected, rel=1e-5)
    assert validate(training)["val_loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_new_loss_is_one_file(manifest, tmp_path, monkeypatch):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "squares.py").write_text(code_block("extending.md", "A registration loss"))
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path / "more")])
    monkeypatch.setattr("registration.loop.draw_registration", lambda *args, **kwargs: Figure())
    losses.all_losses.cache_clear()
    try:
        for wrong in ("squares", "squares=-1", "squares=nan", "mind=1e999", "lncc=1", "other=1"):
            with pytest.raises(
                UserError, match=f"losses: .* a name of mind, squares, .* got {wrong}$"
            ):
                replace(SETTINGS, losses=(wrong,))
        run(manifest, tmp_path / "run", replace(SETTINGS, epochs=1, losses=("squares=2",)))
    finally:
        losses.all_losses.cache_clear()
    for row in rows_of(tmp_path / "run"):
        terms = {name: float(row[name]) for name in ("loss", "lncc", "gradient", "squares")}
        assert terms["squares"] > 0
        total = terms["lncc"] + terms["gradient"] + 2 * terms["squares"]
        assert terms["loss"] == pytest.approx(total, rel=1e-4)


def test_new_loss_of_labels_gets_them(manifest, monkeypatch):
    new = Loss(
        name="size",
        kind="labels",
        compute=lambda pair, _: pair.displacement.mean() * 0 + (pair.fixed_labels > 0).sum(),
    )
    known = losses.all_losses()
    monkeypatch.setattr(losses, "all_losses", lambda: (*known, new))
    settings = replace(SETTINGS, losses=("size=1",))
    data = load_data(manifest, settings)
    batch = next(iter(batches(training_loader(data, settings, first_step=0))))
    found = compute_losses(start_training(data, settings, None), batch)["size"]
    assert found == (batch["fixed_labels"] > 0).sum() > 0


def test_further_losses_are_given_once():
    with pytest.raises(UserError, match="losses: expected each of them once, got mind=1,mind=2"):
        replace(SETTINGS, losses=("mind=1", "mind=2"))


def test_pretrained_encoder_starts_the_training_and_is_reported(manifest, tmp_path):
    spec = encoder_spec("swin_t")
    encoder = build_encoder(spec)
    save_weights(tmp_path / "triad.safetensors", encoder, WeightsInfo(spec=spec))
    weights = load_weights(tmp_path / "triad.safetensors")
    training = start_training(load_data(manifest), SETTINGS, weights)
    ours, theirs = training.network.encoder.layers1[0], encoder.layers1[0]
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    assert training.transfer["loaded"]["tensors"] > 100
    assert training.source == "triad"
    assert training.initialization == weights.sha256


def test_symmetric_training_does_two_steps_with_the_images_exchanged(manifest):
    data = load_data(manifest)
    training = start_training(data, replace(SETTINGS, is_symmetric=True, dice_weight=1.0), None)
    seen = []
    real = training.optimizer.step
    training.optimizer.step = lambda: (seen.append(1), real())
    batch = read_pair(data.train[0], training.settings)
    train_pair(training, batch)
    assert len(seen) == 2
    pair = data.train[0]
    swapped = replace(
        pair,
        moving=pair.fixed,
        fixed=pair.moving,
        moving_labels=pair.fixed_labels,
        fixed_labels=pair.moving_labels,
    )
    exchanged = read_pair(swapped, training.settings)
    training.settings = replace(training.settings, is_symmetric=False)
    one = compute_losses(training, exchanged)["loss"]
    _, direction = directions(batch, is_symmetric=True)
    other = compute_losses(training, direction)["loss"]
    assert torch.allclose(one, other, atol=1e-5)  # both lie on the same grid


def test_optimizer_is_transmorphs(manifest):
    training = start_training(load_data(manifest), SETTINGS, None)
    assert isinstance(training.optimizer, torch.optim.Adam)
    group = training.optimizer.param_groups[0]
    assert (group["amsgrad"], group["weight_decay"]) == (True, 0)
    rates = [RegistrationSettings().learning_rate_at(epoch) for epoch in (0, 100, 199)]
    assert rates == pytest.approx([5e-5, 5e-5 * 0.5**0.9, 5e-5 * 0.005**0.9])


def test_the_encoder_takes_its_share_of_the_rate(manifest):
    settings = replace(SETTINGS, encoder_rate=0.1, epochs=1)
    training = start_training(load_data(manifest), settings, None)
    # The head starts at almost zero, and what lies below it would have hardly a gradient.
    with torch.no_grad():
        training.network.body.head.weight.normal_(std=0.1)
    before = {name: p.detach().clone() for name, p in training.network.named_parameters()}

    train_pair(training, read_pair(training.data.train[0], settings))

    # Adam's first step moves every value by the rate, where its gradient is not zero.
    moved = {
        name: float((p.detach() - before[name]).abs().max())
        for name, p in training.network.named_parameters()
    }
    encoder = [m for name, m in moved.items() if name.startswith("body.swinViT.")]
    others = [m for name, m in moved.items() if not name.startswith("body.swinViT.")]
    assert max(encoder) == pytest.approx(1e-4, rel=1e-2)
    assert max(others) == pytest.approx(1e-3, rel=1e-2)


def test_correlation_uses_the_window_of_the_settings(manifest):
    training = start_training(load_data(manifest), replace(SETTINGS, lncc_window=5), None)
    batch = read_pair(training.data.train[0], training.settings)
    found = compute_losses(training, batch)["lncc"]
    displacement = training.network(batch["moving"], batch["fixed"])
    warped = warp(batch["moving"], displacement)
    expected, other = (lncc_loss(warped, batch["fixed"], window=size) for size in (5, 9))
    torch.testing.assert_close(found, expected)
    assert abs(found - other) > 0.01
    assert RegistrationSettings().lncc_window == 9  # TransMorph's


def test_presets_are_the_papers():
    ixi, oasis, acdc = (RegistrationSettings(**PRESETS[name]) for name in ("ixi", "oasis", "acdc"))
    assert [s.learning_rate for s in (ixi, oasis, acdc)] == [5e-5, 5e-5, 1e-4]
    assert [s.epochs for s in (ixi, oasis, acdc)] == [200, 200, 200]
    assert (ixi.dice_weight, ixi.has_flips, ixi.is_symmetric) == (0, True, False)
    assert (oasis.dice_weight, oasis.has_flips, oasis.is_symmetric) == (1, False, True)


def test_order_flips_and_partners_follow_from_seed_and_epoch(tmp_path):
    assert sorted(order_of_epoch(7, seed=1, epoch=3)) == list(range(7))
    assert order_of_epoch(7, seed=1, epoch=3) == order_of_epoch(7, seed=1, epoch=3)
    assert order_of_epoch(50, seed=1, epoch=3) != order_of_epoch(50, seed=1, epoch=4)
    pairs = [Pair(moving=tmp_path / f"{n}.nii", fixed=None) for n in range(4)]
    plans = [plan_pair(pairs, 2, seed=0, epoch=e, has_flips=True) for e in range(300)]
    partners = {plan[0].fixed.name for plan in plans}
    assert partners == {"0.nii", "1.nii", "3.nii"}  # never itself
    flipped = np.mean([[axis in flips for axis in range(3)] for _, flips in plans], axis=0)
    np.testing.assert_allclose(flipped, 0.5, atol=0.1)
    assert plan_pair(pairs, 2, seed=0, epoch=1, has_flips=False)[1] == ()


def test_flips_turn_images_and_labels_alike(manifest):
    data = load_data(manifest)
    plain = read_pair(data.train[0], SETTINGS)
    flipped = read_pair(data.train[0], SETTINGS, flips=(0, 2))
    for key in ("moving", "fixed", "moving_labels", "fixed_labels"):
        assert torch.equal(flipped[key], plain[key].flip((2, 4)))


def test_dice_loss_without_labels_is_refused(manifest):
    text = manifest.read_text().splitlines()
    cells = text[1].split(",")
    manifest.write_text("\n".join([text[0], ",".join([*cells[:3], "", cells[4]]), *text[2:]]))
    with pytest.raises(UserError, match="expected labels of both images of image_0_to_image_1"):
        load_data(manifest, replace(SETTINGS, dice_weight=1.0))
    assert load_data(manifest, SETTINGS).train  # they are not needed otherwise


def test_infinite_loss_stops_with_the_pairs_name(manifest):
    data = load_data(manifest)
    training = start_training(data, SETTINGS, None)
    with torch.no_grad():
        training.network.body.head.bias.fill_(float("nan"))
    with pytest.raises(UserError, match=r"loss: expected finite numbers at pair 1 \(image_0_to"):
        train_pair(training, read_pair(data.train[0], SETTINGS))


def test_an_encoder_sees_what_it_was_pretrained_on():
    assert intensity_of("zscore") == "zscore"
    others = ("", "percentiles 0.5 99.5", "window -175 250", "unknown")
    assert {intensity_of(seen) for seen in others} == {"unit"}
    assert RegistrationSettings.from_dict({"network": "transmorph_t"}).intensity == "unit"


def test_settings_are_checked():
    for values, message in (
        ({"epochs": 0}, "epochs: expected 1 or more and at most"),
        ({"learning_rate": -1.0}, "learning_rate: expected above 0 and at most 10"),
        ({"network": "voxelmorph"}, "network: expected one of"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm: expected 3 values, each 0.05 or more"),
        ({"intensity_percentile": 0.0}, "intensity_percentile: expected above 0"),
        ({"lncc_weight": 0.0}, "lncc_weight: expected a positive weight"),
        ({"lncc_window": 4}, "lncc_window: expected an odd number, got 4"),
        ({"precision": "fp8"}, "precision: expected fp32 or bf16"),
        ({"losses": ("a=1",)}, "losses: expected NAME=WEIGHT with a name of mind"),
    ):
        with pytest.raises(UserError, match=message):
            RegistrationSettings(**values)
    settings = RegistrationSettings(spacing_mm=(1.5, 1.5, 3.0))
    assert RegistrationSettings.from_dict(settings.to_dict()) == settings


def test_dry_run_reports_memory_and_time(manifest):
    report = measure(load_data(manifest), SETTINGS, size=(32, 32, 32))
    assert "data: 2 training, 1 validation, 0 test pairs" in report
    assert "GiB on cpu at 32 x 32 x 32" in report
    assert "for 4 pairs" in report
    assert random_pair((4, 5, 6), has_labels=True)["moving_labels"].unique().numel() > 30


def test_bf16_training_keeps_fields_and_losses_in_float32(manifest):
    training = start_training(load_data(manifest), replace(SETTINGS, precision="bf16"), None)
    losses = compute_losses(training, random_pair((32, 32, 32), has_labels=False))
    assert losses["lncc"].dtype == torch.float32
    assert losses["loss"].isfinite()
