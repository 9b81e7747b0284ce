"""nnU-Net's residual encoder U-Net on any 3D plan."""

from typing import Any, ClassVar

from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunet_triad.architectures import EncoderSpec, encoder_spec
from nnunet_triad.trainers.base import TriadTrainer
from nnunet_triad.trainers.checks import require_3d

_NETWORK = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
_BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6)  # of nnU-Net's ResEnc planners


class ResEncTrainer(TriadTrainer):
    """ResidualEncoderUNet, with deep supervision; 300 epochs, as the U-Net.

    Of the ResEnc planners' plans it is the planned network; of the default planner's, a network
    of the same stages, kernels and strides with residual blocks. M and L differ in the planned
    patch and batch alone.
    """

    encoder: ClassVar[EncoderSpec] = encoder_spec("resenc")
    settings: ClassVar[dict[str, Any]] = {"num_epochs": 300}

    @staticmethod
    def build_network_architecture(
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
            enable_deep_supervision: whether all but the two coarsest levels give logits too.
        """
        return get_network_from_plans(
            _NETWORK,
            residual_arguments(configuration_manager.network_arch_init_kwargs),
            configuration_manager.network_arch_init_kwargs_req_import,
            num_input_channels,
            num_output_channels,
            allow_init=True,
            deep_supervision=enable_deep_supervision,
        )

    @classmethod
    def check_configuration(cls, plans_manager: Any, configuration_manager: Any) -> None:
        """Check that the plan's patches are 3D.

        Raises:
            UserError: they are not.
        """
        require_3d(configuration_manager, trainer_name=cls.__name__)


def residual_arguments(planned: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the residual network with a planned network's stages.

    Args:
        planned: `arch_kwargs` of a PlainConvUNet, or of a ResidualEncoderUNet, which come back.
    """
    if "n_blocks_per_stage" in planned:
        return dict(planned)
    arguments = {name: value for name, value in planned.items() if name != "n_conv_per_stage"}
    stages = planned["n_stages"]
    return {
        **arguments,
        "n_blocks_per_stage": _BLOCKS[:stages],
        "n_conv_per_stage_decoder": (1,) * (stages - 1),
    }
