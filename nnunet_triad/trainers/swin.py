"""Swin UNETR in place of nnU-Net's network."""

from typing import Any, ClassVar

from torch import nn

from nnunet_triad.architectures import build_swin_unetr
from nnunet_triad.trainers.base import TriadTrainer
from nnunet_triad.trainers.checks import require_3d


class SwinTrainer(TriadTrainer):
    """Swin UNETR on the planned patches, without deep supervision; 150 epochs (section 4.2.2)."""

    settings: ClassVar[dict[str, Any]] = {"num_epochs": 150, "enable_deep_supervision": False}

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """Build the network; nnU-Net calls this for training and for prediction alike.

        Args:
            plans_manager: not used; the encoder is the trainer's.
            configuration_manager: says whether the patches are 3D.
            num_input_channels: c of the image (b, c, x, y, z).
            num_output_channels: channels of the logits.
            enable_deep_supervision: not used; Swin UNETR has one output.

        Raises:
            UserError: the configuration is 2D.
        """
        require_3d(configuration_manager, trainer_name=cls.__name__)
        return build_swin_unetr(
            cls.encoder, input_channels=num_input_channels, output_channels=num_output_channels
        )

    @classmethod
    def check_configuration(cls, plans_manager: Any, configuration_manager: Any) -> None:
        """Check that the plan's patches are 3D.

        Raises:
            UserError: they are not.
        """
        require_3d(configuration_manager, trainer_name=cls.__name__)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: there is one output, with and without."""
