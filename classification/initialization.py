"""Where the encoder's weights come from: random, a file, or a name under TRIAD_WEIGHTS."""

from dataclasses import replace
from pathlib import Path

from classification.model import Classifier
from classification.model_file import Description
from classification.settings import TrainSettings
from nnunet_triad.architectures import encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.weights import EncoderWeights, find_weights, load_weights, transfer_encoder

SCRATCH = "scratch"


def fill_encoder(
    network: Classifier, settings: TrainSettings, description: Description
) -> Description:
    """Copy the weights that `settings.init` names into the encoder.

    Returns:
        The description with the initialisation's name and the transfer's report.

    Raises:
        UserError: there is no such file, or too little of it fits the encoder.
    """
    if settings.init == SCRATCH:
        return description
    weights = read_init(settings)
    report = transfer_encoder(network, weights)
    return replace(description, initialization=weights.info.source, transfer=report.to_dict())


def read_init(settings: TrainSettings) -> EncoderWeights:
    """Read a weights file by its path, or by an initialisation's name in TRIAD_WEIGHTS."""
    path = Path(settings.init).expanduser()
    if path.exists():
        return load_weights(path)
    is_name = settings.init.replace("_", "").replace("-", "").isalnum()
    if not is_name:
        raise UserError(
            f"init: expected scratch, a weights file, or a name such as triad or voco that "
            f"TRIAD_WEIGHTS holds, got {settings.init}, which is not there"
        )
    return find_weights(settings.init, encoder_spec(settings.encoder))
