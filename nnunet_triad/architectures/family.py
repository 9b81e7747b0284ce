"""What a family of architectures says of itself; nobody else asks which family an encoder is of.

A family is one file in `families/` and one line of registration in `families/__init__.py`.
Importing them costs nothing: what needs PyTorch is imported where a network is built.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from nnunet_triad.architectures.spec import EncoderSpec, SpecT, Triple, permuted

if TYPE_CHECKING:
    from torch import Tensor, nn


CONVENTIONS = "conventions"  # the buffer in which an encoder says how it computes
_UNETS = "dynamic_network_architectures.architectures.unet"


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """A segmentation network as nnU-Net's plans and nnssl's adaptation plans write it."""

    class_path: str  # of dynamic-network-architectures
    arguments: Mapping[str, Any]
    requires_import: tuple[str, ...] = ("conv_op", "norm_op", "dropout_op", "nonlin")

    @property
    def class_name(self) -> str:
        """The name of the network's class, such as PlainConvUNet."""
        return self.class_path.rsplit(".", 1)[-1]

    def build(self, *, input_channels: int, output_channels: int, **arguments: Any) -> "nn.Module":
        """Build the network as nnU-Net does, with its initial values.

        Raises:
            ValueError: there is no such class.
        """
        from pydoc import locate  # late: a command's --help needs none

        make: Any = locate(self.class_path) or locate(f"{_UNETS}.{self.class_name}")  # it moved
        if make is None:
            raise ValueError(f"network: expected a class to import, got {self.class_path}")
        arguments |= self.imported_arguments()
        network = make(input_channels=input_channels, num_classes=output_channels, **arguments)
        if hasattr(network, "initialize"):
            network.apply(network.initialize)
        return network

    def imported_arguments(self) -> dict[str, Any]:
        """Return the arguments with the classes that some of them name."""
        from pydoc import locate

        return {
            name: locate(value) if name in self.requires_import and value is not None else value
            for name, value in self.arguments.items()
        }


@dataclass(frozen=True, kw_only=True)
class StockNetwork:
    """A segmentation network as nnU-Net builds it where this project is not installed."""

    trainer: str  # the class of nnU-Net's that builds it
    plan: NetworkPlan  # of the configuration that the class reads
    tensors: "Mapping[str, Tensor]"  # of the network, by the names that they have there


class Family(ABC, Generic[SpecT]):
    """A family of encoders and the segmentation networks on them.

    Names of tensors are the encoder's own, as `build_encoder(...).named_parameters()` has them.
    """

    name: ClassVar[str]
    spec_class: ClassVar[type[EncoderSpec]]
    encoders: ClassVar[tuple[EncoderSpec, ...]]
    # networks as trainers' names have them -> the encoder of each
    networks: ClassVar[Mapping[str, str]]

    # the one tensor whose shape follows from the number of input channels
    stem_weight: ClassVar[str]
    # the module that holds it, where nnssl can read the family's files
    stem_module: ClassVar[str] = ""
    # the module that makes tokens (b, c, x, y, z) of an image's patches, as wide as the finest
    # feature; none: the family has no tokens
    embedding: ClassVar[str] = ""
    # what every tensor of an encoder begins with one of
    tensor_prefixes: ClassVar[tuple[str, ...]]

    # the attribute of the networks that holds the encoder
    encoder_attribute: ClassVar[str] = "encoder"
    # registration's decoders that its features fit, as networks' names begin there
    registration_decoders: ClassVar[tuple[str, ...]] = ()

    # the classes of nnU-Net's plans that the networks are made from; none: of no plan, so that the
    # encoder is always the same and any 3D plan will do
    planned_classes: ClassVar[tuple[str, ...]] = ()
    has_deep_supervision: ClassVar[bool] = True
    # what a trainer without a suffix does where it is not the paper's SGD at 0.01: attributes of
    # nnU-Net's trainer, and fields of `trainers.recipe.Recipe`
    settings: ClassVar[Mapping[str, Any]] = {}
    recipe_fields: ClassVar[Mapping[str, Any]] = {}
    # the trainers' suffix that _finetune stands for: how its pre-trained networks are best tuned
    finetuning: ClassVar[str] = "ftsgd"
    # of segmentation and classification (sections 4.2.2 and 4.3.2 of the paper)
    epochs: ClassVar[int] = 300
    # at the end of the warm-up of the pre-training (Table 3 of the paper)
    pretraining_rate: ClassVar[float] = 1e-4
    # whether activations can be recomputed in the backward pass
    can_recompute: ClassVar[bool] = False
    # share of the learning rate that a pre-trained encoder gets in classification
    pretrained_encoder_rate: ClassVar[float] = 1.0
    # voxels that the coarsest feature must have; instance norm is undefined on one
    min_bottleneck_voxels: ClassVar[int] = 2
    # whether pooled features say next to nothing where the coarsest one has a single voxel
    forgets_single_voxels: ClassVar[bool] = False
    # whether permuted parameters give the permuted features of a permuted image
    can_permute_axes: ClassVar[bool] = False
    # fields of the spec in which a file and a network must agree, a tuple's in the levels that
    # both have; the same names and shapes would fit, and compute something else
    must_agree: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def build_encoder(
        self, spec: SpecT, *, input_channels: int = 1, recompute: bool = False
    ) -> "nn.Module":
        """Build an encoder with random weights; see `families.build_encoder`."""

    @abstractmethod
    def build_network(
        self,
        spec: SpecT,
        *,
        input_channels: int,
        output_channels: int,
        plan: NetworkPlan | None = None,
        deep_supervision: bool = False,
        recompute: bool = False,
    ) -> "nn.Module":
        """Build a segmentation network with random weights; see `families.build_network`."""

    def set_recompute(self, network: "nn.Module", recompute: bool) -> None:
        """Let a network recompute activations, or keep them; for families that can."""

    @abstractmethod
    def read_spec(
        self, tensors: "Mapping[str, Tensor]", arguments: Mapping[str, Any]
    ) -> SpecT | None:
        """Return the spec of a file's encoder, None where it is of no such family.

        Args:
            tensors: of the encoder alone, by this project's names; shapes alone are looked at.
            arguments: of the plan beside them, as nnU-Net and nnssl write them, and
                `trainer_name`, the class that trained it; empty without a plan.
        """

    def adopt(
        self, spec: SpecT, tensors: "Mapping[str, Tensor]", arguments: Mapping[str, Any]
    ) -> "Mapping[str, Tensor]":
        """Return a file's tensors as this project's encoder computes the same from.

        Args:
            spec: from `read_spec`.
            tensors: as there.
            arguments: as there.
        """
        return tensors

    @abstractmethod
    def level_of(self, spec: SpecT, name: str) -> int:
        """Return the level (0: the finest) that a parameter of the encoder belongs to."""

    def block_of(self, spec: SpecT, name: str) -> int:
        """Return the place (0: the first) of the block that a parameter of the encoder is in."""
        return self.level_of(spec, name)

    def set_drop_path(self, spec: SpecT, network: "nn.Module", rate: float) -> None:
        """Let a segmentation network drop residual branches in training, where the family does.

        Args:
            spec: of the encoder.
            network: from `build_network`.
            rate: of the last block; it rises evenly from 0 in the first.
        """

    @abstractmethod
    def layer_of(self, spec: SpecT, level: int) -> str:
        """Return the name of the encoder's module whose output is the feature of a level."""

    def title(self, spec: SpecT) -> str:
        """Return the name of the family, and of its version where it has several."""
        return self.name

    def describe(self, spec: SpecT) -> str:
        """Return in a few words what weights must have in common to fit an encoder."""
        # what follows the plan is compared with the network, once it is built
        names = () if self.planned_classes else self.must_agree
        values = {name: getattr(spec, name) for name in names}
        return ", ".join(
            [
                f"{self.title(spec)}, feature size {spec.feature_size}",
                *(f"{n} {_listed(v)}" for n, v in values.items() if not isinstance(v, bool)),
            ]
        )

    def output_strides(self, spec: SpecT) -> tuple[Triple, ...] | None:
        """Return the strides between the levels that give logits; None: as planned."""
        return None

    def network_plan(self, spec: SpecT) -> NetworkPlan | None:
        """Return the plan of nnU-Net's network on an encoder, None where it has none."""
        return None

    def stock_network(
        self,
        spec: SpecT,
        plan: NetworkPlan,
        tensors: "Mapping[str, Tensor]",
        patch_size: tuple[int, ...],
    ) -> StockNetwork | None:
        """Return the same network as nnU-Net builds it itself, None where it cannot.

        Args:
            spec: of the trainer's encoder.
            plan: of the configuration that it was trained with.
            tensors: of the trained network.
            patch_size: of the configuration.
        """
        return None

    def assume(self, spec: SpecT, *, merging: Any) -> SpecT:
        """Return the spec with what its weights' publisher computed otherwise, None: as here."""
        return spec

    def compute_as(self, encoder: "nn.Module", spec: SpecT, order: Triple) -> None:
        """Make an encoder compute as the network did that weights come from.

        Args:
            encoder: with those weights; of a family that can permute axes they are permuted.
            spec: the weights'.
            order: axis j of the images that they saw is axis `order[j]` of the images here.
        """

    def read_conventions(self, spec: SpecT, values: "Tensor") -> tuple[SpecT, Triple]:
        """Return what the buffer of an encoder says: the spec, and the order of its axes.

        Args:
            spec: of the encoder, as far as its other tensors say.
            values: the buffer.
        """
        return spec, (0, 1, 2)

    def disagreement(self, found: SpecT, wanted: SpecT) -> str | None:
        """Say in which of `must_agree` a file and a network differ, None where in none."""
        for name in self.must_agree:
            theirs, ours = getattr(found, name), getattr(wanted, name)
            if isinstance(theirs, tuple):
                shared = min(len(theirs), len(ours))
                theirs, ours = theirs[:shared], ours[:shared]
            if theirs != ours:
                return f"expected {name} {_listed(ours)}, as the network has, got {_listed(theirs)}"
        return None

    def permute_spec(self, spec: SpecT, order: Triple) -> SpecT:
        """Return the spec of the encoder that `permute_axes` is for."""
        return replace(spec, strides=permuted(spec.strides, order))

    def permute_axes(
        self, spec: SpecT, tensors: "Mapping[str, Tensor]", order: Triple
    ) -> "dict[str, Tensor]":
        """Return parameters with which the encoder gives permuted features for a permuted image.

        Args:
            spec: of the encoder; that of the permuted one is `permute_spec`'s.
            tensors: the encoder's.
            order: axis j of the permuted image is axis `order[j]` of the image.

        Raises:
            ValueError: the family cannot; permute the image on its way in, and the features back.
        """
        if not self.can_permute_axes:
            raise ValueError(
                f"order: expected a family whose parameters can be permuted, got {self.name}; "
                "permute the image instead"
            )
        i, j, k = (axis + 2 for axis in order)
        return {
            name: tensor.permute(0, 1, i, j, k) if tensor.ndim == 5 else tensor
            for name, tensor in tensors.items()
        }


def _listed(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
