"""Which weights file a training uses: the environment variable TRIAD_WEIGHTS."""

import os
from pathlib import Path

from nnunet_triad.architectures import EncoderSpec
from nnunet_triad.errors import UserError
from nnunet_triad.weights.checkpoints import load_checkpoint
from nnunet_triad.weights.file import EncoderWeights, load_safetensors

VARIABLE = "TRIAD_WEIGHTS"
# Names under which VoCo's authors publish their checkpoints.
_VOCO_NAMES = {
    "unet": ("VoComni_nnunet.pt",),
    "swin_b": ("VoCo_B_SSL_head.pt", "VoComni_B.pt"),
    "swin_l": ("VoCo_L_SSL_head.pt", "VoComni_L.pt"),
    "swin_h": ("VoCo_H_SSL_head.pt", "VoComni_H.pt"),
}


def load_weights(path: Path | str) -> EncoderWeights:
    """Read a weights file of this project, or a PyTorch checkpoint that holds such an encoder.

    The format is recognised by content; no code in the file is executed.

    Raises:
        UserError: it is missing, empty, truncated, would execute code, or holds no known encoder.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: expected a weights file, got nothing at that path")
    with path.open("rb") as file:
        start = file.read(2)
    if not start:
        raise UserError(f"{path}: expected a weights file, got an empty one; copy it again")
    is_torch = start == b"PK" or start[:1] == b"\x80"  # a zip archive or a pickle
    return load_checkpoint(path) if is_torch else load_safetensors(path)


def find_weights(initialization: str, spec: EncoderSpec) -> EncoderWeights:
    """Read the weights that TRIAD_WEIGHTS names for an initialisation and an encoder.

    Args:
        initialization: `triad` or `voco`.
        spec: the encoder that is to be filled.

    Returns:
        The file itself, or, when the variable names a folder, `INITIALIZATION_ENCODER.safetensors`
        in it (for VoCo also the names under which its checkpoints are published).

    Raises:
        UserError: the variable is unset or empty, there is no such file, or it is of another
            architecture or another project.
    """
    path = _find_file(initialization, spec)
    weights = load_weights(path)
    found = weights.info
    if (found.spec.family, found.spec.feature_size) != (spec.family, spec.feature_size):
        raise UserError(
            f"{path}: expected weights of {spec.name}, got {found.spec.name} "
            f"({found.spec.family}, feature size {found.spec.feature_size}); "
            f"point {VARIABLE} at a file for {spec.name} or use that architecture's trainer"
        )
    if found.source not in (initialization, "checkpoint"):
        raise UserError(
            f"{path}: expected weights pre-trained by {initialization}, got {found.source}'s; "
            f"use the {found.source.capitalize()} trainer or another file"
        )
    return weights


def _find_file(initialization: str, spec: EncoderSpec) -> Path:
    value = os.environ.get(VARIABLE, "").strip()
    own_name = f"{initialization}_{spec.name}.safetensors"
    if not value:
        raise UserError(
            f"{VARIABLE}: expected a weights file, or a folder that holds {own_name}, got nothing; "
            f"export {VARIABLE}=/path/to/weights, or use a Scratch trainer to train without"
        )
    path = Path(value).expanduser()
    if not path.exists():
        raise UserError(f"{VARIABLE}: expected a file or a folder, got {path}, which is not there")
    if not path.is_dir():
        return path
    names = (own_name, *(_VOCO_NAMES.get(spec.name, ()) if initialization == "voco" else ()))
    for name in names:
        if (path / name).is_file():
            return path / name
    held = sorted(item.name for item in path.iterdir() if item.is_file())[:5]
    raise UserError(
        f"{VARIABLE}: expected {' or '.join(names)} in {path}, got {', '.join(held) or 'no file'}"
    )
