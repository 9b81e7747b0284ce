"""What nnU-Net's two convolutional families share: stages of 3D kernels, read off and built."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from nnunet_triad.architectures.family import Family, NetworkPlan, StockNetwork
from nnunet_triad.architectures.spec import EncoderSpec, Triple, permuted

if TYPE_CHECKING:
    from torch import Tensor, nn

UNETS = "dynamic_network_architectures.architectures.unet."
_PLANNED_WIDTH = 32  # of the first stage, in nnU-Net's planners


@dataclass(frozen=True, kw_only=True)
class ConvSpec(EncoderSpec):
    """An encoder of stages, each with a kernel and a stride of its own."""

    kernel_sizes: tuple[Triple, ...]  # a stage


ConvSpecT = TypeVar("ConvSpecT", bound=ConvSpec)


class ConvFamily(Family[ConvSpecT]):
    """A family of dynamic-network-architectures, whose networks nnU-Net plans."""

    network_class: ClassVar[str]
    num_decoder_convs: ClassVar[int]  # a stage, of nnU-Net's planner
    tensor_prefixes = ("stem.", "stages.")
    can_permute_axes = True
    registration_decoders = ("transmorph",)

    def build_network(
        self,
        spec: ConvSpecT,
        *,
        input_channels: int,
        output_channels: int,
        plan: NetworkPlan | None = None,
        deep_supervision: bool = False,
        recompute: bool = False,
    ) -> "nn.Module":
        """Build the planned network, or without a plan nnU-Net's own on the encoder of `spec`."""
        return (self.own_plan(spec, plan) if plan else self.network_plan(spec)).build(
            input_channels=input_channels,
            output_channels=output_channels,
            deep_supervision=deep_supervision,
        )

    def own_plan(self, spec: ConvSpecT, plan: NetworkPlan) -> NetworkPlan:
        """Return the plan of this family's network with the stages of a planned one.

        An encoder that is narrower than nnU-Net's makes every stage so much narrower.
        """
        width = spec.channels[0]
        if width == _PLANNED_WIDTH:
            return plan
        features = [f * width // _PLANNED_WIDTH for f in plan.arguments["features_per_stage"]]
        return replace(plan, arguments={**plan.arguments, "features_per_stage": features})

    def stock_network(
        self,
        spec: ConvSpecT,
        plan: NetworkPlan,
        tensors: "Mapping[str, Tensor]",
        patch_size: tuple[int, ...],
    ) -> StockNetwork:
        """Return the network itself: nnU-Net's own trainer builds what is planned."""
        plan = self.own_plan(spec, plan)
        return StockNetwork(trainer="nnUNetTrainer", plan=plan, tensors=tensors)

    def network_plan(self, spec: ConvSpecT) -> NetworkPlan:
        """Return the plan of nnU-Net's network on an encoder."""
        stages = len(spec.channels)
        return NetworkPlan(
            class_path=UNETS + self.network_class,
            arguments={
                "n_stages": stages,
                "features_per_stage": list(spec.channels),
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [list(kernel) for kernel in spec.kernel_sizes],
                "strides": [list(stride) for stride in spec.strides],
                **self.depth_arguments(spec),
                "n_conv_per_stage_decoder": [self.num_decoder_convs] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
        )

    def depth_arguments(self, spec: ConvSpecT) -> dict[str, Any]:
        """Return the library's argument that says how deep each stage is."""
        raise NotImplementedError

    def encoder_arguments(self, spec: ConvSpecT, input_channels: int) -> dict[str, Any]:
        """Return the library's arguments of an encoder: those of nnU-Net's network on it."""
        arguments = self.network_plan(spec).imported_arguments()
        del arguments["n_conv_per_stage_decoder"]
        return {**arguments, "input_channels": input_channels, "return_skips": True}

    def level_of(self, spec: ConvSpecT, name: str) -> int:
        """Return the stage of a parameter; the stem belongs to the finest."""
        match = re.match(r"stages\.(\d+)", name)
        return int(match[1]) if match else 0

    def layer_of(self, spec: ConvSpecT, level: int) -> str:
        """Return the name of a stage."""
        return f"stages.{level}"

    def permute_spec(self, spec: ConvSpecT, order: Triple) -> ConvSpecT:
        """Return the spec with its kernels and strides permuted."""
        permuted_spec = super().permute_spec(spec, order)
        return replace(permuted_spec, kernel_sizes=permuted(spec.kernel_sizes, order))


def isotropic_strides(num_stages: int) -> tuple[Triple, ...]:
    """Return nnU-Net's strides without anisotropy: 1, 2, 2, ..."""
    return ((1, 1, 1),) + ((2, 2, 2),) * (num_stages - 1)


def isotropic_kernels(num_stages: int) -> tuple[Triple, ...]:
    """Return nnU-Net's kernels without anisotropy."""
    return ((3, 3, 3),) * num_stages


def stage_weights(tensors: "Mapping[str, Tensor]", pattern: str) -> "list[Tensor] | None":
    """Return the first 3D kernel of each stage, None where one is missing or not 3D."""
    stages = [int(name.split(".")[1]) for name in tensors if re.match(r"stages\.\d+\.", name)]
    weights = [tensors.get(pattern.format(stage)) for stage in range(1 + max(stages, default=-1))]
    found = [weight for weight in weights if weight is not None and weight.ndim == 5]
    return found if found and len(found) == len(weights) else None


def kernels_of(weights: "list[Tensor]") -> tuple[Triple, ...]:
    """Return the size of each kernel."""
    return tuple((w.shape[2], w.shape[3], w.shape[4]) for w in weights)


def planned_strides(arguments: Mapping[str, Any], num_stages: int) -> tuple[Triple, ...] | None:
    """Return the strides of a planned network, None where they are of another one.

    They leave no trace in the tensors.
    """
    strides = [[s] * 3 if isinstance(s, int) else list(s) for s in arguments.get("strides", ())]
    if len(strides) != num_stages or any(len(stride) != 3 for stride in strides):
        return None
    return tuple((int(x), int(y), int(z)) for x, y, z in strides)
