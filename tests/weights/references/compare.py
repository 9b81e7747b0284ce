"""Each reference's checkpoint loaded as a user does it, and its features beside the publisher's."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from nnunet_triad.architectures import build_encoder, build_network, family_of
from nnunet_triad.weights.file import EncoderWeights
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.report import TransferReport
from nnunet_triad.weights.transfer import Shown, transfer_encoder
from tests.weights.references import Reference, image_of, load, names

# Relative to a feature's root mean square; what the order of float32 sums leaves is below.
TOLERANCE = 1e-4
# Its instance norm is over two voxels, whose difference it divides by: float64 itself is up to
# 1.4e-3 from the publisher's float32, and float32 here as far from float64.
DEEPEST_BLOCK, DEEPEST_TOLERANCE = "encoder10", 5e-3
# What a user states of a file that does not say it.
STATED = {"monai_old_v1": "old", "monai_old_v2": "old"}
_REFUSED = ("amaes_mednext",)  # no family here computes it: weights/unsupported.py
_OUTSIDE = {  # VoCo's blocks beside the encoder, and the level that each is given; None: the image
    "encoder1": None,
    "encoder2": 0,
    "encoder3": 1,
    "encoder4": 2,
    "encoder10": 4,
}


def compared() -> tuple[str, ...]:
    """Return the names of the references whose files are read."""
    return tuple(name for name in names() if name not in _REFUSED)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a publisher's file computes here, beside what it computed at home."""

    reference: Reference
    weights: EncoderWeights
    report: TransferReport
    differences: Mapping[str, tuple[float, float]]  # a feature: absolute, relative

    @property
    def largest(self) -> float:
        """The largest relative difference of any feature but the deepest block's."""
        return max(d[1] for name, d in self.differences.items() if name != DEEPEST_BLOCK)


@cache
def loaded(name: str, merging: str | None) -> EncoderWeights:
    """Read a reference's checkpoint from a file, with a patch merging that a user states."""
    with tempfile.TemporaryDirectory() as folder:
        weights = load_weights(load(name).write(Path(folder) / "weights.bin"))
        tensors = {key: tensor.clone() for key, tensor in weights.tensors.items()}
        outside = {key: tensor.clone() for key, tensor in weights.outside.items()}
    spec = weights.info.spec
    if merging:
        spec = family_of(spec).assume(spec, merging=merging)
    info = replace(weights.info, spec=spec)
    return replace(weights, info=info, tensors=tensors, outside=outside)


@cache
def compare(name: str, merging: str | None = None) -> Comparison:
    """Build what the file says, transfer, and run it on the reference's image.

    Args:
        name: of a reference.
        merging: the patch merging that a user states, None: what the origin is known to have.
    """
    reference = load(name)
    weights = loaded(name, merging or STATED.get(name))
    info = weights.info
    shown = Shown(axes=info.axes or "xyz")  # as the publisher's network saw it
    image = image_of(reference.image_shape)
    if weights.outside:
        network = build_network(info.spec, input_channels=info.input_channels, output_channels=2)
        report = transfer_encoder(network, weights, shown, fills_outside=True)
        features = _with_blocks(network.eval(), image)
    else:
        encoder = build_encoder(info.spec, input_channels=info.input_channels)
        report = transfer_encoder(encoder, weights, shown)
        with torch.no_grad():
            features = {str(i): feature for i, feature in enumerate(encoder.eval()(image))}
    return Comparison(
        reference=reference,
        weights=weights,
        report=report,
        differences={
            level: reference.difference(level, feature) for level, feature in features.items()
        },
    )


def _with_blocks(network: nn.Module, image: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        hidden = network.swinViT(image)
        blocks = {
            name: getattr(network, name)(image if level is None else hidden[level])
            for name, level in _OUTSIDE.items()
        }
    return {**{str(level): feature for level, feature in enumerate(hidden)}, **blocks}


def other_merging(comparison: Comparison) -> str | None:
    """Return the patch merging that a reference was not made with, None where there is none."""
    merging = getattr(comparison.weights.info.spec, "merging", "")
    return None if merging == "" else "new" if merging == "old" else "old"


def reference_table() -> str:
    """Return the guide's table: a row a publisher's file."""
    header = ("file of", "at home", "encoder", "axes", "merging", "intensities", "other merging")
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in _rows()]
    return "\n".join(lines) + "\n"


def _rows() -> Iterator[tuple[str, ...]]:
    for name in compared():
        found = compare(name)
        info = found.weights.info
        other = other_merging(found)
        merging = getattr(info.spec, "merging", "-") or "not known"
        yield (
            found.reference.publisher,
            _home(found.reference.made_with),
            f"{family_of(info.spec).title(info.spec)}, {info.input_channels} ch.",
            info.axes or "not known",
            f"{merging}, stated" if name in STATED else merging,
            info.intensity_normalization,
            f"{compare(name, other).largest:.1f}" if other else "-",
        )


def _home(made_with: Mapping[str, str]) -> str:
    """Whose code made a reference, and which version of MONAI where the network is MONAI's."""
    library = made_with["class"].split(".", 1)[0]
    monai = f"MONAI {made_with['monai']}"
    if "repository" in made_with:
        repository = made_with["repository"].replace("/", "/<wbr>")  # a line may end there
        return f"{repository} {made_with['commit']}, {monai}"
    name = "dynamic-network-architectures"
    return monai if library == "monai" else f"{name} {made_with[name]}"
