"""A zip that nnU-Net installs and predicts with, where this project is not installed."""

import copy
import io
import json
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_triad.architectures.families import family_of
from nnunet_triad.architectures.family import StockNetwork
from nnunet_triad.errors import UserError
from nnunet_triad.export.check import check_same
from nnunet_triad.export.model_folder import TrainedModel, load_tensors, read_tensors
from nnunet_triad.export.networks import Say
from nnunet_triad.files import write_atomically
from nnunet_triad.trainers.base import TriadTrainer, plan_of
from nnunet_triad.weights.checkpoint import read_checkpoint

# Beside the weights, where there: what nnU-Net's own export takes along.
_OF_MODEL = ("dataset_fingerprint.json", "crossval_results_folds_*/postprocessing.*")
_OF_FOLD = ("validation/summary.json",)


def export_nnunet(model: TrainedModel, output: Path, say: Say) -> str:
    """Write the zip; the network in it is checked to the bit.

    Plans get the name of this project's trainer, so that installing replaces no other model.

    Args:
        model: of one of this project's trainers.
        output: NAME.zip.
        say: is told what is done.

    Returns:
        nnU-Net's options that name the installed model.

    Raises:
        UserError: stock nnU-Net cannot build the network, or builds one that computes otherwise.
    """
    if output.suffix != ".zip":
        raise UserError(f"OUT: expected NAME.zip for nnU-Net, got {output.name}")
    stock = {fold: _stock(model, fold) for fold in model.checkpoints}
    first = next(iter(stock.values()))
    plans = _plans(model, first)
    name = f"{first.trainer}__{plans['plans_name']}__{model.configuration_name}"
    root = f"{model.plans.dataset_name}/{name}"
    with write_atomically(output) as temporary:
        with zipfile.ZipFile(temporary, "w") as archive:
            _write_json(archive, f"{root}/plans.json", plans)
            _write_json(archive, f"{root}/dataset.json", model.dataset)
            _copy(archive, model.folder, root, _OF_MODEL)
            for fold, network in stock.items():
                say(f"fold {fold}: writing")
                part = f"{root}/fold_{fold}"
                checkpoint = _checkpoint(model, network, plans, fold)
                buffer = io.BytesIO()
                torch.save(checkpoint, buffer)
                _write(archive, f"{part}/checkpoint_final.pth", buffer.getbuffer())
                _copy(archive, model.checkpoints[fold].parent, part, _OF_FOLD)
        with zipfile.ZipFile(temporary) as archive:
            for fold in stock:
                file = io.BytesIO(archive.read(f"{root}/fold_{fold}/checkpoint_final.pth"))
                found = _check(model, first.trainer, plans, fold, file)
                say(f"fold {fold}: checked, {found}")
    return (
        f"-d {model.plans.dataset_name} -c {model.configuration_name} -tr {first.trainer} "
        f"-p {plans['plans_name']} -f {' '.join(stock)}"
    )


def _stock(model: TrainedModel, fold: str) -> StockNetwork:
    trainer = model.trainer_class
    if not issubclass(trainer, TriadTrainer):
        raise UserError(
            f"{model.folder}: expected a model of this project's trainers, got {model.trainer}, "
            "which nnU-Net exports itself: nnUNetv2_export_model_to_zip"
        )
    family = family_of(trainer.encoder)
    patch_size = tuple(model.configuration.patch_size)
    tensors = read_tensors(model.checkpoints[fold])
    found = family.stock_network(trainer.encoder, plan_of(model.configuration), tensors, patch_size)
    if found is None:
        raise UserError(
            f"{model.folder}: expected a network that nnU-Net builds itself (UNet, ResEnc, or "
            f"PrimusM with patches of multiples of 8), got {trainer.encoder.name}, patch "
            f"{'x'.join(map(str, patch_size))}, which needs this plugin; use --format onnx"
        )
    return found


def _plans(model: TrainedModel, stock: StockNetwork) -> dict[str, Any]:
    plans: dict[str, Any] = copy.deepcopy(model.plans.plans)
    plans["plans_name"] += model.trainer.removeprefix("nnUNetTrainer")
    plans["configurations"][model.configuration_name]["architecture"] = {
        "network_class_name": stock.plan.class_path,
        "arch_kwargs": dict(stock.plan.arguments),
        "_kw_requires_import": list(stock.plan.requires_import),
    }
    return plans


def _checkpoint(
    model: TrainedModel, stock: StockNetwork, plans: dict[str, Any], fold: str
) -> dict[str, Any]:
    """What nnU-Net reads to predict, and how the weights came about."""
    about = read_checkpoint(model.checkpoints[fold], key="network_weights").beside
    return {
        "network_weights": {name: tensor.clone() for name, tensor in stock.tensors.items()},
        "trainer_name": stock.trainer,
        "init_args": {
            "configuration": model.configuration_name,
            "fold": fold if fold == "all" else int(fold),
            "plans": plans,
            "dataset_json": dict(model.dataset),
        },
        "inference_allowed_mirroring_axes": about.get("inference_allowed_mirroring_axes"),
        "current_epoch": about.get("current_epoch"),
        "trained_by": model.trainer,
    }


def _check(
    model: TrainedModel, trainer: str, plans: dict[str, Any], fold: str, file: IO[bytes]
) -> str:
    """Build the network as nnU-Net does from what stands in the zip, and compare it."""
    manager = PlansManager(json.loads(json.dumps(plans)))
    stock: nn.Module = recursive_find_trainer_class_by_name(trainer).build_network_architecture(
        manager,
        manager.get_configuration(model.configuration_name),
        model.input_shape[1],
        model.num_outputs,
        enable_deep_supervision=False,
    )
    written = torch.load(file, weights_only=True)["network_weights"]
    load_tensors(stock, written, path=model.checkpoints[fold], trainer=trainer)
    name = f"{model.folder.name}, fold {fold}"
    return check_same(name, model.load(fold), stock.eval(), model.example(0), exact=True)


def _write_json(archive: zipfile.ZipFile, name: str, content: Any) -> None:
    _write(archive, name, json.dumps(content, indent=4).encode())


def _copy(archive: zipfile.ZipFile, folder: Path, root: str, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            _write(archive, f"{root}/{path.relative_to(folder)}", path.read_bytes())


def _write(archive: zipfile.ZipFile, name: str, content: bytes | memoryview) -> None:
    archive.writestr(zipfile.ZipInfo(name), content)  # of no date: the same model, the same bytes
