"""The memory of a pre-training step: recomputing by what a device has, and what is advised."""

import pytest
import torch

from nnunet_triad.architectures import encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.training import fit
from nnunet_triad.training.distributed import ProcessGroup
from nnunet_triad.training.memory_estimate import can_fake_gpu, most_memory
from pretraining import dry_run
from pretraining.memory import advice, counting, smaller_runs, with_recomputation
from pretraining.settings import PretrainSettings

CPU = ProcessGroup(device=torch.device("cpu"))
GPU = ProcessGroup(device=torch.device("cuda"))

fakes_gpu = pytest.mark.skipif(not can_fake_gpu(), reason="this PyTorch needs a real GPU for it")


@fakes_gpu
@pytest.mark.parametrize(("gibibytes", "is_recomputed"), [(8, True), (16, False)])
def test_memory_of_the_card_decides_whether_activations_are_kept(
    monkeypatch, gibibytes, is_recomputed
):
    free = gibibytes * 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    settings = PretrainSettings(encoder="swin_b", precision="bf16", device="cuda")
    assert with_recomputation(settings, GPU).recompute_activations is is_recomputed


def test_what_was_asked_for_is_kept(monkeypatch):
    monkeypatch.setattr(fit, "available_memory", lambda device: 0)
    for wanted in (True, False):
        settings = PretrainSettings(encoder="swin_b", recompute_activations=wanted)
        assert with_recomputation(settings, CPU) == settings
    assert with_recomputation(PretrainSettings(encoder="unet"), CPU).recompute_activations is False


@fakes_gpu
def test_processes_share_a_batch():
    settings = PretrainSettings(encoder="swin_t", batch_size=8, crop_size=(64, 32, 32))
    alone, four = (
        counting(settings, ProcessGroup(device=GPU.device, size=size))() for size in (1, 4)
    )
    assert four.activations == pytest.approx(alone.activations / 4, rel=0.2)  # the mask is shared
    assert four.parameters == alone.parameters


@pytest.mark.parametrize("encoder", ["swin_t", "swin_b", "unet"])
def test_bound_of_small_runs_is_above_what_is_counted(encoder):
    settings = PretrainSettings(encoder=encoder, batch_size=2, crop_size=(64, 64, 32))
    most = most_memory(encoder_spec(encoder), 2, settings.crop_size)
    assert counting(settings, CPU)().range[1] < most


def test_what_helps_most_comes_first():
    settings = PretrainSettings(encoder="swin_b")
    names = ["--recompute-activations", "--batch-size 4", "--crop-size 32,32,32"]
    assert list(smaller_runs(settings, CPU))[:2] == names[:2]
    text = advice(settings)
    places = [text.index(name.split()[0]) for name in names]
    assert places == sorted(places)
    assert "bf16" not in text  # where attention maps are kept it takes more, not less
    assert "recompute" not in advice(PretrainSettings(encoder="unet"))
    assert "--precision bf16" in advice(PretrainSettings(encoder="unet"))


def test_dry_run_of_what_does_not_fit_allocates_nothing_and_says_what_would(monkeypatch):
    monkeypatch.setattr(fit, "available_memory", lambda device: 2**30)
    monkeypatch.setattr(dry_run, "start_training", pytest.fail)
    settings = PretrainSettings(
        encoder="swin_t", batch_size=4, crop_size=(96, 96, 96), recompute_activations=False
    )
    with pytest.raises(UserError, match=r"the 1\.0 GiB that cpu has free") as error:
        dry_run.measure(None, settings, CPU)
    assert "try --recompute-activations (" in str(error.value)
    assert ", --batch-size 2 (" in str(error.value)
