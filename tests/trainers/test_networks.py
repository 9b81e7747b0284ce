"""What kinds of data and plans the trainers take."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformerBlock
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels

from nnunet_triad.architectures import encoder_spec
from nnunet_triad.architectures.swin_unetr import PaddedSwinUNETR
from nnunet_triad.errors import UserError
from nnunet_triad.trainers import variants
from nnunet_triad.training import fit

NAMES = ["nnUNetTrainerScratchUNet", "nnUNetTrainerScratchSwinT"]
REGIONS = {"background": 0, "whole": [1, 2], "core": [1]}
IGNORE = {"background": 0, "core": 1, "oedema": 2, "ignore": 3}
REGIONS_AND_IGNORE = {**REGIONS, "ignore": 3}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("labels", "num_channels", "num_outputs"),
    [
        (None, 4, 3),
        (REGIONS, 1, 2),
        (IGNORE, 1, 3),
        (REGIONS_AND_IGNORE, 4, 2),
    ],
    ids=["four channels", "regions", "ignore label", "all of them"],
)
def test_step_trains_on(
    make_trainer, make_batch, name: str, labels: dict | None, num_channels: int, num_outputs: int
) -> None:
    trainer = make_trainer(name, labels=labels, num_channels=num_channels)
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    before = [parameter.clone() for parameter in trainer.network.parameters()]
    training_loss = trainer.train_step(make_batch(trainer))["loss"]
    changed = [
        not torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True)
    ]
    trainer.network.eval()
    with torch.no_grad():
        validation = trainer.validation_step(make_batch(trainer))
        trainer.set_deep_supervision_enabled(False)
        logits = trainer.network(torch.randn(1, num_channels, 32, 16, 64))
    assert np.isfinite(training_loss)
    assert sum(changed) > 0.9 * len(changed)
    assert len(validation["tp_hard"]) == 2
    assert logits.shape == (1, num_outputs, 32, 16, 64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", [IGNORE, REGIONS_AND_IGNORE])
def test_loss_does_not_see_ignored_voxels(
    make_trainer, make_batch, name: str, labels: dict
) -> None:
    trainer = make_trainer(name, labels=labels)
    trainer.initialize()
    is_region = trainer.label_manager.has_regions
    heads = trainer.label_manager.num_segmentation_heads
    batch = make_batch(trainer)
    targets = batch["target"] if isinstance(batch["target"], list) else [batch["target"]]
    logits = [torch.randn(2, heads, *target.shape[2:]) for target in targets]
    ignored = [target[:, -1:] == (1 if is_region else 3) for target in targets]
    others = [torch.where(hide, 5.0, one) for one, hide in zip(logits, ignored, strict=True)]
    unwrap = (lambda x: x) if trainer.enable_deep_supervision else (lambda x: x[0])
    assert torch.equal(
        trainer.loss(unwrap(logits), unwrap(targets)), trainer.loss(unwrap(others), unwrap(targets))
    )


def test_narrow_unet_has_half_the_planned_channels_of_each_stage(make_trainer) -> None:
    wide, narrow = (make_trainer(f"nnUNetTrainerScratch{name}") for name in ("UNet", "UNetT"))
    for trainer in (wide, narrow):
        trainer.initialize()
    kernels = [
        [m for m in t.network.modules() if isinstance(m, torch.nn.Conv3d)] for t in (wide, narrow)
    ]
    widths = [[kernel.out_channels for kernel in found] for found in kernels]
    num_labels = narrow.label_manager.num_segmentation_heads
    halves = [w if w == num_labels else w // 2 for w in widths[0]]
    assert widths[1] == halves


def test_unet_has_deep_supervision_and_swin_has_not(make_trainer, make_batch) -> None:
    unet = make_trainer("nnUNetTrainerScratchUNet")
    unet.initialize()
    assert [tuple(scale) for scale in unet._get_deep_supervision_scales()] == [
        (1, 1, 1),
        (0.5, 0.5, 0.5),
        (0.25, 0.25, 0.25),
    ]
    assert len(unet.network(make_batch(unet)["data"])) == 3
    swin = make_trainer("nnUNetTrainerScratchSwinT")
    swin.initialize()
    assert swin._get_deep_supervision_scales() is None
    assert swin.network(make_batch(swin)["data"]).shape == (2, 3, 32, 16, 64)


def test_mednext_has_deep_supervision_at_its_own_levels(make_trainer, make_batch) -> None:
    trainer = make_trainer("nnUNetTrainerScratchMedNeXtS", patch_size=(24, 8, 32))
    trainer.on_train_start()
    scales = [1, 1 / 2, 1 / 4, 1 / 8]
    assert trainer._get_deep_supervision_scales() == [
        *([scale] * 3 for scale in scales),
        [1 / 16, 1 / 8, 1 / 16],  # one voxel at least
    ]
    grids = [(24, 8, 32), (12, 4, 16), (6, 2, 8), (3, 1, 4), (2, 1, 2)]
    outputs = trainer.network(torch.randn(1, 1, 24, 8, 32))
    assert [tuple(output.shape[2:]) for output in outputs] == grids
    targets = [torch.zeros(1, 1, *grid) for grid in grids]
    assert torch.isfinite(trainer.loss(outputs, targets))
    trainer.set_deep_supervision_enabled(False)
    assert trainer.network(torch.randn(1, 1, 24, 8, 32)).shape == (1, 3, 24, 8, 32)


def test_primus_trains_on_any_3d_plan(make_trainer, make_batch, monkeypatch) -> None:
    small = dataclasses.replace(encoder_spec("primus_m"), channels=(144,), depth=1, num_heads=2)
    trainer = make_trainer("nnUNetTrainerScratchPrimusM", patch_size=(20, 16, 24))
    monkeypatch.setattr(type(trainer), "encoder", small)
    trainer.initialize()
    trainer.on_train_epoch_start()
    assert np.isfinite(trainer.train_step(make_batch(trainer))["loss"])
    assert trainer.network(torch.randn(1, 1, 20, 16, 24)).shape == (1, 3, 20, 16, 24)


@pytest.mark.parametrize("enabled", [True, False])
def test_deep_supervision_switch_leaves_swin_as_it_is(make_trainer, enabled: bool) -> None:
    trainer = make_trainer("nnUNetTrainerScratchSwinT")
    trainer.initialize()
    trainer.network.eval()
    image = torch.randn(1, 1, 32, 16, 64)
    with torch.no_grad():
        before = trainer.network(image)
        trainer.set_deep_supervision_enabled(enabled)
        assert torch.equal(trainer.network(image), before)


@pytest.mark.parametrize("name", ["nnUNetTrainerTriadUNet", "nnUNetTrainerTriadSwinT"])
def test_cascade_feeds_the_first_stage_s_labels_as_channels(
    make_trainer, make_batch, weights_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights_folder))
    trainer = make_trainer(name, configuration="3d_cascade_fullres", previous_stage="3d_lowres")
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    assert trainer.num_input_channels == 1 + 2
    assert Path(trainer.folder_with_segs_from_previous_stage).parts[-3:] == (
        f"{name}__nnUNetPlans__3d_lowres",
        "predicted_next_stage",
        "3d_cascade_fullres",
    )
    assert np.isfinite(trainer.train_step(make_batch(trainer))["loss"])


def test_frozen_encoder_is_refused_in_a_cascade(
    make_trainer, weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights_folder))
    name = "nnUNetTrainerTriadSwinT_frozen"
    trainer = make_trainer(name, configuration="3d_cascade_fullres", previous_stage="3d_lowres")
    with pytest.raises(UserError, match=r"got one after 3d_lowres; drop _frozen"):
        trainer.on_train_start()


@pytest.mark.parametrize("initialization", ["Scratch", "Triad", "VoCo"])
def test_swin_refuses_a_2d_configuration(make_trainer, initialization: str) -> None:
    name = f"nnUNetTrainer{initialization}SwinT"
    trainer = make_trainer(name, patch_size=(32, 64), configuration="2d")
    with pytest.raises(UserError, match=f"{name} expects a 3D one, got 2D patches"):
        trainer.initialize()


def test_unet_from_scratch_trains_in_2d(make_trainer) -> None:
    trainer = make_trainer("nnUNetTrainerScratchUNet", patch_size=(32, 64), configuration="2d")
    trainer.initialize()
    assert [o.shape[2:] for o in trainer.network(torch.randn(2, 1, 32, 64))] == [
        (32, 64),
        (16, 32),
        (8, 16),
    ]


@pytest.mark.parametrize("patch_size", [(20, 64, 48), (40, 56, 40), (32, 32, 32)])
def test_swin_takes_patches_that_32_does_not_divide(
    make_trainer, make_batch, patch_size: tuple[int, int, int]
) -> None:
    trainer = make_trainer("nnUNetTrainerScratchSwinT_1epoch", patch_size=patch_size)
    trainer.initialize()
    with torch.no_grad():
        assert trainer.network(make_batch(trainer)["data"]).shape == (2, 3, *patch_size)


@pytest.mark.parametrize(
    "name", ["nnUNetTrainerScratchUNet_1epoch", "nnUNetTrainerTriadSwinT_1epoch"]
)
def test_network_is_rebuilt_from_plan_and_checkpoint_alone(
    make_trainer, weights_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights_folder))
    trainer = make_trainer(name)
    trainer.run_training()
    monkeypatch.delenv("TRIAD_WEIGHTS")
    rebuilt = getattr(variants, name).build_network_architecture(
        trainer.plans_manager,
        trainer.configuration_manager,
        determine_num_input_channels(
            trainer.plans_manager, trainer.configuration_manager, trainer.dataset_json
        ),
        trainer.label_manager.num_segmentation_heads,
        enable_deep_supervision=False,
    )
    path = Path(trainer.output_folder) / "checkpoint_final.pth"
    rebuilt.load_state_dict(torch.load(path, weights_only=False)["network_weights"])
    trainer.set_deep_supervision_enabled(False)
    image = torch.randn(1, 1, 32, 16, 64)
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(image), trainer.network.eval()(image))


def test_sliding_window_covers_an_image_larger_than_the_patch(make_trainer) -> None:
    trainer = make_trainer("nnUNetTrainerScratchSwinT")
    trainer.initialize()
    assert isinstance(trainer.network, PaddedSwinUNETR)
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        type(trainer).__name__,
        None,
    )
    logits = predictor.predict_sliding_window_return_logits(torch.randn(1, 40, 16, 70))
    assert logits.shape == (3, 40, 16, 70)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("gibibytes", "is_recomputed"), [(1, True), (1000, False)])
def test_memory_of_the_device_decides_whether_activations_are_kept(
    make_trainer, monkeypatch, gibibytes, is_recomputed
) -> None:
    monkeypatch.setattr(fit, "available_memory", lambda device: gibibytes * 2**30)
    trainer = make_trainer("nnUNetTrainerScratchSwinT", patch_size=(64, 64, 64))
    trainer.initialize()
    blocks = [m for m in trainer.network.modules() if isinstance(m, SwinTransformerBlock)]
    assert {block.use_checkpoint for block in blocks} == {is_recomputed}


def test_switch_says_whether_activations_are_kept(make_trainer, monkeypatch) -> None:
    monkeypatch.setenv("TRIAD_RECOMPUTE", "1")
    trainer = make_trainer("nnUNetTrainerScratchSwinT")
    trainer.initialize()
    assert any(getattr(module, "use_checkpoint", False) for module in trainer.network.modules())
    monkeypatch.setenv("TRIAD_RECOMPUTE", "maybe")
    with pytest.raises(UserError, match="TRIAD_RECOMPUTE: expected 0 or 1, got maybe"):
        make_trainer("nnUNetTrainerScratchSwinT").initialize()


def test_missing_memory_is_told_with_what_helps(make_trainer, make_batch, monkeypatch) -> None:
    trainer = make_trainer("nnUNetTrainerScratchSwinT")

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0")

    monkeypatch.setattr(nnUNetTrainer, "train_step", fail)
    monkeypatch.setattr(nnUNetTrainer, "validation_step", fail)
    for step in (trainer.train_step, trainer.validation_step):
        with pytest.raises(UserError, match=r"memory: expected .*; try TRIAD_RECOMPUTE=1 .*, then"):
            step({})
