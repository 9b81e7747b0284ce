"""What the suffixes do to parameters, learning rates and the log."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_triad.trainers import base
from nnunet_triad.trainers.base import TriadTrainer, bare_network
from nnunet_triad.trainers.recipe import Recipe, factor_at
from nnunet_triad.weights.file import encoder_tensors
from nnunet_triad.weights.transfer import find_encoder


def encoder_of(trainer: TriadTrainer) -> torch.nn.Module:
    return find_encoder(bare_network(trainer.network))


def copy_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], module: torch.nn.Module) -> set[str]:
    return {n for n, t in module.state_dict().items() if not torch.equal(before[n], t)}


def rates(trainer: TriadTrainer) -> dict[str, float]:
    return {group["name"]: group["lr"] for group in trainer.optimizer.param_groups}


def read_log(trainer: TriadTrainer) -> str:
    return Path(trainer.log_file).read_text(encoding="utf-8")


@pytest.fixture
def start(make_trainer, make_batch, weights_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Start a training of so many epochs and iterations an epoch, with weights."""
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights_folder))

    def make(name: str, *, epochs: int = 10, iterations: int = 2, **options) -> TriadTrainer:
        trainer = make_trainer(name, is_shortened=False, **options)
        trainer.num_epochs, trainer.num_iterations_per_epoch = epochs, iterations
        trainer.on_train_start()
        return trainer

    return make


class TestFactor:
    """The learning rate as a function of the moment."""

    def test_without_a_phase_it_is_nnunet_s_polynomial(self):
        for epoch in (0, 1, 7, 9):
            factor = factor_at(epoch, epochs=10, recipe=Recipe(), is_encoder=True)
            assert factor == pytest.approx((1 - epoch / 10) ** 0.9)

    def test_warmup_rises_linearly_to_the_peak_and_falls_to_zero(self):
        recipe = Recipe(warmup_share=0.2)
        times = np.arange(0, 2, 0.25)
        rising = [factor_at(t, epochs=10, recipe=recipe, is_encoder=False) for t in times]
        np.testing.assert_allclose(rising, times / 2)
        assert factor_at(2, epochs=10, recipe=recipe, is_encoder=False) == 1
        falling = [factor_at(e, epochs=10, recipe=recipe, is_encoder=False) for e in range(2, 10)]
        expected = [(1 - (e - 2) / 8) ** 0.9 for e in range(2, 10)]
        np.testing.assert_allclose(falling, expected)

    def test_sawtooth_has_two_teeth_and_the_encoder_only_the_second(self):
        recipe = Recipe(decoder_first_share=0.2, warmup_share=0.1)
        decoder, encoder = (
            [
                factor_at(t, epochs=10, recipe=recipe, is_encoder=is_encoder)
                for t in (0, 1, 2, 2.5, 3)
            ]
            for is_encoder in (False, True)
        )
        np.testing.assert_allclose(decoder, [0, 0.5, 0, 0.5, 1])
        np.testing.assert_allclose(encoder, [0, 0, 0, 0.5, 1])

    def test_cosine_is_half_of_one_over_what_is_left(self):
        recipe = Recipe(warmup_share=0.2, falls="cosine")
        found = [factor_at(e, epochs=100, recipe=recipe, is_encoder=True) for e in (20, 60, 80)]
        np.testing.assert_allclose(found, [1, 0.5, (1 - np.sqrt(0.5)) / 2])

    @pytest.mark.parametrize("epochs", [1, 3, 5, 150])
    @pytest.mark.parametrize("share", [(0, 0), (0.1, 0), (0.1, 0.1), (0, 0.5)])
    def test_it_stays_between_zero_and_one(self, epochs, share):
        recipe = Recipe(warmup_share=share[0], decoder_first_share=share[1])
        for t in np.linspace(0, epochs, 101)[:-1]:
            for is_encoder in (False, True):
                factor = factor_at(t, epochs=epochs, recipe=recipe, is_encoder=is_encoder)
                assert 0 <= factor <= 1

    def test_phases_that_fill_the_training_are_refused(self):
        with pytest.raises(ValueError, match=r"expected a sum in \[0, 1\), got 0.6 and 0.5"):
            Recipe(warmup_share=0.6, decoder_first_share=0.5)


@pytest.mark.parametrize("network", ["UNet", "SwinT"])
def test_groups_hold_every_parameter_once(make_trainer, network: str) -> None:
    trainer = make_trainer(f"nnUNetTrainerScratch{network}_llrd")
    trainer.initialize()
    grouped = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in trainer.network.parameters()}


def test_frozen_encoder_keeps_its_weights_and_the_rest_learns(start, make_batch) -> None:
    trainer = start("nnUNetTrainerTriadSwinT_frozen")
    encoder = encoder_of(trainer)
    before, whole = copy_of(encoder), copy_of(trainer.network)
    trainer.on_train_epoch_start()
    trainer.train_step(make_batch(trainer))
    assert not changed(before, encoder)
    learnt = changed(whole, trainer.network)
    assert learnt
    assert not any(name.startswith("swinViT.") for name in learnt)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not any(module.training for module in encoder.modules())
    assert trainer.network.decoder1.training


def test_log_names_groups_rates_and_what_is_frozen(start) -> None:
    trainer = start("nnUNetTrainerTriadSwinT_frozen_warmup", epochs=10)
    trainer.on_train_epoch_start()
    log = read_log(trainer)
    encoder = encoder_tensors(encoder_of(trainer))
    size = sum(t.numel() for t in encoder.values())
    assert f"encoder: {len(encoder)} tensors, {size:,} parameters, frozen: swinViT." in log
    assert "swinViT.layers4c.*" in log
    assert "learning rate 0.01" in log
    assert "Learning rates: decoder 0.005, encoder frozen" in log  # half of the rise


def test_log_of_the_paper_s_recipe_has_its_groups_too(start) -> None:
    log = read_log(start("nnUNetTrainerTriadSwinT"))
    assert "decoder: " in log
    assert log.count("learning rate 0.01") == 2
    assert "frozen" not in log


def test_llrd_falls_by_a_constant_factor_from_level_to_level(start) -> None:
    trainer = start("nnUNetTrainerTriadSwinT_llrd")
    trainer.on_train_epoch_start()
    found = rates(trainer)
    assert list(found) == ["decoder", *(f"encoder level {level}" for level in (4, 3, 2, 1, 0))]
    assert list(found.values()) == pytest.approx([0.01 * 0.75**step for step in range(6)])
    line = "Learning rates: decoder 0.01, encoder level 4 0.0075"
    assert line in read_log(trainer)


def test_sawtooth_trains_the_decoder_first_and_then_all(start, make_batch) -> None:
    trainer = start("nnUNetTrainerTriadSwinT_sawtooth", epochs=10, iterations=2)
    encoder = encoder_of(trainer)
    before = copy_of(encoder)
    trainer.on_train_epoch_start()
    for _ in range(2):
        trainer.train_step(make_batch(trainer))
    assert not changed(before, encoder)
    assert rates(trainer) == {"decoder": pytest.approx(0.0075), "encoder": 0}
    assert not any(p.requires_grad for p in encoder.parameters())
    trainer.current_epoch = 1
    trainer.on_train_epoch_start()
    trainer.train_step(make_batch(trainer))
    assert len(changed(before, encoder)) > 100
    assert rates(trainer) == {name: pytest.approx(0.0025) for name in ("decoder", "encoder")}


def test_warmup_rises_within_a_single_epoch(start, make_batch) -> None:
    trainer = start("nnUNetTrainerTriadSwinT_warmup", epochs=1, iterations=20)
    trainer.on_train_epoch_start()
    found = []
    for _ in range(3):
        trainer.train_step(make_batch(trainer))
        found.append(rates(trainer)["decoder"])
    assert found == pytest.approx([0.0025, 0.0075, 0.01])


def test_adamw_has_its_own_rate_and_decay(start) -> None:
    trainer = start("nnUNetTrainerTriadSwinT_adamw_llrd")
    trainer.on_train_epoch_start()
    assert type(trainer.optimizer) is torch.optim.AdamW
    assert {g["weight_decay"] for g in trainer.optimizer.param_groups} == {0.05}
    assert rates(trainer)["encoder level 4"] == pytest.approx(3e-4 * 0.75)


def test_recipe_goes_on_where_it_was(start, make_trainer) -> None:
    name = "nnUNetTrainerTriadSwinT_sawtooth_llrd_adamw"
    trainer = start(name, epochs=4, iterations=1)
    trainer.num_val_iterations_per_epoch = 1
    trainer.num_epochs = 2
    trainer.run_training()
    again = make_trainer(name)
    maybe_load_checkpoint(again, continue_training=True, validation_only=False)
    assert again.current_epoch == 2
    before, after = trainer.optimizer.state_dict(), again.optimizer.state_dict()
    assert [g["name"] for g in before["param_groups"]] == [g["name"] for g in after["param_groups"]]
    assert before["state"].keys() == after["state"].keys()


@pytest.mark.parametrize("name", ["nnUNetTrainerTriadUNet", "nnUNetTrainerTriadUNet_paper"])
def test_paper_s_recipe_is_nnunet_s_own_optimizer_and_schedule(make_trainer, name: str) -> None:
    trainer = make_trainer(name)
    trainer.initialize()
    assert type(trainer.lr_scheduler).__name__ == "PolyLRScheduler"
    (group,) = trainer.optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.99, 3e-5)


def test_compiled_network_is_frozen_and_grouped(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.TriadTrainer, "_do_i_compile", lambda _: True)
    trainer = start("nnUNetTrainerTriadSwinT_frozen_llrd")
    assert isinstance(trainer.network, torch._dynamo.OptimizedModule)
    assert not any(p.requires_grad for p in encoder_of(trainer).parameters())
    assert list(rates(trainer)) == ["decoder"]


@pytest.mark.parametrize("network", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_resenc_trains_with_deep_supervision_on_either_planner_s_plan(
    make_trainer, make_batch, network: str
) -> None:
    trainer = make_trainer("nnUNetTrainerScratchResEncM_llrd", network=network)
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    assert type(bare_network(trainer.network)).__name__ == "ResidualEncoderUNet"
    assert len(trainer.network(make_batch(trainer)["data"])) == 3
    assert np.isfinite(trainer.train_step(make_batch(trainer))["loss"])
    assert [len(stage.blocks) for stage in trainer.network.encoder.stages] == (
        [1, 3, 4, 6] if network == "PlainConvUNet" else [2, 2, 2, 2]
    )


def rate_in_nnunets_master(epoch, *, peak, epochs, warmup):
    """`Lin_incr_LRScheduler`, then `PolyLRScheduler_offset`, of nnU-Net's master."""
    if epoch < warmup:
        return peak / warmup * (1 + epoch)
    return peak * (1 - (epoch - warmup) / (epochs - warmup)) ** 0.9


@pytest.mark.parametrize(
    ("name", "peak", "epochs"), [("TriadUNet_ftsgd", 1e-3, 300), ("TriadSwinT_ftadamw", 1e-4, 150)]
)
def test_finetuning_has_the_rates_of_nnunets_master(make_trainer, name, peak, epochs) -> None:
    trainer = make_trainer(f"nnUNetTrainer{name}", is_shortened=False)
    trainer.initialize()
    assert trainer.num_epochs == epochs

    for epoch in (0, 7, 14):  # here it rises within an epoch, there from one to the next
        trainer.lr_scheduler.step_to(epoch + 1 - 1e-9)
        expected = rate_in_nnunets_master(epoch, peak=peak, epochs=epochs, warmup=15)
        assert list(rates(trainer).values()) == pytest.approx([expected] * 2)
    for epoch in (15, 16, 99, epochs - 1):
        trainer.lr_scheduler.step(epoch)
        expected = rate_in_nnunets_master(epoch, peak=peak, epochs=epochs, warmup=15)
        assert list(rates(trainer).values()) == pytest.approx([expected] * 2)


def test_finetuning_of_transformers_has_the_optimizer_of_nnunets_master(make_trainer) -> None:
    trainer = make_trainer("nnUNetTrainerTriadSwinT_ftadamw")
    trainer.initialize()
    assert type(trainer.optimizer) is torch.optim.AdamW
    for group in trainer.optimizer.param_groups:
        assert (group["betas"], group["weight_decay"]) == ((0.9, 0.98), 0.05)


def test_finetuning_of_cnns_has_the_optimizer_of_nnunets_master(make_trainer) -> None:
    trainer = make_trainer("nnUNetTrainerTriadUNet_ftsgd")
    trainer.initialize()
    assert type(trainer.optimizer) is torch.optim.SGD
    for group in trainer.optimizer.param_groups:
        found = (group["momentum"], group["nesterov"], group["weight_decay"])
        assert found == (0.99, True, 3e-5)


def test_gradient_is_clipped_at_the_norm_of_the_recipe(start, make_batch, monkeypatch) -> None:
    trainer = start("nnUNetTrainerTriadSwinT_ftadamw")
    norms = []

    def record(optimizer, *_):  # registered after the recipe's own, so called after it
        gradients = [p.grad for g in optimizer.param_groups for p in g["params"]]
        norms.append(torch.stack([g.norm() for g in gradients if g is not None]).norm().item())

    trainer.optimizer.register_step_pre_hook(record)
    loss = trainer.loss
    monkeypatch.setattr(trainer, "loss", lambda *inputs: 1e3 * loss(*inputs))
    trainer.on_train_epoch_start()
    trainer.train_step(make_batch(trainer))
    assert norms == [pytest.approx(1, abs=1e-4)]


def test_drop_path_is_monais_in_training_and_none_otherwise(make_trainer, make_batch) -> None:
    from monai.networks.nets.swin_unetr import SwinTransformerBlock, SwinUNETR

    trainer = make_trainer("nnUNetTrainerTriadSwinT_ftadamw")
    trainer.initialize()
    monai = SwinUNETR(
        *(1, 3),
        num_heads=(1, 2, 4, 8),
        feature_size=12,
        window_size=4,
        use_v2=True,
        dropout_path_rate=0.2,
    )
    found, expected = (
        [
            getattr(m.drop_path, "drop_prob", 0)
            for m in network.modules()
            if isinstance(m, SwinTransformerBlock)
        ]
        for network in (trainer.network, monai)
    )
    assert found == expected
    assert found[0] == 0 and found[-1] == pytest.approx(0.2)
    image = make_batch(trainer)["data"]
    network = trainer.network
    with torch.random.fork_rng():
        network.train()
        assert not torch.equal(network(image), network(image))
        network.eval()
        assert torch.equal(network(image), network(image))
    plain = make_trainer("nnUNetTrainerTriadSwinT")
    plain.initialize()
    assert plain.network.state_dict().keys() == network.state_dict().keys()
    assert torch.equal(plain.network.train()(image), plain.network(image))


def layer_in_simmim(name, depths=(2, 2, 2, 2)):
    """SimMIM's rule on MONAI's names; V2's convolutions count with what is before them."""
    parts = name.split(".")
    if parts[0] == "patch_embed":
        return 0
    stage = int(parts[0].removeprefix("layers").removesuffix("c")) - 1
    if parts[0].endswith("c"):
        return sum(depths[:stage])
    if parts[2] == "downsample":
        return sum(depths[: stage + 1])
    return sum(depths[:stage]) + int(parts[3]) + 1


def test_layer_decay_by_blocks_is_simmims(make_trainer) -> None:
    trainer = make_trainer("nnUNetTrainerTriadSwinT_ftsimmim", is_shortened=False)
    trainer.initialize()
    trainer.lr_scheduler.step(30)  # the end of the rise over a fifth of 150 epochs
    names = {id(p): name for name, p in trainer.network.named_parameters()}
    seen = 0
    for group in trainer.optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            layer = 9
            if name.startswith("swinViT."):
                layer = layer_in_simmim(name.removeprefix("swinViT."))
            assert group["lr"] == pytest.approx(1e-4 * 0.9 ** (9 - layer)), name
            is_spared = parameter.ndim == 1 or "relative_position_bias_table" in name
            assert group["weight_decay"] == (0 if is_spared else 0.05), name
            seen += 1
    assert seen == len(names)
