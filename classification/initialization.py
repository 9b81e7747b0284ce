"""Where the encoder's weights come from: random, a file, or a name under TRIAD_WEIGHTS."""

from dataclasses import replace

from classification.model import Classifier
from classification.model_file import Description
from classification.settings import TrainSettings
from nnunet_triad.architectures import encoder_spec, family_of
from nnunet_triad.training.run_folder import SCRATCH
from nnunet_triad.weights.file import EncoderWeights
from nnunet_triad.weights.locate import read_initialization
from nnunet_triad.weights.transfer import transfer_encoder


def read_weights(settings: TrainSettings) -> EncoderWeights | None:
    """Read the weights that `settings.init` names; None for scratch.

    Raises:
        UserError: there is no such file, or it is of another architecture or another project.
    """
    if settings.init == SCRATCH:
        return None
    return read_initialization(settings.init, encoder_spec(settings.encoder))


def too_small_cube(settings: TrainSettings) -> str | None:
    """Return a line to print where the cube leaves the pooling nothing to tell, else None.

    Instance norm makes two values of a channel, one of which is padding, equal but for their sign.
    """
    spec = encoder_spec(settings.encoder)
    size, stride = settings.preprocess.size, max(spec.total_stride)
    if not family_of(spec).forgets_single_voxels or size > stride:
        return None
    return (
        f"note: of {size} voxels {spec.name} leaves one along each axis, after whose instance norm "
        f"pooled features say next to nothing of the image; use --size {2 * stride} or a Swin"
    )


def fill_encoder(
    network: Classifier, weights: EncoderWeights | None, description: Description
) -> Description:
    """Copy weights into the encoder.

    Returns:
        The description with the initialisation's name and the transfer's report.

    Raises:
        UserError: too little of the file fits the encoder.
    """
    if weights is None:
        return description
    report = transfer_encoder(network, weights)
    return replace(description, initialization=weights.info.source, transfer=report.to_dict())
