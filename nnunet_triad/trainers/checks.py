"""What a trainer needs, checked before nnU-Net would fail on it less clearly."""

import os
from typing import Any

from nnunet_triad.architectures import EncoderSpec, family_of
from nnunet_triad.architectures.families import FAMILIES
from nnunet_triad.errors import UserError

# nnUNet_raw is not needed to train or to predict.
_FOLDERS_OF_A_TRAINING = ("nnUNet_preprocessed", "nnUNet_results")


def require_nnunet_folders() -> None:
    """Check that the variables that name nnU-Net's folders are set.

    Raises:
        UserError: one is unset or empty.
    """
    for variable in _FOLDERS_OF_A_TRAINING:
        if not os.environ.get(variable):
            raise UserError(
                f"{variable}: expected a folder of nnU-Net's, got nothing; "
                f"export {variable}=FOLDER, then run again"
            )


def require_3d(configuration_manager: Any, *, trainer_name: str) -> None:
    """Check that a configuration's patches are 3D.

    Raises:
        UserError: they are not.
    """
    num_axes = len(configuration_manager.patch_size)
    if num_axes != 3:
        raise UserError(
            f"configuration: {trainer_name} expects a 3D one, got {num_axes}D patches; "
            "use 3d_fullres or 3d_lowres"
        )


def require_planned(
    plans_manager: Any, configuration_manager: Any, *, trainer: str, encoder: EncoderSpec
) -> None:
    """Check that a plan is one that the networks of an encoder's family are made from.

    Raises:
        UserError: it is not, for example of the ResEnc plans.
    """
    wanted = family_of(encoder).planned_classes
    found = configuration_manager.network_arch_class_name.rsplit(".", 1)[-1]
    if wanted and found not in wanted:
        others = [
            network
            for family in FAMILIES.values()
            if found in family.planned_classes
            for network in family.networks
        ]
        better = f"with a {' or '.join(others)} trainer" if others else "from scratch"
        raise UserError(
            f"{plans_manager.plans_name}: {trainer} expects a plan for a {' or '.join(wanted)}, "
            f"got {found}; plan with nnU-Net's default planner, or train {better}, or with "
            "nnUNetTrainerScratchUNet"
        )


def require_first_stage(configuration_manager: Any, *, trainer_name: str) -> None:
    """Refuse a cascade's later stage, of whose labels a frozen encoder's weights know nothing.

    Raises:
        UserError: it is one.
    """
    before = configuration_manager.previous_stage_name
    if before is not None:
        raise UserError(
            f"{trainer_name}: expected a configuration without a stage before, as a frozen encoder "
            f"would not see that stage's labels, got one after {before}; drop _frozen"
        )
