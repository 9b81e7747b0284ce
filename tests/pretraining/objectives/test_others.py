"""What every objective does in a run: resume, weights file, log, pictures, compile, families."""

import json

import matplotlib.image
import pandas as pd
import pytest
import torch

from nnunet_triad.architectures import ENCODERS, encoder_spec, family_of
from nnunet_triad.weights.locate import load_weights
from pretraining import loop
from pretraining.dry_run import measure
from pretraining.loop import pretrain
from pretraining.network import PretrainNetwork
from pretraining.objectives import OBJECTIVES
from pretraining.settings import PretrainSettings

# every part at once: learnt tokens, densification, noise, both errors
MIXTURE = {
    **{"objective_name": "spark", "hidden_becomes": "token", "noise": 0.5, "seen_weight": 0.5},
    **{"mask_block": (16, 16, 16), "intensity": "percentiles"},
}
RUNS = [
    {"objective_name": "mae", "encoder": "unet_t"},
    {"objective_name": "simmim"},
    {"objective_name": "mdae", "encoder": "unet_t"},
    MIXTURE,
]


@pytest.mark.parametrize("changes", RUNS, ids=lambda changes: changes["objective_name"])
def test_run_that_stops_ends_in_the_same_bits(
    make_settings, make_data, group, tmp_path, monkeypatch, changes
):
    monkeypatch.setattr(loop, "draw_pictures", lambda training, output: None)
    settings = make_settings(**{"encoder": "swin_t", "steps": 3, "held_out": 1, **changes})
    facts = {"settings": settings, "group": group, "is_quiet": True}
    step = loop.start_step

    def stop_in_the_third(training, batch):
        if training.step == 2:
            raise KeyboardInterrupt
        return step(training, batch)

    with torch.random.fork_rng():
        expected = pretrain(make_data(settings), tmp_path / "whole", **facts)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(loop, "start_step", stop_in_the_third)
            pretrain(make_data(settings), tmp_path / "run", **facts)
        found = pretrain(make_data(settings), tmp_path / "run", **facts)

    assert found.read_bytes() == expected.read_bytes()
    logs = [pd.read_csv(tmp_path / name / "log.csv") for name in ("whole", "run")]
    names = [name for name in logs[0] if "seconds" not in name]
    pd.testing.assert_frame_equal(logs[0][names], logs[1][names])
    info = load_weights(found).info
    saved = json.loads(json.dumps(settings.objective.to_dict()))
    assert info.objective == {"name": settings.objective_name, **saved}
    assert info.intensity_normalization == settings.objective.scale
    heads = {name.split(".")[0] for name in load_weights(found).tensors}
    assert not heads & {"decoder", "hidden", "densify"}  # the encoder alone


def test_pictures_and_log_have_the_objectives_columns(make_settings, make_data, group, tmp_path):
    settings = make_settings(**{"encoder": "swin_t", "steps": 1, "warmup_steps": 0, **MIXTURE})
    with torch.random.fork_rng():
        pretrain(make_data(settings), tmp_path, settings=settings, group=group, is_quiet=True)

    assert pd.read_csv(tmp_path / "log.csv").columns[:4].tolist() == [
        *("step", "loss", "hidden", "seen")
    ]
    assert matplotlib.image.imread(tmp_path / "reconstructions.png").ndim == 3


def test_dry_run_counts_what_learns_beside_the_encoder(make_settings, make_data, group):
    settings = make_settings(**MIXTURE)
    with torch.random.fork_rng():
        report = measure(make_data(settings), settings, group)

    assert "encoder 1.17 M, decoder" in report and "densify" in report and "hidden 0.00 M" in report


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        *(("mae", "unet_t"), ("spark", "unet_t"), ("mdae", "mednext_s")),
        *(("mae", "swin_t_gn"), ("simmim", "swin_t"), ("spark", "swin_t")),
    ],
)
def test_every_parameter_gets_a_gradient_in_a_compiled_step(start, name, encoder):
    training, (batch,) = start(objective_name=name, encoder=encoder)
    network = training.model
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    try:
        outputs = compiled(batch)
    finally:
        torch._dynamo.reset()

    losses = training.settings.objective.losses(outputs, batch, None)
    losses["loss"].backward()

    assert torch.equal(outputs["reconstruction"], network(batch)["reconstruction"])
    assert outputs["reconstruction"].shape == batch["image"].shape
    unused = [n for n, p in network.named_parameters() if p.grad is None]
    assert not unused  # distributed training would wait for them


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_encoder_has_heads_for_every_objective(name, encoder):
    settings = PretrainSettings(objective_name=name, encoder=encoder)
    spec = encoder_spec(encoder)
    with torch.device("meta"):
        heads = settings.objective.heads(spec)
    assert "decoder" in heads
    if "hidden" in heads and settings.objective.hidden_becomes == "token":
        assert family_of(spec).embedding
        assert heads["hidden"].token.shape[1] == spec.channels[0]


def test_tokens_are_hidden_in_primus_too():
    from dataclasses import replace

    spec = replace(encoder_spec("primus_m"), depth=1, channels=(72,), num_heads=1, grid=(4, 4, 4))
    settings = PretrainSettings(objective_name="simmim", encoder="primus_m", crop_size=(32, 16, 16))
    network = PretrainNetwork(settings.objective, spec).eval()
    image = torch.randn(1, 1, 32, 16, 16)
    hidden = torch.tensor([True, False]).view(1, 2, 1, 1)
    other = image.clone()
    other[:, :, :16] += 1  # where it is hidden

    with torch.no_grad():
        first, second = (network({"image": i, "is_hidden": hidden}) for i in (image, other))
        seen = network.encoder(other)[0]

    assert torch.equal(first["reconstruction"], second["reconstruction"])
    assert not torch.equal(seen, network.encoder(image)[0])
