"""Which weights file a training uses: a path, a name on the hub, or TRIAD_WEIGHTS."""

import os
from pathlib import Path

from nnunet_triad.architectures import EncoderSpec, family_of
from nnunet_triad.errors import UserError
from nnunet_triad.weights.catalogue import fetch, find_fetched, is_catalogued
from nnunet_triad.weights.file import EncoderWeights
from nnunet_triad.weights.hub import SUFFIXES, download, is_hub_name
from nnunet_triad.weights.origins import (
    file_names,
    published_at,
    published_names,
    takes,
    trainer_word,
)
from nnunet_triad.weights.reading import read_weights
from nnunet_triad.weights.stated import Stated, apply, is_anonymous

VARIABLE = "TRIAD_WEIGHTS"
_NUM_NAMED = 5  # files of a folder, in an error


def load_weights(path: Path | str, stated: Stated | None = None) -> EncoderWeights:
    """Read an encoder's weights: a file of this project, or another project's checkpoint.

    The format is recognised by content; no code in the file is executed.

    Args:
        path: a file, `hf://ORG/NAME[/FILE][@REVISION]`, or a name of the catalogue.
        stated: of a file that does not say all: whose it is, how it merges, which of its state
            dicts is wanted (without: a moving average where there is one, else what is usual).
            TRIAD_ORIGIN states an origin where this does not; the catalogue says it of an
            anonymous file that was fetched by its name.

    Raises:
        UserError: it is missing, empty, truncated, would execute code, holds no known encoder, or
            values that are not finite; or what is stated contradicts it.
    """
    stated = (stated or Stated()).or_environment()
    path = _local(path)
    if path.is_dir():
        raise UserError(
            f"{path}: expected a weights file, got {_describe_folder(path)}; name the file"
        )
    if not path.is_file():
        raise UserError(
            f"{path}: expected a weights file, got nothing at that path; check it, or name weights "
            "on the Hugging Face hub as hf://ORG/NAME, or by `triad-weights catalogue`"
        )
    if not path.stat().st_size:
        raise UserError(f"{path}: expected a weights file, got an empty one; copy it again")
    weights = read_weights(path, key=stated.key)
    entry = find_fetched(path)
    if entry is not None and is_anonymous(weights.info):
        weights = apply(weights, Stated(origin=entry.origin.initialization))
    return apply(weights, stated)


def _local(place: Path | str) -> Path:
    """Return where a file is: here, or fetched from the hub or by its name in the catalogue."""
    if is_hub_name(place):
        return download(place)
    path = Path(place).expanduser()
    is_name = not path.exists() and path.name == str(place)
    return fetch(str(place)) if is_name and is_catalogued(str(place)) else path


def _describe_folder(folder: Path) -> str:
    """Return in words which weights files a folder holds, of many the first ones."""
    held = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES)
    more = f" and {len(held) - _NUM_NAMED} more" if len(held) > _NUM_NAMED else ""
    names = ", ".join(held[:_NUM_NAMED])
    return f"a folder that holds {names}{more}" if held else "a folder without any"


def find_weights(
    initialization: str,
    spec: EncoderSpec,
    *,
    place: str | None = None,
    stated: Stated | None = None,
) -> EncoderWeights:
    """Read the weights that a place holds for an initialisation and an encoder.

    Args:
        initialization: a publisher's, such as `triad` or `voco`; `pretrained` and other names
            take any file.
        spec: the encoder that is to be filled.
        place: a file, a folder or an `hf://` name; None for what TRIAD_WEIGHTS names.
        stated: as for `load_weights`.

    Returns:
        The file itself, or, where the place is a folder or a repository,
        `INITIALIZATION_ENCODER.safetensors` in it, or the name under which the project of that
        initialisation publishes its checkpoint.

    Raises:
        UserError: the variable is unset or empty, there is no such file, or it is of another
            architecture or another project.
    """
    path = _find_file(initialization, spec, place)
    weights = load_weights(path, stated)
    if is_anonymous(weights.info) and path.name in published_names(initialization, spec.name):
        weights = apply(weights, Stated(origin=initialization))
    return check_source(weights, initialization, spec)


def read_initialization(text: str, spec: EncoderSpec) -> EncoderWeights:
    """Read the weights that an option `--init` names.

    Args:
        text: a weights file, `hf://ORG/NAME[/FILE][@REVISION]`, or an initialisation's name, as
            for `find_weights`.
        spec: the encoder that is to be filled.

    Raises:
        UserError: there is no such file, or it is of another architecture or another project.
    """
    path = Path(text).expanduser()
    if is_hub_name(text) or is_catalogued(text) or path.exists():
        weights = load_weights(text)
        check_architecture(weights, spec)
        return weights
    if not text.replace("_", "").replace("-", "").isalnum():
        raise UserError(
            f"init: expected scratch, a weights file, or a name such as triad or voco that "
            f"{VARIABLE} holds, got {text}, which is not there",
            setting="init",
        )
    return find_weights(text, spec)


def check_source(weights: EncoderWeights, initialization: str, spec: EncoderSpec) -> EncoderWeights:
    """Return weights if a trainer of an initialisation and an encoder may take them.

    Raises:
        UserError: they are of another architecture, or of another project.
    """
    check_architecture(weights, spec)
    source = weights.info.source
    if not takes(initialization, source):
        raise UserError(
            f"{weights.path}: expected weights pre-trained by {initialization}, got {source}'s; "
            f"use the {trainer_word(source)} trainer or another file"
        )
    return weights


class ArchitectureError(UserError):
    """A weights file is of another architecture; callers may add what of theirs fits it."""

    def __init__(self, weights: EncoderWeights, spec: EncoderSpec) -> None:
        """Say what was expected and found, and to use another file."""
        found = weights.info.spec
        self.weights = weights
        self.finding = (
            f"{weights.path}: expected weights of {spec.name} ({_describe(spec)}), got "
            f"{found.name} ({_describe(found)})"
        )
        super().__init__(f"{self.finding}; use a file of {spec.name}, or the file's architecture")


def check_architecture(weights: EncoderWeights, spec: EncoderSpec) -> None:
    """Raise an ArchitectureError unless `is_same_architecture` of the weights' encoder and this."""
    if not is_same_architecture(weights.info.spec, spec):
        raise ArchitectureError(weights, spec)


def is_same_architecture(one: EncoderSpec, other: EncoderSpec) -> bool:
    """Say whether two encoders are of one family, width and, unless planned, depth."""
    return _describe(one) == _describe(other)


def _describe(spec: EncoderSpec) -> str:
    return family_of(spec).describe(spec)


def _find_file(initialization: str, spec: EncoderSpec, place: str | None) -> Path:
    names = file_names(initialization, spec.name)
    value = os.environ.get(VARIABLE, "").strip() if place is None else place
    if not value:
        raise UserError(
            f"{VARIABLE}: expected a weights file, hf://ORG/NAME[/FILE], or a folder that holds "
            f"{names[0]}, got nothing; export {VARIABLE}=/path/to/weights, or use a Scratch "
            "trainer to train without"
        )
    if is_hub_name(value):
        return download(value, wanted=names)
    path = _local(value)
    if place is None and not path.exists():
        raise UserError(f"{VARIABLE}: expected a file or a folder, got {path}, which is not there")
    if not path.is_dir():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    named, where = (VARIABLE, path) if place is None else (path, "it")
    raise UserError(
        f"{named}: expected {' or '.join(names)} in {where}, got {_describe_folder(path)}; "
        f"name {' or '.join(('the file', *published_at(initialization, spec.name)[:1]))}"
    )
