"""The trainers' names, as nnU-Net looks them up: initialisation x network x suffixes.

A suffix is data: what it replaces of nnU-Net's settings and of the recipe. Any number of them
combine, in any order; a class is made when its name is asked for.
"""

import re
import sys
from functools import cache

from nnunet_triad.architectures import NETWORKS, EncoderSpec, encoder_spec, family_of
from nnunet_triad.errors import UserError
from nnunet_triad.trainers.base import TriadTrainer
from nnunet_triad.trainers.names import INITIALIZATIONS
from nnunet_triad.trainers.suffixes import FINETUNE, SUFFIXES


class UnknownSuffixError(AttributeError):
    """A name is one of this project's but for a suffix; the message lists those there are."""


@cache
def make_trainer(name: str) -> type[TriadTrainer]:
    """Return the trainer of a name, always the same class.

    Raises:
        AttributeError: no trainer of this project has such a name; UnknownSuffixError where only
            a suffix is not known.
        UserError: two of its suffixes exclude each other, or one stands twice.
    """
    networks = "|".join(sorted(NETWORKS, key=len, reverse=True))
    match = re.fullmatch(
        rf"nnUNetTrainer({'|'.join(INITIALIZATIONS)})({networks})((?:_[A-Za-z0-9]+)*)", name
    )
    if match is None:
        raise AttributeError(f"no trainer of this project is called {name}")
    initialization, network, ending = match.groups()
    suffixes = ending.split("_")[1:]
    unknown = [suffix for suffix in suffixes if suffix not in SUFFIXES]
    if unknown:
        raise UnknownSuffixError(
            f"{name}: no suffix _{unknown[0]} here; suffixes of "
            f"nnUNetTrainer{initialization}{network}: {', '.join(SUFFIXES)}"
        )
    _check_compatible(name, suffixes)
    spec = encoder_spec(NETWORKS[network])
    meant = sorted(_resolve(suffix, spec) for suffix in suffixes)
    bases = (*(_mixin(suffix) for suffix in meant), TriadTrainer)
    attributes = {
        "__module__": __name__,
        "__doc__": f"{network}, initialisation: {initialization}.",
        "encoder": spec,
        "initialization": INITIALIZATIONS[initialization],
    }
    return type(name, bases, attributes)


def _resolve(suffix: str, spec: EncoderSpec) -> str:
    return family_of(spec).finetuning if suffix == FINETUNE else suffix


def _check_compatible(name: str, suffixes: list[str]) -> None:
    for number, suffix in enumerate(suffixes):
        for other in suffixes[:number]:
            excluded = {other} | SUFFIXES[other].excludes
            if suffix in excluded or other in SUFFIXES[suffix].excludes:
                raise UserError(
                    f"{name}: expected suffixes that go together, got _{other} and _{suffix}; "
                    "leave one of them out"
                )


@cache
def _mixin(suffix: str) -> type:
    one = SUFFIXES[suffix]
    return type(suffix, (), {"settings": one.settings, "recipe_fields": one.recipe_fields})


# nnU-Net finds a trainer as an attribute of a module: the shim has this function too.
def __getattr__(name: str) -> type[TriadTrainer]:
    if not name.startswith("nnUNetTrainer"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    try:
        return make_trainer(name)
    except UnknownSuffixError as error:  # perhaps somebody else's: nnU-Net goes on searching
        print(error, file=sys.stderr)
        raise


__all__ = [
    f"nnUNetTrainer{initialization}{network}"
    for initialization in INITIALIZATIONS
    for network in NETWORKS
]
