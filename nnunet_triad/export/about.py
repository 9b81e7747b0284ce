"""What a runner must do around a network, as JSON: `model.json`."""

from collections.abc import Mapping
from typing import Any

from nnunet_triad import __version__
from nnunet_triad.errors import UserError
from nnunet_triad.export.model_folder import TrainedModel

FORMAT = 1
_SCHEMES = (
    "ZScoreNormalization",
    "CTNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
    "NoNormalization",
)
# nnU-Net's readers, and the axes that they turn images to; the others read no volumes with spacing.
_READERS = {
    "SimpleITKIO": "",
    "NibabelIO": "",
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
}
_DEFAULT, _TORCH, _NONE = (
    "resample_data_or_seg_to_shape",
    "resample_torch_fornnunet",
    "no_resampling_hack",
)
_THRESHOLD = 3  # nnU-Net's: how much coarser an axis must be to be resampled apart


def describe(model: TrainedModel) -> dict[str, Any]:
    """Return what `predict.py` reads, but for the files of the networks.

    Raises:
        UserError: the plan asks for something that the runner cannot do.
    """
    plans, configuration = model.plans, model.configuration
    _require(model, "preprocessor_name", configuration.preprocessor_name, ("DefaultPreprocessor",))
    _require(model, "image_reader_writer", plans.plans["image_reader_writer"], tuple(_READERS))
    _require(
        model, "label_manager", plans.plans.get("label_manager", "LabelManager"), ("LabelManager",)
    )
    labels = model.labels
    return {
        "format": FORMAT,
        "made_by": f"triad-nnunet {__version__}",
        "dataset": plans.dataset_name,
        "trainer": model.trainer,
        "plans": plans.plans_name,
        "configuration": model.configuration_name,
        "channel_names": model.dataset.get("channel_names") or model.dataset["modality"],
        "labels": model.dataset["labels"],
        "regions_class_order": list(labels.regions_class_order) if labels.has_regions else None,
        "num_outputs": model.num_outputs,
        "file_ending": model.dataset["file_ending"],
        "reorient": _READERS[plans.plans["image_reader_writer"]],
        "transpose_forward": list(plans.transpose_forward),
        "transpose_backward": list(plans.transpose_backward),
        "spacing": [float(size) for size in configuration.spacing],
        "patch_size": [int(size) for size in configuration.patch_size],
        "normalization": [
            _normalization(model, channel) for channel in range(model.input_shape[1])
        ],
        "resampling": {
            "data": _resampling(model, "resampling_fn_data"),
            "logits": _resampling(model, "resampling_fn_probabilities"),
        },
        "mirror_axes": list(model.mirror_axes),
        "network_input": {"name": "image", "shape": list(model.input_shape), "dtype": "float32"},
        "network_output": {
            "name": "logits",
            "shape": [1, model.num_outputs, *configuration.patch_size],
            "dtype": "float32",
        },
    }


def _require(model: TrainedModel, name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(
            f"{model.folder / 'plans.json'}: {name}: expected {' or '.join(known)}, which the "
            f"runner does, got {value}; use --format nnunet"
        )


def _normalization(model: TrainedModel, channel: int) -> dict[str, Any]:
    scheme = model.configuration.normalization_schemes[channel]
    _require(model, "normalization_schemes", scheme, _SCHEMES)
    about = {
        "scheme": scheme,
        "use_mask": scheme == _SCHEMES[0] and bool(model.configuration.use_mask_for_norm[channel]),
    }
    if scheme == "CTNormalization":
        known = model.plans.foreground_intensity_properties_per_channel[str(channel)]
        names = ("mean", "std", "percentile_00_5", "percentile_99_5")
        about |= {name: float(known[name]) for name in names}
    return about


def _resampling(model: TrainedModel, function: str) -> dict[str, Any]:
    """A rule of `predict.resample`; an order of None: not at all."""
    name = model.configuration.configuration[function]
    options: Mapping[str, Any] = model.configuration.configuration[f"{function}_kwargs"]
    _require(model, function, name, (_DEFAULT, _TORCH, _NONE))
    order = {_DEFAULT: options.get("order", 3), _TORCH: 1, _NONE: None}[name]
    is_linear = name != _TORCH or options.get("mode", "linear") == "linear"
    is_nearest = (
        options.get("order_z", 0) == 0
        and options.get("aniso_axis_mode", "nearest-exact") == "nearest-exact"
    )
    allowed = (1, 3, None) if function == "resampling_fn_data" else (1, None)
    if order not in allowed or not (is_linear and is_nearest) or options.get("is_seg"):
        raise UserError(
            f"{model.folder / 'plans.json'}: {function}_kwargs: expected splines of order "
            f"{' or '.join(str(one) for one in allowed if one)} and the nearest slice between "
            f"slices, which the runner does, got {dict(options)}; use --format nnunet"
        )
    return {
        "order": order,
        "force_separate_z": options.get("force_separate_z", None if name == _TORCH else False),
        "threshold": options.get("separate_z_anisotropy_threshold", _THRESHOLD),
        "rounds": name == _DEFAULT,  # logits to float16, in which they come
    }
