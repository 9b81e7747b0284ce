"""Encoders with their own weights, or with random ones in their place."""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch

from nnunet_triad.architectures import ENCODERS, build_encoder, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.features.settings import FeatureSettings
from nnunet_triad.weights.file import EncoderWeights, WeightsInfo, encoder_tensors
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.stated import Stated

RANDOM = "random"


def read_encoder(settings: FeatureSettings) -> EncoderWeights:
    """Read the weights that settings name; random:NAME are of no file.

    Raises:
        UserError: there is no such file or name, or it holds no known encoder.
    """
    place = settings.encoder or ""
    if not place:
        raise UserError(
            "encoder: expected a weights file, or a name of `triad-weights catalogue`, got none",
            setting="encoder",
        )
    kind, _, name = place.partition(":")
    if kind != RANDOM:
        stated = Stated(origin=settings.origin, merging=settings.merging, key=settings.key)
        return load_weights(place, stated)
    if name not in ENCODERS:
        raise UserError(
            f"encoder: expected {RANDOM}: and one of {', '.join(ENCODERS)}, got {place}",
            setting="encoder",
        )
    return random_weights(WeightsInfo(spec=encoder_spec(name), axes="xyz"), seed=settings.seed)


def random_weights(info: WeightsInfo, *, seed: int) -> EncoderWeights:
    """Return weights of the same network that saw nothing: its initial values.

    Images are shown to it as to the encoder that `info` is of.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder(info.spec, input_channels=info.input_channels)
    tensors = {name: tensor.detach() for name, tensor in encoder_tensors(encoder).items()}
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return EncoderWeights(
        path=Path(f"{RANDOM}:{info.spec.name}"),
        sha256=digest.hexdigest(),
        info=replace(
            info, source=RANDOM, licence="", citation="", data_summary=f"random, seed {seed}"
        ),
        tensors=tensors,
    )
