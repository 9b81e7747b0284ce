"""The memory of fine-tuning a classifier: recomputing by what a device has, and a dry run."""

import torch

from classification.memory import advice, counting, smaller_runs, with_recomputation
from classification.settings import TrainSettings
from nnunet_triad.training import fit

CPU = torch.device("cpu")
SETTINGS = TrainSettings(encoder="swin_t", batch_size=2)


def test_activations_are_recomputed_where_memory_asks_for_it(monkeypatch):
    monkeypatch.setattr(fit, "available_memory", lambda device: 2**27)
    assert with_recomputation(SETTINGS, 1, CPU).recompute_activations is True
    for other in ({"encoder": "unet"}, {"mode": "knn"}, {"recompute_activations": False}):
        settings = TrainSettings(**{"encoder": "swin_t", **other})
        assert with_recomputation(settings, 1, CPU).recompute_activations is False


def test_recomputing_saves_activations():
    kept, again = (
        counting(SETTINGS, 1, CPU, recompute_activations=flag)() for flag in (False, True)
    )
    assert again.activations < kept.activations / 2
    assert list(smaller_runs(SETTINGS, 1, CPU)) == ["--recompute-activations", "--batch-size 1"]


def test_what_helps_most_is_advised_first():
    assert advice(SETTINGS).startswith("try --recompute-activations, then a smaller --batch-size")
    assert advice(TrainSettings(encoder="unet")).startswith("try a smaller --batch-size")
