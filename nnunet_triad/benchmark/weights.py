"""Which weights file a run starts from, found without reading it."""

from dataclasses import replace
from pathlib import Path

from nnunet_triad.architectures import encoder_spec, family_of
from nnunet_triad.architectures.families import ENCODERS, registration_networks
from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.steps import Requirement, missing
from nnunet_triad.errors import require
from nnunet_triad.weights.catalogue import find_entry, is_catalogued
from nnunet_triad.weights.hub import HubName, is_hub_name
from nnunet_triad.weights.origins import ANY_TRAINER, file_names, find_origin, takes

WEIGHTS_VARIABLE = "TRIAD_WEIGHTS"
ANY_FILE = ANY_TRAINER.lower()  # an initialisation that takes whatever file the variable names


def versioned(architecture: str, initialization: str) -> str:
    """Add the suffix of Swin UNETR V1, for which alone some projects publish weights.

    Raises:
        UserError: they publish weights for V1 alone, and this architecture has none.
    """
    origin = find_origin(initialization)
    published = [file.encoder for file in origin.files] if origin else []
    is_version_1 = all(name.endswith("_v1") for name in published or [architecture])
    if not is_version_1:
        return architecture
    name = f"{architecture.removesuffix('_v1')}_v1"
    rule = f"other weights for {architecture}, as these are published for {', '.join(published)}"
    encoders = {encoder: encoder for encoder in ENCODERS}
    encoders |= {network: encoder for network, (_, encoder) in registration_networks().items()}
    is_published = name in encoders and encoders[name] in (published or [encoders[name]])
    require("initialization", initialization, rule, is_published)
    return name


def weights_requirement(initialization: str, encoder: str, environment: Environment) -> Requirement:
    """Return the weights file of an initialisation, there or not; the file is not opened."""
    names = file_names(initialization, encoder)
    wanted = " or ".join(names)
    value = _value(environment)
    if not value:
        return missing(
            "weights",
            f"weights: expected {WEIGHTS_VARIABLE} to name a folder that holds {wanted}, "
            f"got nothing; export {WEIGHTS_VARIABLE}=FOLDER",
        )
    if is_hub_name(value):  # it is looked up when the run starts
        return Requirement(name="weights", found=value)
    if is_catalogued(value):
        return _catalogued_requirement(value, initialization, encoder)
    path = Path(value).expanduser()
    if path.is_file():
        if initialization == ANY_FILE or path.name in names:
            return Requirement(name="weights", found=str(path))
        return missing(
            "weights",
            f"weights: expected {wanted}, got the file {path}; export {WEIGHTS_VARIABLE}=FOLDER "
            "with a file for each initialisation and encoder",
        )
    for name in names:
        if (path / name).is_file():
            return Requirement(name="weights", found=str(path / name))
    found = "no such file in it" if path.is_dir() else "no such folder"
    return missing("weights", f"weights: expected {wanted} in {path}, got {found}")


def _catalogued_requirement(value: str, initialization: str, encoder: str) -> Requirement:
    """Return the requirement of a published file, which gives one encoder of one publisher."""
    entry = find_entry(value)
    given, wanted = encoder_spec(entry.file.encoder), encoder_spec(encoder)
    is_fit = family_of(given).describe(given) == family_of(wanted).describe(wanted)
    if not is_fit or not takes(initialization, entry.origin.initialization):
        return missing(
            "weights",
            f"weights: expected those of {initialization} for {encoder}, got {entry.name}, "
            f"{entry.origin.initialization} for {given.name}",
        )
    if not entry.path.is_file():
        return missing(
            "weights",
            f"weights: expected {entry.path}, got no file; triad-weights fetch {entry.name}",
        )
    return Requirement(name="weights", found=str(entry.path))


def weights_path(initialization: str, encoder: str, environment: Environment) -> str:
    """Return the file of an initialisation as the commands read it, also before it is there."""
    value = _value(environment)
    (own, *_) = file_names(initialization, encoder)
    if is_hub_name(value):
        name = HubName.parse(value)
        return str(name if name.file else replace(name, file=own))
    found = weights_requirement(initialization, encoder, environment).found
    return found or f"{value or '$' + WEIGHTS_VARIABLE}/{own}"


def _value(environment: Environment) -> str:
    return environment.variables.get(WEIGHTS_VARIABLE, "").strip()
