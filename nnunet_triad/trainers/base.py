"""What the trainers share: settings by class, the encoder's weights, recipes, and checkpoints."""

import contextlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunet_triad.architectures import EncoderSpec, NetworkPlan, build_network, family_of
from nnunet_triad.architectures.cpu.accelerate import accelerate_on_cpu
from nnunet_triad.errors import UserError
from nnunet_triad.files import only_process, write_atomically
from nnunet_triad.images.intensity import UNKNOWN, Intensity
from nnunet_triad.trainers.checks import (
    require_3d,
    require_first_stage,
    require_nnunet_folders,
    require_planned,
)
from nnunet_triad.trainers.interruption import InterruptibleTrainer
from nnunet_triad.trainers.memory import ADVICE, should_recompute
from nnunet_triad.trainers.names import naming_what_fits
from nnunet_triad.trainers.recipe import Recipe, describe, make_groups
from nnunet_triad.trainers.schedule import RecipeSchedule, make_optimizer
from nnunet_triad.trainers.shown import shown_by_plan
from nnunet_triad.training.memory import explain_out_of_memory
from nnunet_triad.weights.locate import find_weights
from nnunet_triad.weights.origins import fills_outside
from nnunet_triad.weights.reading import AXES_KEY
from nnunet_triad.weights.transfer import Shown, find_encoder, transfer_encoder

# nnU-Net writes its init_args into each checkpoint, and reads only the configuration's name back.
_REPORT_KEY = "triad_transfer"


class TriadTrainer(InterruptibleTrainer):
    """nnU-Net's trainer whose encoder may start from pre-trained weights.

    A subclass says what it is by class attributes, so that variants are data and combine by
    inheritance: `settings` and `recipe_fields` of all classes of the MRO are merged, the most
    derived first. `settings` replace the values that nnU-Net's constructor sets. The network, how
    long it is trained and whether with deep supervision follow from the encoder's family.

    The weights are read when a training starts that is not a continuation. So continuing,
    validating and predicting need no weights file, and a missing one ends a training at once.
    """

    encoder: ClassVar[EncoderSpec]
    initialization: ClassVar[str | None] = None
    settings: ClassVar[dict[str, Any]] = {}
    recipe_fields: ClassVar[dict[str, Any]] = {}
    network: Any  # nnU-Net's attribute: compiled, distributed or bare
    maps_intensity = True  # whether another scale than the weights saw is made good

    # nnU-Net reads the names of these parameters, so none may be added.
    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        require_nnunet_folders()
        super().__init__(plans, configuration, fold, dataset_json, device)
        family = family_of(self.encoder)
        self.num_epochs = family.epochs
        self.enable_deep_supervision = family.has_deep_supervision
        for name, value in self.merged("settings").items():
            setattr(self, name, value)
        self._is_continuation = False
        self._held = contextlib.ExitStack()  # until this process ends

    def initialize(self) -> None:
        """Build network, optimiser and loss; on a CPU keep the memory of each iteration."""
        super().initialize()
        accelerate_on_cpu(self.network, self.device)
        family = family_of(self.encoder)
        if family.can_recompute and should_recompute(self, self.encoder):
            family.set_recompute(bare_network(self.network), True)
            self.print_to_log_file("Activations are computed again in the backward pass.")

    @classmethod
    def merged(cls, attribute: str) -> dict[str, Any]:
        """Return a class attribute's dictionaries, of all classes of the MRO, over the family's."""
        merged: dict[str, Any] = dict(getattr(family_of(cls.encoder), attribute))
        for base in reversed(cls.__mro__):
            merged |= vars(base).get(attribute, {})
        return merged

    @classmethod
    def recipe(cls) -> Recipe:
        """Return how this class fine-tunes."""
        return Recipe(**cls.merged("recipe_fields"))

    @property
    def transfer_report(self) -> dict[str, Any] | None:
        """`TransferReport.to_dict()` of this training's start, also after continuing it."""
        return self.my_init_kwargs.get(_REPORT_KEY)

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Return nnU-Net's optimiser and schedule, or the recipe's where a suffix asks for one.

        nnU-Net calls this after compiling the network and before distributing it, which is when
        parameters can be frozen.
        """
        recipe, network = self.recipe(), bare_network(self.network)
        encoder = find_encoder(network)
        groups = make_groups(network, encoder, self.encoder, recipe)
        if recipe.is_encoder_frozen:
            encoder.requires_grad_(False)
        self.print_to_log_file(describe(groups, learning_rate=self.initial_lr, recipe=recipe))
        if recipe == Recipe():
            return super().configure_optimizers()
        optimizer = make_optimizer(
            groups, recipe, learning_rate=self.initial_lr, weight_decay=self.weight_decay
        )
        schedule = RecipeSchedule(
            optimizer,
            encoder,
            recipe=recipe,
            learning_rate=self.initial_lr,
            epochs=self.num_epochs,
            on_freeze=self._distribute_anew,
        )
        return optimizer, schedule

    def _distribute_anew(self) -> None:
        """Say to PyTorch which gradients to wait for, when that changes; at first nnU-Net does."""
        if isinstance(self.network, DistributedDataParallel):
            bare, devices = self.network.module, self.network.device_ids
            self.network = DistributedDataParallel(bare, device_ids=devices)

    def on_train_start(self) -> None:
        """Start a training, or go on with one; a new one gets the encoder's weights first.

        Raises:
            UserError: the weights file is missing or does not fit, the plan's network has no such
                encoder, or another process trains this fold.
        """
        if self.local_rank == 0:
            self._hold_fold()
        if not self._is_continuation:
            if self.initialization is not None:
                self._start_from_weights(self.initialization)
            elif len(self.configuration_manager.patch_size) == 3:
                self.my_init_kwargs[AXES_KEY] = self._shown(seen=UNKNOWN).axes
        super().on_train_start()

    def _hold_fold(self) -> None:
        """Keep other processes out, whose checkpoints would replace this training's."""
        refusal = (
            f"{self.output_folder}: expected a fold that no other process trains, got one that one "
            "does; wait until it ends"
        )
        lock = Path(self.output_folder) / ".lock"
        self._held.enter_context(only_process(lock, refusal=refusal, is_shared_within=True))

    def _shown(self, *, seen: Intensity) -> Shown:
        return shown_by_plan(
            self.plans_manager,
            self.configuration_manager,
            Path(self.preprocessed_dataset_folder),
            seen=seen,
            maps_intensity=self.maps_intensity,
        )

    def _start_from_weights(self, initialization: str) -> None:
        """Load the encoder; in distributed training each rank loads the same file."""
        self.check_configuration(self.plans_manager, self.configuration_manager)
        with naming_what_fits(initialization, self.encoder):
            weights = find_weights(initialization, self.encoder)
        if not self.was_initialized:
            self.initialize()
        shown = self._shown(seen=Intensity.parse(weights.info.intensity_normalization))
        report = transfer_encoder(
            bare_network(self.network),
            weights,
            shown,
            fills_outside=fills_outside(initialization),
        )
        self.my_init_kwargs |= {_REPORT_KEY: report.to_dict(), AXES_KEY: shown.axes}
        self.print_to_log_file(report.summary())

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network; nnU-Net calls this for training and for prediction alike.

        Args:
            plans_manager: not used; the configuration says all.
            configuration_manager: with the planned architecture.
            num_input_channels: c of the image (b, c, x, y, z).
            num_output_channels: channels of the logits.
            enable_deep_supervision: whether coarser levels give logits too.

        Raises:
            UserError: the configuration is 2D, and the family's networks do not follow plans.
        """
        network = cls.build_plain_network(
            configuration_manager,
            num_input_channels,
            num_output_channels,
            deep_supervision=enable_deep_supervision,
        )
        drop_path = cls.recipe().drop_path
        if drop_path is not None:
            family_of(cls.encoder).set_drop_path(cls.encoder, network, drop_path)
        accelerate_on_cpu(network)  # of a prediction nobody tells us the device
        return network

    @classmethod
    def build_plain_network(
        cls,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        *,
        deep_supervision: bool = False,
    ) -> nn.Module:
        """Build the network of the libraries' modules alone, as another program takes it."""
        is_planned = bool(family_of(cls.encoder).planned_classes)
        if not is_planned:
            require_3d(configuration_manager, trainer_name=cls.__name__)
        return build_network(
            cls.encoder,
            input_channels=num_input_channels,
            output_channels=num_output_channels,
            plan=plan_of(configuration_manager) if is_planned else None,
            deep_supervision=deep_supervision,
        )

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """Return the size of each output relative to the patch, of the network's own levels."""
        strides = family_of(self.encoder).output_strides(self.encoder)
        if strides is None or not self.enable_deep_supervision:
            return super()._get_deep_supervision_scales()
        least = [1 / size for size in self.configuration_manager.patch_size]  # one voxel
        return np.maximum(1 / np.cumprod(strides, axis=0), least).tolist()

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Switch the outputs of coarser levels on or off, where the network has them."""
        if family_of(self.encoder).has_deep_supervision:
            super().set_deep_supervision_enabled(enabled)

    @classmethod
    def check_configuration(cls, plans_manager: Any, configuration_manager: Any) -> None:
        """Check that the planned network has the encoder that the weights are for.

        Raises:
            UserError: it has not, for example of the ResEnc plans, or is 2D, or a frozen encoder
                would never see the labels of a cascade's stage before.
        """
        require_planned(
            plans_manager, configuration_manager, trainer=cls.__name__, encoder=cls.encoder
        )
        require_3d(configuration_manager, trainer_name=cls.__name__)
        if cls.recipe().is_encoder_frozen:
            require_first_stage(configuration_manager, trainer_name=cls.__name__)

    def on_train_epoch_start(self) -> None:
        """Begin an epoch; a frozen encoder stays as it is in evaluation, its norm layers too."""
        super().on_train_epoch_start()
        if self.recipe().is_encoder_frozen:
            find_encoder(bare_network(self.network)).eval()
        if isinstance(self.lr_scheduler, RecipeSchedule):
            self.print_to_log_file(self.lr_scheduler.describe())

    @explain_out_of_memory(ADVICE)
    def train_step(self, batch: dict) -> dict:
        """Do one iteration; while a recipe's learning rate rises, it does so at each of them."""
        if isinstance(self.lr_scheduler, RecipeSchedule) and self.recipe().rises:
            progress = (self.iteration + 0.5) / self.iterations_per_epoch
            self.lr_scheduler.step_to(self.current_epoch + min(progress, 1 - 1e-6))
        return super().train_step(batch)

    @explain_out_of_memory(ADVICE)
    def validation_step(self, batch: dict) -> dict:
        """Validate on a batch."""
        return super().validation_step(batch)

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """Load what nnU-Net loads; from here on this training is a continuation.

        Raises:
            UserError: the file is damaged, or of another network.
        """
        try:
            super().load_checkpoint(filename_or_checkpoint)
        except (MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # a damaged file makes PyTorch raise almost anything
            if not isinstance(filename_or_checkpoint, str):
                raise
            raise UserError(
                f"{filename_or_checkpoint}: expected a whole checkpoint of {type(self).__name__}, "
                f"got one that cannot be loaded ({type(error).__name__}: {error!s:.200}); if it is "
                "damaged, move it away: --c goes on from the next of checkpoint_final, "
                "checkpoint_latest and checkpoint_best"
            ) from error
        self._is_continuation = True

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint; when that fails, for example on a full disk, the old one stays."""
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        with write_atomically(Path(filename)) as temporary:
            super().save_checkpoint(str(temporary))


def plan_of(configuration_manager: Any) -> NetworkPlan:
    """Return the planned architecture of a configuration."""
    return NetworkPlan(
        class_path=configuration_manager.network_arch_class_name,
        arguments=configuration_manager.network_arch_init_kwargs,
        requires_import=tuple(configuration_manager.network_arch_init_kwargs_req_import),
    )


def bare_network(network: nn.Module) -> nn.Module:
    """Return the network inside nnU-Net's wrappers, distributed and compiled, in any order."""
    while True:
        if isinstance(network, DistributedDataParallel):
            network = network.module
        elif isinstance(network, OptimizedModule):
            network = network._orig_mod
        else:
            return network
