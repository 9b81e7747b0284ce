"""Where the encoder's weights come from: random, a file, or a name under TRIAD_WEIGHTS."""

from dataclasses import replace

from classification.model import Classifier
from classification.model_file import Description
from classification.settings import TrainSettings
from nnunet_triad.architectures import encoder_spec
from nnunet_triad.weights import read_initialization, transfer_encoder

SCRATCH = "scratch"


def check_init(settings: TrainSettings) -> None:
    """Read the weights that `settings.init` names: a mistake shows before hours of preprocessing.

    Raises:
        UserError: there is no such file, or it is of another architecture or another project.
    """
    if settings.init != SCRATCH:
        read_initialization(settings.init, encoder_spec(settings.encoder))


def too_small_cube(settings: TrainSettings) -> str | None:
    """Return a line to print where the cube leaves the U-Net's pooling nothing to tell, else None.

    Instance norm makes two values of a channel, one of which is padding, equal but for their sign.
    """
    spec = encoder_spec(settings.encoder)
    size, stride = settings.preprocess.size, max(spec.total_stride)
    if spec.family != "plainconv" or size > stride:
        return None
    return (
        f"note: of {size} voxels {spec.name} leaves one along each axis, after whose instance norm "
        f"pooled features say next to nothing of the image; use --size {2 * stride} or a Swin"
    )


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
    weights = read_initialization(settings.init, encoder_spec(settings.encoder))
    report = transfer_encoder(network, weights)
    return replace(description, initialization=weights.info.source, transfer=report.to_dict())
