"""Weights written in other formats: this project's safetensors, and nnssl's checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nnunet_triad.architectures import build_encoder, family_of
from nnunet_triad.architectures.spec import permuted
from nnunet_triad.errors import UserError
from nnunet_triad.files import check_not_another, check_outputs, write_atomically
from nnunet_triad.images.orientation import order_of_axes
from nnunet_triad.weights.file import EncoderWeights, encoder_tensors, save_tensors
from nnunet_triad.weights.transfer import Shown, transfer_encoder

_DEFAULT_PATCH = (160, 160, 160)  # voxels: what OpenMind recommends downstream
_NNSSL_AXES = "zyx"  # of the arrays that nnssl and nnU-Net show a network


def convert(weights: EncoderWeights, output: Path, *, input_channels: int | None = None) -> None:
    """Write weights of any source as this project's safetensors.

    Args:
        weights: from `load_weights`.
        output: NAME.safetensors.
        input_channels: adapt the stem to them; without: as the file has it.

    Raises:
        UserError: the name has another ending, or is that of the file that was read or of another.
    """
    if output.suffix != ".safetensors":
        raise UserError(f"OUTPUT: expected NAME.safetensors, got {output.name}")
    check_outputs([output], [weights.path])
    info, tensors = weights.info, weights.tensors
    if input_channels is not None:
        tensors = encoder_tensors(_fill(weights, input_channels))
        info = replace(info, input_channels=input_channels)
    with write_atomically(output) as temporary:
        save_tensors(temporary, {**tensors, **weights.outside}, info)
        check_not_another(output, temporary)


def export_nnssl(
    weights: EncoderWeights, output: Path, *, input_channels: int | None = None
) -> None:
    """Write a convolutional encoder as a checkpoint of nnssl, with its adaptation plan.

    nnU-Net's `nnUNetv2_preprocess_like_nnssl` and `nnUNetv2_train_pretrained` take it. Their
    loader fails on more input channels than the file has with a PlainConvUNet: export with
    the data set's number of channels then.

    Kernels, strides, crop and spacing are written for arrays z y x, which nnssl and nnU-Net show.

    Source: nnssl's AbstractTrainer.save_checkpoint and adaptation_plan.py.
    Differs: holds the encoder alone, as there is no decoder to transfer; no optimiser state.

    Args:
        weights: from `load_weights`.
        output: NAME.pth.
        input_channels: adapt the stem to them; without: as the file has it.

    Raises:
        UserError: nnssl has no such architecture, or the name has another ending or is that of the
            file that was read.
    """
    spec = weights.info.spec
    if output.suffix != ".pth":
        raise UserError(f"OUTPUT: expected NAME.pth, got {output.name}")
    check_outputs([output], [weights.path])
    if family_of(spec).network_plan(spec) is None:
        raise UserError(
            f"{weights.path}: expected a PlainConv or ResEnc encoder, the only ones of nnssl's "
            f"that this project writes, got {spec.name} ({spec.family}); keep it as safetensors"
        )
    weights = _along(weights, _NNSSL_AXES)
    channels = input_channels or weights.info.input_channels
    encoder = _fill(weights, channels)
    # the state_dict has each convolution under both of its names, as nnssl's own files
    state = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    num_bytes = sum(tensor.nbytes for tensor in encoder.state_dict().values())
    with write_atomically(output, num_bytes=num_bytes) as temporary:
        torch.save(
            {
                "network_weights": state,
                "nnssl_adaptation_plan": adaptation_plan(weights, channels),
                "citations": _citations(weights),
                "trainer_name": f"triad-weights ({weights.info.source})",
                "current_epoch": 0,
            },
            temporary,
        )


def adaptation_plan(weights: EncoderWeights, input_channels: int) -> dict[str, Any]:
    """Return `nnssl_adaptation_plan`, values of JSON alone."""
    info, family = weights.info, family_of(weights.info.spec)
    plan = family.network_plan(info.spec)
    assert plan is not None
    first = f"encoder.{family.stem_weight}".removesuffix(".conv.weight")
    return {
        "architecture_plans": {
            "arch_class_name": plan.class_path,
            "arch_kwargs": dict(plan.arguments),
            "arch_kwargs_requiring_import": list(plan.requires_import),
        },
        "pretrain_plan": _pretrain_plan(weights),
        "pretrain_num_input_channels": input_channels,
        "recommended_downstream_patchsize": list(info.patch_size or _DEFAULT_PATCH),
        "key_to_encoder": "encoder.stages",
        "key_to_stem": f"encoder.{family.stem_module}",
        "keys_to_in_proj": [f"{first}.conv", f"{first}.all_modules.0"],
        "key_to_lpe": None,
    }


def _pretrain_plan(weights: EncoderWeights) -> dict[str, Any]:
    """nnssl's Plan and ConfigurationPlan."""
    info = weights.info
    # where it is not known nnU-Net is told of none, as nnssl does without resampling
    spacing = list(info.spacing_mm) if info.spacing_mm else None
    style = "noresample" if spacing is None else "onemmiso" if set(spacing) == {1.0} else "median"
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnsslPlans_onemmiso",
        "preprocessor_name": "DefaultPreprocessor",
        "spacing_style": style,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_mask": "resample_data_or_seg_to_shape",
        "resampling_fn_mask_kwargs": {**resampling, "is_seg": True, "order": 1},
        "spacing": spacing,
        "patch_size": list(info.patch_size or _DEFAULT_PATCH),
    }
    return {
        "dataset_name": "Dataset000_Triad",
        "plans_name": "nnsslPlans",
        "original_median_spacing_after_transp": spacing,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"onemmiso": configuration},
        "experiment_planner_used": "FixedResEncUNetPlanner",
    }


def _citations(weights: EncoderWeights) -> list[dict[str, Any]]:
    """What nnU-Net prints when a training starts from the file."""
    info = weights.info
    papers = [info.citation, f"Licence of the weights: {info.licence or 'not stated'}"]
    return [{"type": "Pre-training", "name": info.source, "apa_citations": papers}]


def _along(weights: EncoderWeights, axes: str) -> EncoderWeights:
    """The same encoder for arrays of other axes; where its own are not known, as it is."""
    info = weights.info
    if info.axes is None or info.axes == axes:
        return weights
    order = order_of_axes(axes, info.axes)
    family = family_of(info.spec)
    turned = replace(
        info,
        spec=family.permute_spec(info.spec, order),
        axes=axes,
        patch_size=permuted((info.patch_size,), order)[0] if info.patch_size else None,
        spacing_mm=permuted((info.spacing_mm,), order)[0] if info.spacing_mm else None,
    )
    tensors = family.permute_axes(info.spec, weights.tensors, order)
    return replace(weights, info=turned, tensors=tensors)


def _fill(weights: EncoderWeights, input_channels: int) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        encoder = build_encoder(weights.info.spec, input_channels=input_channels)
    report = transfer_encoder(encoder, weights, Shown(axes=weights.info.axes or "xyz"))
    if report.share < 1:
        missing = next(iter(report.fresh_reasons))
        raise UserError(
            f"{weights.path}: expected every tensor of {weights.info.spec.name}, got none for "
            f"{missing}; download the file again"
        )
    return encoder
