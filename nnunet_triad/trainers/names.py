"""What the trainers' names are made of, and which name takes a file."""

from collections.abc import Iterator
from contextlib import contextmanager

from nnunet_triad.architectures import NETWORKS, EncoderSpec, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.weights.locate import ArchitectureError, is_same_architecture
from nnunet_triad.weights.origins import ANY_TRAINER, ORIGINS, takes, trainer_word

# The first word of a name, and whose weights it takes; the last one takes anybody's.
INITIALIZATIONS: dict[str, str | None] = {
    "Scratch": None,
    **{o.trainer: o.initialization for o in ORIGINS if o.trainer != ANY_TRAINER},
    ANY_TRAINER: ANY_TRAINER.lower(),
}


@contextmanager
def naming_what_fits(initialization: str, spec: EncoderSpec) -> Iterator[None]:
    """Name the trainers that take a file, where it is refused for its architecture.

    Args:
        initialization: of the trainer that was asked for.
        spec: its encoder.
    """
    try:
        yield
    except ArchitectureError as error:
        info = error.weights.info
        names = fitting_trainers(info.spec, info.source, initialization)
        advice = (
            f"use {' or '.join(names)}, or a file of {spec.name}"
            if names
            else f"no nnU-Net trainer takes {info.spec.name}, use a file of {spec.name}"
        )
        raise UserError(f"{error.finding}; {advice}") from error


def fitting_trainers(found: EncoderSpec, source: str, initialization: str) -> tuple[str, ...]:
    """Return the names of the trainers that take a file, none where no network has its encoder.

    Args:
        found: the file's architecture.
        source: who trained it.
        initialization: what is preferred, where it may take files of that source.
    """
    start = trainer_word(initialization if takes(initialization, source) else source)
    return tuple(
        f"nnUNetTrainer{start}{network}"
        for network, encoder in NETWORKS.items()
        if is_same_architecture(encoder_spec(encoder), found)
    )
