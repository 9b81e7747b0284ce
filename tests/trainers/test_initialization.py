"""When a trainer reads the weights file, and when it must not need one."""

import errno
import fcntl
from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from torch.nn.parallel import DistributedDataParallel

from nnunet_triad.errors import UserError
from nnunet_triad.files import sha256
from nnunet_triad.trainers import base
from nnunet_triad.trainers.base import TriadTrainer, bare_network
from nnunet_triad.weights.file import encoder_tensors
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.transfer import find_encoder

PRETRAINED = [
    ("nnUNetTrainerTriadUNet_1epoch", "triad_unet"),
    ("nnUNetTrainerVoCoUNet_1epoch", "voco_unet"),
    ("nnUNetTrainerTriadSwinT_1epoch", "triad_swin_t"),
    ("nnUNetTrainerVoCoSwinT_1epoch", "voco_swin_t"),
]


@pytest.fixture
def weights(weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TRIAD_WEIGHTS set to the folder of weights files."""
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights_folder))
    return weights_folder


@pytest.fixture
def trained(make_trainer, weights: Path, monkeypatch: pytest.MonkeyPatch) -> TriadTrainer:
    """A training that ran to its end, after which the weights are gone."""
    trainer = make_trainer("nnUNetTrainerTriadSwinT_1epoch")
    trainer.run_training()
    monkeypatch.delenv("TRIAD_WEIGHTS")
    return trainer


def encoder_of(trainer: TriadTrainer) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in encoder_tensors(find_encoder(trainer.network)).items()}


def state_of(trainer: TriadTrainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def are_equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        torch.equal(tensor, others[name]) for name, tensor in some.items()
    )


def read_log(trainer: TriadTrainer) -> str:
    return Path(trainer.log_file).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "file"), PRETRAINED)
def test_training_starts_from_the_file_of_its_name(
    make_trainer, weights: Path, name: str, file: str
) -> None:
    trainer = make_trainer(name)
    trainer.on_train_start()
    tensors = load_weights(weights / f"{file}.safetensors").tensors
    encoder = encoder_of(trainer)
    assert all(torch.equal(value, tensors[name]) for name, value in encoder.items())


@pytest.mark.parametrize(("name", "file"), PRETRAINED)
def test_report_goes_to_the_training_log(make_trainer, weights: Path, name: str, file: str) -> None:
    trainer = make_trainer(name)
    trainer.on_train_start()
    assert sha256(weights / f"{file}.safetensors") in read_log(trainer)
    assert trainer.transfer_report["loaded"]["tensors"] == len(encoder_of(trainer))


def test_report_goes_into_the_checkpoint(trained: TriadTrainer, weights_folder: Path) -> None:
    path = Path(trained.output_folder) / "checkpoint_final.pth"
    # nnU-Net's own checkpoints hold NumPy scalars, which torch does not take for weights
    checkpoint = torch.load(path, weights_only=False)
    report = checkpoint["init_args"]["triad_transfer"]
    assert report["sha256"] == sha256(weights_folder / "triad_swin_t.safetensors")
    assert checkpoint["trainer_name"] == "nnUNetTrainerTriadSwinT_1epoch"


def test_checkpoint_of_a_training_is_a_source_of_weights(trained: TriadTrainer) -> None:
    """It holds NumPy scalars, which are allowed, and is read without unpickling anything else."""
    weights = load_weights(Path(trained.output_folder) / "checkpoint_final.pth")
    assert (weights.info.source, weights.info.spec) == ("nnunet", trained.encoder)
    assert weights.cautions == ()  # the training wrote down the axes of its arrays


def test_axes_of_another_nnunet_s_checkpoint_are_assumed_and_that_is_said(
    trained: TriadTrainer, tmp_path: Path
) -> None:
    checkpoint = torch.load(
        Path(trained.output_folder) / "checkpoint_final.pth", weights_only=False
    )
    del checkpoint["init_args"]["triad_axes"], checkpoint["network_weights"]["swinViT.conventions"]
    torch.save(checkpoint, tmp_path / "old.pth")
    weights = load_weights(tmp_path / "old.pth")
    assert (weights.info.axes, weights.info.spec.merging) == ("zyx", "new")
    (caution,) = weights.cautions
    assert caution.startswith("axes zyx are assumed")


def test_weights_of_a_training_are_its_encoder(trained: TriadTrainer) -> None:
    weights = load_weights(Path(trained.output_folder) / "checkpoint_final.pth")
    assert are_equal(dict(weights.tensors), encoder_of(trained))


@pytest.mark.parametrize("name", ["nnUNetTrainerScratchUNet", "nnUNetTrainerScratchSwinT"])
def test_scratch_ignores_the_weights(make_trainer, weights: Path, name: str) -> None:
    trainer = make_trainer(name)
    trainer.initialize()
    before = state_of(trainer)
    trainer.on_train_start()
    assert are_equal(state_of(trainer), before)
    assert trainer.transfer_report is None


def test_optimizer_steps_on_the_loaded_weights(make_trainer, weights: Path, make_batch) -> None:
    trainer = make_trainer("nnUNetTrainerTriadSwinT")
    trainer.on_train_start()
    before = encoder_of(trainer)
    trainer.lr_scheduler.step(0)
    trainer.train_step(make_batch(trainer))
    after = encoder_of(trainer)
    assert not torch.equal(before["patch_embed.proj.weight"], after["patch_embed.proj.weight"])


@pytest.mark.parametrize("value", [None, "", "/nowhere"])
@pytest.mark.parametrize("name", ["nnUNetTrainerTriadUNet", "nnUNetTrainerVoCoSwinT"])
def test_training_without_weights_ends_before_it_starts(
    make_trainer, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("TRIAD_WEIGHTS", value)
    trainer = make_trainer(name)
    with pytest.raises(UserError, match=r"^TRIAD_WEIGHTS: expected"):
        trainer.run_training()
    assert trainer.dataloader_train is None
    assert not list(Path(trainer.output_folder).glob("*.pth"))


def test_weights_of_another_architecture_are_refused(
    make_trainer, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights / "triad_unet.safetensors"))
    trainer = make_trainer("nnUNetTrainerTriadSwinT")
    with pytest.raises(UserError, match=r"expected weights of swin_t .*, got unet \(plainconv"):
        trainer.on_train_start()


def test_weights_of_another_project_are_refused(
    make_trainer, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights / "voco_swin_t.safetensors"))
    trainer = make_trainer("nnUNetTrainerTriadSwinT")
    with pytest.raises(UserError, match="pre-trained by triad, got voco"):
        trainer.on_train_start()


def test_continuing_needs_no_weights(trained: TriadTrainer, make_trainer) -> None:
    again = make_trainer("nnUNetTrainerTriadSwinT_1epoch")
    maybe_load_checkpoint(again, continue_training=True, validation_only=False)
    again.num_epochs = 2
    again.on_train_start()
    assert are_equal(state_of(again), state_of(trained))
    assert again.current_epoch == 1


def test_continuing_keeps_the_report(trained: TriadTrainer, make_trainer) -> None:
    again = make_trainer("nnUNetTrainerTriadSwinT_1epoch")
    maybe_load_checkpoint(again, continue_training=True, validation_only=False)
    again.num_epochs = 2
    again.run_training()
    path = Path(again.output_folder) / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint["current_epoch"] == 2
    assert checkpoint["init_args"]["triad_transfer"] == trained.transfer_report


def test_validating_needs_no_weights(trained: TriadTrainer, make_trainer) -> None:
    again = make_trainer("nnUNetTrainerTriadSwinT_1epoch")
    maybe_load_checkpoint(again, continue_training=False, validation_only=True)
    assert are_equal(state_of(again), state_of(trained))


def test_continuing_without_a_checkpoint_loads_the_weights(make_trainer, weights: Path) -> None:
    trainer = make_trainer("nnUNetTrainerTriadSwinT_1epoch")
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    trainer.on_train_start()
    tensors = load_weights(weights / "triad_swin_t.safetensors").tensors
    assert all(torch.equal(value, tensors[name]) for name, value in encoder_of(trainer).items())


def test_four_channels_share_the_stem_evenly(make_trainer, weights: Path) -> None:
    trainer = make_trainer("nnUNetTrainerTriadUNet", num_channels=4)
    trainer.on_train_start()
    name = "stages.0.0.convs.0.conv.weight"
    source = load_weights(weights / "triad_unet.safetensors").tensors[name]
    assert torch.allclose(encoder_of(trainer)[name].sum(dim=1, keepdim=True), source, atol=1e-6)
    assert list(trainer.transfer_report["adaptations"]) == [name]


def test_residual_plan_trains_from_scratch_only(make_trainer, weights: Path) -> None:
    make_trainer("nnUNetTrainerScratchUNet", network="ResidualEncoderUNet").on_train_start()
    trainer = make_trainer("nnUNetTrainerTriadUNet", network="ResidualEncoderUNet")
    with pytest.raises(UserError, match="PlainConvUNet, got ResidualEncoderUNet"):
        trainer.on_train_start()


def test_unet_weights_do_not_go_into_a_2d_network(make_trainer, weights: Path) -> None:
    trainer = make_trainer("nnUNetTrainerTriadUNet", patch_size=(32, 64), configuration="2d")
    with pytest.raises(UserError, match="expects a 3D one, got 2D patches"):
        trainer.on_train_start()


def test_failed_write_leaves_the_old_checkpoint(
    trained: TriadTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(trained.output_folder) / "checkpoint_final.pth"
    before = sha256(path)

    def fill_the_disk(_: object, file: str) -> None:
        Path(file).write_bytes(b"half a checkpoint")
        raise OSError(errno.ENOSPC, "No space left on device", file)

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        trained.save_checkpoint(str(path))
    assert sha256(path) == before
    assert {file.name for file in path.parent.glob("*.pth")} == {"checkpoint_best.pth", path.name}


def test_disabled_checkpointing_writes_nothing(make_trainer) -> None:
    trainer = make_trainer("nnUNetTrainerScratchSwinT_1epoch")
    trainer.disable_checkpointing = True
    trainer.run_training()
    assert not list(Path(trainer.output_folder).glob("*.pth"))


def test_bare_network_looks_through_compilation_and_ddp(tmp_path: Path) -> None:
    network = torch.nn.Conv3d(1, 2, 3)
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", store, rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(torch.compile(network))
        assert bare_network(wrapped) is network
        assert bare_network(torch.compile(network)) is network
        assert bare_network(network) is network
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("variable", ["nnUNet_preprocessed", "nnUNet_results"])
@pytest.mark.parametrize("value", [None, ""])
def test_unset_nnunet_folder_is_named(
    make_trainer, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"^{variable}: expected a folder.*export {variable}="):
        make_trainer("nnUNetTrainerTriadSwinT")


def test_compiled_network_gets_the_weights(
    make_trainer, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base.TriadTrainer, "_do_i_compile", lambda _: True)
    trainer = make_trainer("nnUNetTrainerTriadSwinT")
    trainer.on_train_start()
    tensors = load_weights(weights / "triad_swin_t.safetensors").tensors
    assert isinstance(trainer.network, torch._dynamo.OptimizedModule)
    assert all(torch.equal(value, tensors[name]) for name, value in encoder_of(trainer).items())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip", b"no checkpoint at all"])
def test_a_damaged_checkpoint_is_named(make_trainer, content: bytes) -> None:
    trainer = make_trainer("nnUNetTrainerScratchSwinT_1epoch")
    path = Path(trainer.output_folder) / "checkpoint_latest.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path}: expected a whole checkpoint of nnUNetTrainerSc"):
        maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)


def test_a_fold_that_another_process_trains_is_refused(make_trainer) -> None:
    trainer = make_trainer("nnUNetTrainerScratchSwinT_1epoch")
    with (Path(trainer.output_folder) / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # of its own descriptor, as another process would have
        with pytest.raises(UserError, match="expected a fold that no other process trains"):
            trainer.run_training()
    assert not list(Path(trainer.output_folder).glob("*.pth"))
