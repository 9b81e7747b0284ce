"""A trained model as nnU-Net keeps it: plans, dataset.json, and a checkpoint a fold."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunet_triad.errors import UserError
from nnunet_triad.texts import read_json
from nnunet_triad.trainers.base import TriadTrainer
from nnunet_triad.trainers.variants import make_trainer
from nnunet_triad.weights.checkpoint import Checkpoint, read_checkpoint

_STATE = "network_weights"
_FOLD = "fold_"


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """What is exported."""

    folder: Path
    trainer: str
    trainer_class: Any  # nnUNetTrainer's subclass
    plans: PlansManager
    dataset: Mapping[str, Any]  # dataset.json
    configuration_name: str
    mirror_axes: tuple[int, ...]  # along which predictions are averaged; none where not allowed
    checkpoints: Mapping[str, Path]  # fold -> file

    @cached_property
    def configuration(self) -> ConfigurationManager:
        """The configuration of the plans that was trained."""
        return self.plans.get_configuration(self.configuration_name)

    @cached_property
    def labels(self) -> Any:
        """nnU-Net's LabelManager."""
        return self.plans.get_label_manager(dict(self.dataset))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(1, c, x, y, z) of a window; 2D without x."""
        channels = determine_num_input_channels(self.plans, self.configuration, dict(self.dataset))
        return (1, channels, *self.configuration.patch_size)

    @property
    def num_outputs(self) -> int:
        """Channels of the logits: classes, or regions."""
        return int(self.labels.num_segmentation_heads)

    def build(self) -> nn.Module:
        """Build the network with random weights, of the libraries' modules alone."""
        channels = self.input_shape[1]
        if issubclass(self.trainer_class, TriadTrainer):
            network = self.trainer_class.build_plain_network(
                self.configuration, channels, self.num_outputs
            )
        else:
            network = self.trainer_class.build_network_architecture(
                self.plans, self.configuration, channels, self.num_outputs, False
            )
        return network.eval().requires_grad_(False)

    def load(self, fold: str) -> nn.Module:
        """Build the network with the weights of a fold.

        Raises:
            UserError: the checkpoint is damaged, not finite, or of another network.
        """
        path, network = self.checkpoints[fold], self.build()
        load_tensors(network, read_tensors(path), path=path, trainer=self.trainer)
        return network

    def example(self, seed: int) -> Tensor:
        """Return a window of noise, as large as the network sees."""
        return torch.randn(self.input_shape, generator=torch.Generator().manual_seed(seed))


def read_model(
    folder: Path, *, folds: Sequence[str] | None = None, checkpoint: str = "checkpoint_final.pth"
) -> TrainedModel:
    """Read what a training left; the weights are read later.

    Args:
        folder: nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION.
        folds: such as 0 or all; None: those that are there, but for `all`, as nnU-Net does.
        checkpoint: name of the file in each fold.

    Raises:
        UserError: a file is missing or damaged, or no trainer has the name.
    """
    plans, dataset = (_read_json(folder, name) for name in ("plans.json", "dataset.json"))
    checkpoints = _find_checkpoints(folder, folds, checkpoint)
    first = next(iter(checkpoints.values()))
    about = _read(first).beside
    trainer = str(about["trainer_name"])
    try:
        model = TrainedModel(
            folder=folder,
            trainer=trainer,
            trainer_class=_find_trainer(trainer, first),
            plans=PlansManager(plans),
            dataset=dataset,
            configuration_name=about["init_args"]["configuration"],
            mirror_axes=tuple(about.get("inference_allowed_mirroring_axes") or ()),
            checkpoints=checkpoints,
        )
        _ = model.input_shape, model.num_outputs
    except (KeyError, TypeError, AttributeError, RuntimeError, AssertionError) as error:
        raise UserError(
            f"{folder}: expected plans, dataset.json and checkpoints of one training by nnU-Net "
            f"2.8, got some without {error}; copy the whole folder again"
        ) from error
    if model.configuration.previous_stage_name is not None:
        raise UserError(
            f"{folder}: expected a model that needs images alone, got the second stage of a "
            "cascade; export 3d_fullres or 3d_lowres"
        )
    return model


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the network's tensors of a checkpoint, without what compiling put before names.

    Raises:
        UserError: it is damaged, or a value is not finite.
    """
    tensors = {
        name.removeprefix("module.").removeprefix("_orig_mod."): tensor
        for name, tensor in _read(path).tensors.items()
    }
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(
                f"{path}: expected finite weights, got others in {name}; the training diverged"
            )
    return tensors


def load_tensors(
    network: nn.Module, tensors: Mapping[str, Tensor], *, path: Path, trainer: str
) -> None:
    """Fill a network, strictly.

    Raises:
        UserError: the tensors are another network's.
    """
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        words = str(error).splitlines()
        found = " ".join(words[1 if len(words) > 1 else 0].split())[:160]
        raise UserError(
            f"{path}: expected the network that {trainer} builds from plans.json, got another one "
            f"({found}); export with the version of this package that trained it"
        ) from error


def _read(path: Path) -> Checkpoint:
    found = read_checkpoint(path, key=_STATE)
    missing = [name for name in ("trainer_name", "init_args") if name not in found.beside]
    if missing:
        raise UserError(
            f"{path}: expected a checkpoint of an nnU-Net training, got one without {missing[0]}"
        )
    return found


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise UserError(
            f"{folder}: expected a trained model, nnUNet_results/DATASET/TRAINER__PLANS__"
            f"CONFIGURATION, got a folder without {name}"
            if folder.is_dir()
            else f"{folder}: expected the folder of a trained model, got none of that name"
        )
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected names and values, got {type(content).__name__}")
    return content


def _find_checkpoints(
    folder: Path, folds: Sequence[str] | None, checkpoint: str
) -> dict[str, Path]:
    there = {
        path.parent.name.removeprefix(_FOLD): path
        for path in sorted(folder.glob(f"{_FOLD}*/{checkpoint}"))
    }
    wanted = [fold for fold in there if fold != "all"] or list(there) if folds is None else folds
    missing = [fold for fold in wanted if fold not in there]
    if missing or not wanted:
        raise UserError(
            f"--folds: expected folds with a {checkpoint} in {folder}, got "
            f"{', '.join(missing) or 'none'}; finished: {', '.join(there) or 'none'}"
        )
    return {fold: there[fold] for fold in wanted}


def _find_trainer(name: str, path: Path) -> Any:
    with contextlib.suppress(AttributeError, UserError):
        return make_trainer(name)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net tells where it looks
            return recursive_find_trainer_class_by_name(name)
    except RuntimeError as error:
        raise UserError(
            f"{path}: expected a trainer of this project's or of nnU-Net's, got {name}; name its "
            "folder in nnUNet_extTrainer"
        ) from error
