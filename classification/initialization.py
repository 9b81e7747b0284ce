"""Where the encoder's weights come from: random, a file, or a name under TRIAD_WEIGHTS."""

from dataclasses import replace

from classification.data import ClassificationData
from classification.model import Classifier
from classification.model_file import Description
from classification.settings import TrainSettings
from nnunet_triad.architectures import encoder_spec, family_of
from nnunet_triad.images.intensity import ZSCORE, Intensity, Scale, Statistics, statistics_of
from nnunet_triad.training.run_folder import SCRATCH
from nnunet_triad.weights.file import EncoderWeights
from nnunet_triad.weights.locate import read_initialization
from nnunet_triad.weights.transfer import Shown, transfer_encoder

_NUM_MEASURED = 16  # samples whose values are looked at


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


def shown_by(data: ClassificationData, settings: TrainSettings, weights: EncoderWeights) -> Shown:
    """Return what a run shows its encoder: RAS cubes, on the scale of its preprocessing.

    Where the weights saw another scale, the values of a few training samples are looked at.
    """
    preprocess, rows = settings.preprocess, data.manifest.rows("train")
    here = ZSCORE
    if preprocess.window is not None and preprocess.intensity == "window":  # to -1 .. 1
        low, high = preprocess.window
        here = Intensity(Scale.STANDARDISED, (low + high) / 2, (high - low) / 2)
    channels = range(data.manifest.num_channels)
    statistics: tuple[Statistics, ...] = ()
    if Intensity.parse(weights.info.intensity_normalization) != here and len(rows):
        chosen = rows[:: max(1, len(rows) // _NUM_MEASURED)][:_NUM_MEASURED]
        samples = [data.load(int(row)).float().numpy() for row in chosen]
        statistics = tuple(statistics_of(sample[c] for sample in samples) for c in channels)
    return Shown(
        axes="xyz",
        intensity=tuple(here for _ in channels),
        statistics=statistics,
        maps_intensity=settings.map_intensity,
    )


def fill_encoder(
    network: Classifier, weights: EncoderWeights, description: Description, shown: Shown
) -> Description:
    """Copy weights into the encoder.

    Args:
        network: with its random weights.
        weights: from `read_weights`.
        description: of the model.
        shown: what the encoder will be shown.

    Returns:
        The description with the initialisation's name and the transfer's report.

    Raises:
        UserError: too little of the file fits the encoder.
    """
    report = transfer_encoder(network, weights, shown)
    return replace(description, initialization=weights.info.source, transfer=report.to_dict())
