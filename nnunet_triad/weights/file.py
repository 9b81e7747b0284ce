"""The weights file: an encoder's tensors and what is needed to use them, as safetensors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_triad import __version__
from nnunet_triad.architectures import EncoderSpec, family_of
from nnunet_triad.architectures.families import spec_from_dict
from nnunet_triad.errors import UserError
from nnunet_triad.weights.origins import TRIAD, ZSCORE, Assumptions, find_origin
from nnunet_triad.weights.tensor_file import from_json, to_json, write_tensors

if TYPE_CHECKING:  # PyTorch is slow to import, and a file can be looked at without
    from torch import Tensor, nn

FORMAT_VERSION = 1
_METADATA_KEY = "triad"


@dataclass(frozen=True, kw_only=True)
class WeightsInfo:
    """What a weights file says of its encoder besides the tensors."""

    spec: EncoderSpec
    input_channels: int = 1
    patch_size: tuple[int, int, int] | None = None  # voxels of a pre-training crop
    spacing_mm: tuple[float, float, float] | None = None  # of its voxels; the median
    intensity_normalization: str = ZSCORE  # a text of `images.intensity.Intensity`
    axes: str | None = None  # of the arrays that it saw, such as xyz; see `images.axes_of`
    pretraining_steps: int = 0
    # what they minimised: `triad-pretrain --objective` as "name", and its options; none: not known
    objective: Mapping[str, Any] = field(default_factory=dict)
    data_summary: str = ""
    source: str = TRIAD.name  # who pre-trained it: `Origin.name`, or another name
    package_version: str = __version__
    licence: str = ""  # of the weights; empty: not stated
    citation: str = TRIAD.citation

    def to_json(self) -> str:
        """Return the fields as one JSON text."""
        return to_json(asdict(self), version=FORMAT_VERSION)

    @classmethod
    def from_json(cls, text: str) -> "WeightsInfo":
        """Read `to_json`'s text.

        Raises:
            UserError: the text is of another format version.
        """
        fields = from_json(text, version=FORMAT_VERSION)
        for name in ("patch_size", "spacing_mm"):
            fields[name] = tuple(fields[name]) if fields[name] is not None else None
        info = cls(**{**fields, "spec": spec_from_dict(fields["spec"])})
        if info.axes is not None and sorted(info.axes) != ["x", "y", "z"]:
            raise ValueError(f"axes {info.axes!r}")
        return info if "axes" in fields else info.as_published()

    def as_published(self) -> "WeightsInfo":
        """Return what a file says that was written before it said all that its source assumes."""
        origin = find_origin(self.source)
        assumes = origin.assumes if origin else Assumptions()
        return replace(
            self,
            spec=family_of(self.spec).assume(self.spec, merging=assumes.merging),
            axes=assumes.axes,
            spacing_mm=self.spacing_mm or assumes.spacing_mm,
            intensity_normalization=assumes.intensity or self.intensity_normalization,
        )


@dataclass(frozen=True, kw_only=True)
class EncoderWeights:
    """An encoder's tensors by name, with the file that they come from."""

    path: Path
    sha256: str
    info: WeightsInfo
    tensors: Mapping[str, "Tensor"]
    # of the segmentation network around it, by MONAI's names; VoCo's convolution blocks
    outside: Mapping[str, "Tensor"] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()  # what was assumed of the file, for the report

    @property
    def num_parameters(self) -> int:
        """Number of values in all tensors."""
        return sum(tensor.numel() for tensor in self.tensors.values())


def encoder_tensors(encoder: "nn.Module") -> dict[str, "Tensor"]:
    """Return an encoder's parameters and floating-point buffers, each once.

    A module that is registered under two names counts under the first; buffers that are integers
    or no part of a checkpoint (attention's tables) follow from the architecture and are left out.
    """
    kept = encoder.state_dict().keys()
    buffers = {
        name: buffer
        for name, buffer in encoder.named_buffers()
        if buffer.is_floating_point() and name in kept
    }
    return {**dict(encoder.named_parameters()), **buffers}


def save_weights(path: Path, encoder: "nn.Module", info: WeightsInfo) -> None:
    """Write an encoder to a safetensors file, atomically.

    Args:
        path: NAME.safetensors; a file of that name is replaced once the new one is whole.
        encoder: the module that `build_encoder(info.spec)` returns, in any precision.
        info: goes into the file's metadata.
    """
    save_tensors(path, encoder_tensors(encoder), info)


def save_tensors(path: Path, tensors: Mapping[str, "Tensor"], info: WeightsInfo) -> None:
    """Write an encoder's tensors, by the names that the module has, as `save_weights` does."""
    write_tensors(path, tensors, key=_METADATA_KEY, text=info.to_json())


def read_info(path: Path, metadata: Mapping[str, Any]) -> WeightsInfo | None:
    """Return what `save_weights` wrote into a file's metadata, None where they are not its.

    Raises:
        UserError: they are damaged, or of another format version.
    """
    text = metadata.get(_METADATA_KEY)
    if not isinstance(text, str):
        return None
    try:
        return WeightsInfo.from_json(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: expected the metadata of a weights file, got others "
            f"({type(error).__name__}: {error}); get the file again"
        ) from error
