"""The families there are, and what is asked of whichever one an encoder is of."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnunet_triad.architectures.families.mednext import MedNeXt
from nnunet_triad.architectures.families.plainconv import PlainConv
from nnunet_triad.architectures.families.primus import Primus
from nnunet_triad.architectures.families.resenc import ResEnc
from nnunet_triad.architectures.families.swin import Swin
from nnunet_triad.architectures.family import Family, NetworkPlan
from nnunet_triad.architectures.spec import EncoderSpec, make_spec
from nnunet_triad.errors import require

if TYPE_CHECKING:
    from torch import Tensor, nn

FAMILIES: dict[str, Family[Any]] = {}
ENCODERS: dict[str, EncoderSpec] = {}
NETWORKS: dict[str, str] = {}  # as trainers' names have them -> the encoder of each


def register(family: Family[Any]) -> None:
    """Make a family known, with its encoders and networks."""
    FAMILIES[family.name] = family
    ENCODERS.update((spec.name, spec) for spec in family.encoders)
    NETWORKS.update(family.networks)


register(PlainConv())
register(Swin())
register(ResEnc())
register(MedNeXt())
register(Primus())


def family_of(spec: EncoderSpec) -> Family[Any]:
    """Return the family that an encoder is of."""
    return FAMILIES[spec.family]


def encoder_spec(name: str) -> EncoderSpec:
    """Return the encoder of that name.

    Raises:
        UserError: there is none.
    """
    require("encoder", repr(name), f"one of {', '.join(ENCODERS)}", name in ENCODERS)
    return ENCODERS[name]


def networks_on(encoder: str) -> tuple[str, ...]:
    """Return the networks on an encoder, as trainers' names have them.

    Of one that has none of its own, those that differ in depth alone, which nnU-Net plans.
    """
    own = tuple(network for network, name in NETWORKS.items() if name == encoder)
    if own or encoder not in ENCODERS:
        return own
    what = _describe(encoder)
    return tuple(network for network, name in NETWORKS.items() if _describe(name) == what)


def _describe(encoder: str) -> str:
    spec = encoder_spec(encoder)
    return family_of(spec).describe(spec)


def registration_networks() -> dict[str, tuple[str, str]]:
    """Return the networks for registration: name -> its decoder, and its encoder's name.

    The decoder, then the encoder; Swin encoders go without their family's name: transmorph_l.
    """
    pairs = [
        (decoder, spec.name)
        for spec in ENCODERS.values()
        for decoder in family_of(spec).registration_decoders
    ]
    return {
        f"{decoder}_{encoder.removeprefix('swin_')}": (decoder, encoder)
        for decoder, encoder in sorted(pairs, key=lambda pair: pair[0], reverse=True)
    }


def build_encoder(
    spec: EncoderSpec, *, input_channels: int = 1, recompute: bool = False
) -> "nn.Module":
    """Build an encoder with random weights.

    Called on an image (b, c, x, y, z) it returns a list of features, fine to coarse, with
    `spec.channels` channels each.

    Args:
        spec: which encoder.
        input_channels: c of the image.
        recompute: activations in the backward pass, to save memory, where the family can.

    Returns:
        A module whose parameters are named as in the library that the architecture comes from:
        published checkpoints load by name.
    """
    return family_of(spec).build_encoder(spec, input_channels=input_channels, recompute=recompute)


def build_network(
    spec: EncoderSpec,
    *,
    input_channels: int,
    output_channels: int,
    plan: NetworkPlan | None = None,
    deep_supervision: bool = False,
    recompute: bool = False,
) -> "nn.Module":
    """Build a segmentation network with random weights, in which `find_encoder` finds the encoder.

    Args:
        spec: of the encoder; a family that follows plans takes stages and strides from the plan.
        input_channels: channels of the image.
        output_channels: channels of the logits.
        plan: the network that nnU-Net has planned.
        deep_supervision: whether coarser levels give logits too, where the family can.
        recompute: activations in the backward pass, to save memory, where the family can.
    """
    return family_of(spec).build_network(
        spec,
        input_channels=input_channels,
        output_channels=output_channels,
        plan=plan,
        deep_supervision=deep_supervision,
        recompute=recompute,
    )


def read_spec(
    tensors: "Mapping[str, Tensor]", arguments: Mapping[str, Any] | None = None
) -> EncoderSpec | None:
    """Return the architecture of a file's encoder, None where the names are of no known one.

    Args:
        tensors: of the encoder alone, by this project's names.
        arguments: of the plan beside them (`arch_kwargs`), where there is one.
    """
    specs = (family.read_spec(tensors, arguments or {}) for family in FAMILIES.values())
    found = next((spec for spec in specs if spec is not None), None)
    if found is None:
        return None
    return next((known for known in ENCODERS.values() if known.is_same_encoder(found)), found)


def spec_from_dict(values: Mapping[str, Any]) -> EncoderSpec:
    """Build a spec from `EncoderSpec.to_dict`'s values, lists allowed where tuples were.

    Raises:
        KeyError: there is no such family.
        TypeError: a field is unknown or missing.
    """
    return make_spec(FAMILIES[values["family"]].spec_class, values)
