"""The memory of a registration training at the paper's size, counted on tensors without values."""

import pytest
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.training import fit
from nnunet_triad.training.memory_estimate import can_fake_gpu
from registration import dry_run
from registration.memory import advice, counting, smaller_runs, with_recomputation
from registration.settings import RegistrationSettings

SIZE = (160, 192, 224)

fakes_gpu = pytest.mark.skipif(not can_fake_gpu(), reason="this PyTorch needs a real GPU for it")


@fakes_gpu
@pytest.mark.parametrize(("gibibytes", "is_recomputed"), [(24, True), (80, False)])
def test_memory_of_the_card_decides_whether_activations_are_kept(
    monkeypatch, gibibytes, is_recomputed
):
    free = gibibytes * 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    settings = RegistrationSettings(network="transmorph_l", device="cuda")
    assert with_recomputation(settings, SIZE).recompute_activations is is_recomputed


@fakes_gpu
def test_each_advice_helps_at_the_paper_s_size():
    settings = RegistrationSettings(network="transmorph_t", device="cuda")
    counted = [
        counting(settings, SIZE)(),
        *(count() for count in smaller_runs(settings, SIZE).values()),
    ]
    kept = [one.activations for one in counted]
    assert kept == sorted(kept, reverse=True)
    assert len(set(kept)) == len(kept)


def test_advice_leaves_out_what_is_done():
    settings = RegistrationSettings(recompute_activations=True)
    assert advice(settings) == "try a coarser --spacing, then --half-resolution"


def test_dry_run_of_what_does_not_fit_allocates_nothing(monkeypatch):
    monkeypatch.setattr(fit, "available_memory", lambda device: 2**28)
    monkeypatch.setattr(dry_run, "start_training", pytest.fail)
    with pytest.raises(UserError, match=r"the 0\.2 GiB that cpu has free, .* --spacing of twice"):
        dry_run.measure(None, RegistrationSettings(network="transmorph_t"), size=(96, 96, 96))
