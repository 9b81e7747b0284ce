"""What a training would take from a weights file, and need of a GPU, by the plan alone."""

import os
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_triad.architectures import NETWORKS, family_of
from nnunet_triad.architectures.meta import build_on_meta
from nnunet_triad.errors import UserError
from nnunet_triad.images.intensity import Intensity
from nnunet_triad.texts import read_json
from nnunet_triad.trainers import variants
from nnunet_triad.trainers.base import TriadTrainer
from nnunet_triad.trainers.names import naming_what_fits
from nnunet_triad.trainers.shown import shown_by_plan
from nnunet_triad.training.memory import GIB
from nnunet_triad.training.memory_estimate import estimate_training_memory
from nnunet_triad.weights.locate import find_weights
from nnunet_triad.weights.origins import fills_outside
from nnunet_triad.weights.report import TransferReport
from nnunet_triad.weights.stated import Stated
from nnunet_triad.weights.transfer import preview_transfer

_FOLDER = "nnUNet_preprocessed"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A configuration of a dataset's plans, and what the dataset adds to it."""

    plans: PlansManager
    configuration: ConfigurationManager
    num_input_channels: int
    num_output_channels: int
    folder: Path  # the preprocessed cases of the configuration

    def build(self, trainer: type[TriadTrainer]) -> nn.Module:
        """Build the trainer's network without memory for its values."""
        return build_on_meta(
            lambda: trainer.build_network_architecture(
                self.plans,
                self.configuration,
                self.num_input_channels,
                self.num_output_channels,
                enable_deep_supervision=family_of(trainer.encoder).has_deep_supervision,
            )
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(b, c, x, y, z) of a training batch."""
        settings = self.configuration
        return (settings.batch_size, self.num_input_channels, *settings.patch_size)


def check_plan(
    file: str | None,
    *,
    dataset: str,
    configuration: str,
    plans: str,
    trainer: str,
    stated: Stated | None = None,
    maps_intensity: bool = True,
) -> tuple[TransferReport, Planned]:
    """Return what a training would log of its weights, without training.

    Args:
        file: a weights file, a folder that holds the trainer's, or an `hf://` name; None for what
            TRIAD_WEIGHTS names.
        dataset: id or name of a dataset in nnUNet_preprocessed.
        configuration: of the plans.
        plans: their name.
        trainer: its name.
        stated: of the file, as for `load_weights`.
        maps_intensity: False: as the suffix `_asis`.

    Raises:
        UserError: there is no such dataset, plan, configuration or trainer, the trainer starts
            from random values, or the file does not fit.
    """
    trainer_class = _find_trainer(trainer)
    initialization = trainer_class.initialization
    if initialization is None:
        raise UserError(f"-tr: expected a trainer that takes weights, got {trainer}; drop Scratch")
    planned = read_plan(dataset, configuration=configuration, plans=plans)
    trainer_class.check_configuration(planned.plans, planned.configuration)
    spec = trainer_class.encoder
    with naming_what_fits(initialization, spec):
        weights = find_weights(initialization, spec, place=file, stated=stated)
    shown = shown_by_plan(
        planned.plans,
        planned.configuration,
        planned.folder,
        seen=Intensity.parse(weights.info.intensity_normalization),
        maps_intensity=maps_intensity
        and trainer_class.merged("settings").get("maps_intensity", True),
    )
    report = preview_transfer(
        planned.build(trainer_class), weights, shown, fills_outside=fills_outside(initialization)
    )
    return report, planned


def _find_trainer(name: str) -> type[TriadTrainer]:
    try:
        return variants.make_trainer(name)
    except variants.UnknownSuffixError as error:
        raise UserError(f"-tr: expected suffixes of this project's, got {error}") from error
    except AttributeError as error:
        raise UserError(
            f"-tr: expected one of this project's trainers, for example nnUNetTrainerTriadSwinB, "
            f"got {name}"
        ) from error


def read_plan(dataset: str, *, configuration: str, plans: str) -> Planned:
    """Read a plan from nnUNet_preprocessed.

    Raises:
        UserError: the folder, the dataset, the plans or the configuration is not there.
    """
    folder = _find_dataset(dataset)
    path = folder / f"{plans}.json"
    if not path.is_file():
        held = sorted(file.stem for file in folder.glob("*Plans*.json"))
        raise UserError(
            f"-p: expected plans in {folder}, got {plans}, which are not there "
            f"({', '.join(held) or 'none are'}); run nnUNetv2_plan_and_preprocess -d {dataset}"
        )
    manager = PlansManager(read_json(path))
    if configuration not in manager.available_configurations:
        raise UserError(
            f"-c: expected one of {', '.join(manager.available_configurations)} of {path}, "
            f"got {configuration}"
        )
    settings = manager.get_configuration(configuration)
    description: dict[str, Any] = read_json(folder / "dataset.json")
    return Planned(
        plans=manager,
        configuration=settings,
        num_input_channels=determine_num_input_channels(manager, settings, description),
        num_output_channels=manager.get_label_manager(description).num_segmentation_heads,
        folder=folder / settings.data_identifier,
    )


def _find_dataset(dataset: str) -> Path:
    value = os.environ.get(_FOLDER)
    if not value:
        raise UserError(
            f"{_FOLDER}: expected a folder of nnU-Net's, got nothing; export {_FOLDER}=FOLDER"
        )
    pattern = f"Dataset{int(dataset):03d}_*" if dataset.isdecimal() else dataset
    folders = [folder for folder in Path(value).glob("*") if folder.is_dir()]
    found = [folder for folder in folders if fnmatchcase(folder.name, pattern)]
    if len(found) != 1:
        raise UserError(
            f"-d: expected one folder {pattern} in {value}, got {len(found)}; run "
            f"nnUNetv2_plan_and_preprocess -d {dataset}"
        )
    return found[0]


def memory_of_networks(planned: Planned) -> dict[str, dict[str, Any]]:
    """Return what a training iteration of the plan holds on a GPU, in bytes, for each network.

    From "low" to "high" a GPU will show; "total" is what was counted. There is none of a 2D plan.
    """
    if len(planned.configuration.patch_size) != 3:
        return {}
    estimates = {}
    for name in NETWORKS:
        trainer = getattr(variants, f"nnUNetTrainerScratch{name}")
        estimate = estimate_training_memory(planned.build(trainer), planned.input_shape)
        low, high = estimate.range
        estimates[name] = {**asdict(estimate), "total": estimate.total, "low": low, "high": high}
    return estimates


def format_memory(planned: Planned, estimates: dict[str, dict[str, Any]]) -> str:
    """Return the estimates as a table, in GiB."""
    batch, channels, *patch = planned.input_shape
    lines = [
        f"Expected GPU memory of a training iteration, batch {batch}, {channels} channels, patch "
        f"{'x'.join(map(str, patch))}, GiB",
        "(counted on fake tensors in fp16 mixed precision, without torch.compile; expected: that "
        "and 1 GB, times 1.20 to 1.34, as for the three networks whose memory nnU-Net publishes)",
        f"  {'trainer':10}{'expected':>14}{'counted':>9}{'weights, gradients, momentum':>30}"
        f"{'activations':>13}",
    ]
    for name, parts in estimates.items():
        fixed = parts["parameters"] + parts["gradients"] + parts["optimizer"]
        expected = f"{parts['low'] / GIB:.1f} to {parts['high'] / GIB:.1f}"
        moving = parts["activations"] + parts["transient"]
        lines.append(
            f"  {name:10}{expected:>14}{parts['total'] / GIB:9.1f}{fixed / GIB:30.1f}"
            f"{moving / GIB:13.1f}"
        )
    return "\n".join(lines)
