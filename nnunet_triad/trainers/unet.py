"""nnU-Net's own network as it plans it, with the convolutional encoder."""

from typing import Any, ClassVar

from nnunet_triad.architectures import EncoderSpec, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.trainers.base import TriadTrainer
from nnunet_triad.trainers.checks import require_3d


class UNetTrainer(TriadTrainer):
    """The planned network, with deep supervision; 300 epochs (section 4.2.2 of the paper)."""

    encoder: ClassVar[EncoderSpec] = encoder_spec("unet")
    settings: ClassVar[dict[str, Any]] = {"num_epochs": 300}

    @classmethod
    def check_configuration(cls, plans_manager: Any, configuration_manager: Any) -> None:
        """Check that the planned network is a 3D PlainConvUNet.

        Raises:
            UserError: it is another network, for example of the ResEnc plans, or 2D.
        """
        network = configuration_manager.network_arch_class_name.rsplit(".", 1)[-1]
        if network != "PlainConvUNet":
            raise UserError(
                f"{plans_manager.plans_name}: {cls.__name__} expects a plan for a "
                f"PlainConvUNet, got {network}; plan with nnU-Net's default planner, or train "
                "with a ResEncM or ResEncL trainer, or with nnUNetTrainerScratchUNet"
            )
        require_3d(configuration_manager, trainer_name=cls.__name__)
