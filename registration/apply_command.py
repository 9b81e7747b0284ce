"""What `triad-register apply` and `warp` do with files."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import typer

from nnunet_triad.errors import UserError
from nnunet_triad.files import check_outputs, write_json, write_table
from nnunet_triad.images import Volume, write_labels, write_volume
from nnunet_triad.images.displacement import describe_displacement
from nnunet_triad.pretrained import PretrainedEncoder, load_encoder
from nnunet_triad.tables import read_numbers, read_table
from nnunet_triad.texts import read_json
from nnunet_triad.training.device import check_device
from nnunet_triad.training.memory import (
    GIB,
    PREDICTION_ADVICE,
    explain_out_of_memory,
    peak_memory,
)
from registration.apply import Registration, describe_grid, register
from registration.classical import Options, expected_cost, register_pair
from registration.figures import check_picture, draw_registration, save_picture
from registration.metrics import dice_by_structure, mean_of_known, structures_of
from registration.model_file import load_model
from registration.pairs import prepare_labels, read_image, read_labels, read_labels_on
from registration.settings import ApplySettings
from registration.spatial import warp
from registration.transform_file import (
    TransformField,
    apply_field,
    pull_points,
    read_field,
    write_field,
)
from registration.trust import assess

_LOST_DICE = 0.005  # of the mean: less is the rounding of labels to voxels

# In each report, and in each JSON beside a field.
_OWN_KEYS = ({"folding_percent", "sd_log_jacobian", "affine"}, {"intent_code", "meaning"})


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where the results of one registration go; None: not written."""

    warped: Path
    displacement: Path | None = None
    displacement_json: Path | None = None  # says what the field holds
    inverse: Path | None = None
    inverse_json: Path | None = None
    labels: Path | None = None
    points: Path | None = None
    picture: Path | None = None
    report: Path | None = None


def outputs_of(settings: ApplySettings) -> Outputs:
    """Return the paths of what is to be written; most stand beside the warped image."""
    warped, field = settings.output, settings.displacement
    stem = _stem(warped)
    inverse = _beside(field, "_inverse") if settings.has_inverse and field else None
    return Outputs(
        warped=warped,
        displacement=field,
        displacement_json=field and field.with_name(f"{_stem(field)}.json"),
        inverse=inverse,
        inverse_json=inverse and inverse.with_name(f"{_stem(inverse)}.json"),
        labels=_beside(warped, "_labels") if settings.labels else None,
        points=warped.with_name(f"{stem}_points.csv") if settings.points else None,
        picture=warped.with_name(f"{stem}.png") if settings.has_picture else None,
        report=warped.with_name(f"{stem}.json"),
    )


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _beside(path: Path, addition: str) -> Path:
    """Return a path with an addition before its suffix: a.nii.gz, _labels -> a_labels.nii.gz."""
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    return path.with_name(path.name.removesuffix(suffix) + addition + suffix)


@explain_out_of_memory(PREDICTION_ADVICE)
def register_files(moving_path: Path, fixed_path: Path, settings: ApplySettings) -> str:
    """Register two files and write all that is asked for.

    Returns:
        Lines of text: grid, Dice before and after when labels are given, without a model how alike
        the images are and what speaks against the result, folding, time and memory, and the files
        written.

    Raises:
        UserError: a file is wrong, an output would replace an input or a report or picture that is
            not of this command, or the images do not overlap.
    """
    start, device, outputs = time.perf_counter(), settings.align.device, outputs_of(settings)
    check_device(device)
    for path in (outputs.warped, outputs.displacement, outputs.inverse, outputs.labels):
        check_output(path)
    inputs = (moving_path, fixed_path, settings.model, settings.labels, settings.fixed_labels)
    check_outputs(vars(outputs).values(), (*inputs, settings.points))
    _check_beside(outputs)
    if settings.model is not None:
        network, info = load_model(settings.model)
    encoder = None if settings.features is None else load_encoder(settings.features)
    moving, fixed = read_image(moving_path), read_image(fixed_path)
    labels, fixed_labels = (
        None if path is None else read_labels_on(path, image)
        for path, image in ((settings.labels, moving), (settings.fixed_labels, fixed))
    )
    world = settings.points_world
    points = None if settings.points is None else read_points(settings.points, world=world)
    if settings.model is not None:
        found = register(
            network,
            info,
            moving=moving,
            fixed=fixed,
            alignment=settings.align.affine,
            num_refinements=settings.align.refine,
            has_inverse=outputs.inverse is not None or points is not None,
            device=device,
        )
        lines = [describe_grid(info, found.pair, fixed)]
    else:
        found = _register_alone(moving, fixed, settings, encoder)
        lines = [f"grid: {found.pair.grid}"]
    field = found.field(fixed.grid)
    report = _measure(found, field, labels, fixed_labels)
    doubts = _doubts_of_labels(report)
    if settings.model is None:
        report |= asdict(assess(found, moving=moving, fixed=fixed))
    report["doubts"] = [*report.get("doubts", ()), *doubts]
    _write(outputs, found, field, moving=moving, labels=labels, points=points, world=world)
    _draw(outputs.picture, found, f"{moving_path.name} to {fixed_path.name}")
    report["seconds"] = time.perf_counter() - start
    report["peak_memory_gib"] = peak_memory(torch.device(device)) / GIB
    if outputs.report is not None:
        write_json(outputs.report, report)
    written = ", ".join(str(path) for path in vars(outputs).values() if path is not None)
    return "\n".join([*lines, *_as_lines(report), f"written: {written}"])


def _register_alone(
    moving: Volume, fixed: Volume, settings: ApplySettings, encoder: PretrainedEncoder | None
) -> Registration:
    """Register without a model; say on the terminal what is done, and what a large pair costs."""
    options = Options(
        alignment=settings.align.affine,
        similarity=settings.similarity,
        has_deformation=settings.has_deformation,
        has_inverse=True,
        device=settings.align.device,
    )

    def say(line: str) -> None:
        typer.echo(line, err=True)

    if cost := expected_cost(fixed.grid, options):
        say(cost)
    return register_pair(moving, fixed, options, encoder=encoder, say=say)


def check_output(path: Path | None) -> None:
    """Refuse an image's path that is not one of NIfTI.

    Raises:
        UserError: it ends in something else.
    """
    if path is not None and not path.name.endswith((".nii", ".nii.gz")):
        raise UserError(f"{path}: expected an output that ends in .nii or .nii.gz, got {path.name}")


def _check_beside(outputs: Outputs) -> None:
    """Refuse to replace what only has the name of our report or picture, such as a BIDS sidecar.

    Raises:
        UserError: another file is there.
    """
    if outputs.picture is not None:
        check_picture(outputs.picture)
    for path in (outputs.report, outputs.displacement_json, outputs.inverse_json):
        if path is not None and path.exists() and not _is_ours(path):
            raise UserError(
                f"{path}: expected no file, or a report of triad-register, got another one; "
                "move it away, or choose another output"
            )


def _is_ours(path: Path) -> bool:
    try:
        content = read_json(path)
    except ValueError:
        return False
    return isinstance(content, dict) and any(content.keys() >= own for own in _OWN_KEYS)


def _measure(
    found: Registration, field: TransformField, labels: Volume | None, fixed_labels: Volume | None
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "folding_percent": found.folding_percent,
        "sd_log_jacobian": found.sd_log_jacobian,
        "affine": found.pair.matrix.tolist(),
    }
    if found.inverse is not None:
        report["inverse_error_mm"] = found.inverse_error_mm
    if labels is None or fixed_labels is None:
        return report
    truth = fixed_labels.voxels
    structures = structures_of(labels.voxels, truth)
    report["dice"] = {
        when: dice_by_structure(warped, truth, labels.voxels, structures)
        for when, warped in (
            ("before", _labels_on(labels, fixed_labels, np.eye(4))),
            ("affine", _labels_on(labels, fixed_labels, found.pair.matrix)),
            ("after", apply_field(labels, field, is_labels=True).voxels),
        )
    }
    return report


def _labels_on(labels: Volume, fixed: Volume, matrix: np.ndarray) -> np.ndarray:
    return prepare_labels(labels, fixed.grid, matrix=matrix)


def _mean_dice(report: dict[str, Any]) -> dict[str, float]:
    """Return the mean over the labels at each stage: before, affine, after."""
    return {when: mean_of_known(scores.values()) for when, scores in report["dice"].items()}


def _doubts_of_labels(report: dict[str, Any]) -> list[str]:
    if "dice" not in report:
        return []
    means = _mean_dice(report)
    doubts = []
    if means["affine"] < means["before"] - _LOST_DICE:
        doubts.append("the labels agreed more before the alignment: try --affine none or rigid")
    if means["after"] < means["affine"] - _LOST_DICE:
        doubts.append(
            "the labels agree less than after the alignment alone: use --no-deformation, no --model"
        )
    return doubts


def _as_lines(report: dict[str, Any]) -> list[str]:
    lines = []
    dice = report.get("dice")
    if isinstance(dice, dict):
        means = _mean_dice(report)
        named = {"affine": "aligned", "after": "deformed"}  # as the similarity's line has it
        values = [f"{value:.4f} {named.get(when, when)}" for when, value in means.items()]
        lines.append(f"mean Dice: {', '.join(values)}")
        lines += [
            f"  label {label}: {dice['before'][label]:.4f} before, {after:.4f} after"
            for label, after in dice["after"].items()
        ]
    lines += _trust_lines(report)
    lines.append(
        f"folding: {report['folding_percent']:.4f} % of voxels have a Jacobian determinant of at "
        f"most zero; SDlogJ {report['sd_log_jacobian']:.4f}"
    )
    if "inverse_error_mm" in report:
        lines.append(f"inverse: {report['inverse_error_mm']:.4f} mm from the start, on average")
    lines.append(f"took {report['seconds']:.1f} s, peak memory {report['peak_memory_gib']:.2f} GiB")
    return lines


def _trust_lines(report: dict[str, Any]) -> list[str]:
    stages = report.get("similarity")
    if stages is None:  # by a model
        return [f"trust: {doubt}" for doubt in report["doubts"]]
    lines = []
    for measure, about in (
        ("mutual_information", "mutual information (1 to 2, not optimised)"),
        ("local_correlation", "local correlation (0 to 1)"),
    ):
        values = ", ".join(f"{values[measure]:.4f} {name}" for name, values in stages.items())
        lines.append(f"{about}: {values}")
    doubts = report["doubts"] or ["nothing of this speaks against the result; look at the picture"]
    return [*lines, *(f"trust: {doubt}" for doubt in doubts)]


def _write(
    outputs: Outputs,
    found: Registration,
    field: TransformField,
    *,
    moving: Volume,
    labels: Volume | None,
    points: pd.DataFrame | None,
    world: str,
) -> None:
    warped = apply_field(moving, field)
    write_volume(outputs.warped, warped.voxels, warped.affine)
    if outputs.displacement is not None:
        write_field(outputs.displacement, field)
    if outputs.displacement_json is not None:
        describe_displacement(
            outputs.displacement_json, grid_of="the fixed image", points_into="the moving image"
        )
    if labels is not None and outputs.labels is not None:
        warped = apply_field(labels, field, is_labels=True)
        write_labels(outputs.labels, warped.voxels, warped.affine)
    if outputs.inverse is None and points is None:
        return
    inverse = found.inverse_field(moving.grid)
    if outputs.inverse is not None:
        write_field(outputs.inverse, inverse)
    if outputs.inverse_json is not None:
        describe_displacement(
            outputs.inverse_json, grid_of="the moving image", points_into="the fixed image"
        )
    if points is not None and outputs.points is not None:
        write_points(outputs.points, points, inverse, world=world)


def _draw(path: Path | None, found: Registration, title: str) -> None:
    if path is None:
        return
    warped = warp(found.pair.moving, found.displacement)
    figure = draw_registration(
        found.pair.moving,
        found.pair.fixed,
        warped,
        found.displacement,
        title=title,
        spacing_mm=found.pair.grid.spacing_mm.tolist(),
    )
    save_picture(figure, path)


_SIGNS = {"auto": (1, 1, 1), "ras": (1, 1, 1), "lps": (-1, -1, 1)}  # to RAS and back


def read_points(path: Path, *, world: str = "auto") -> pd.DataFrame:
    """Read a CSV of points: columns x, y, z, mm; others are kept.

    Args:
        path: the file.
        world: of its numbers: ras (NIfTI's), lps (DICOM's, ITK's and ANTs'), or auto: ras unless
            there is a column t, which antsApplyTransformsToPoints asks for.

    Returns:
        The table, with x, y, z in RAS.

    Raises:
        UserError: it is missing, has not these columns with numbers, or their world is not clear.
    """
    axes = ["x", "y", "z"]
    table = read_table(path, "a CSV of points with columns x, y, z (mm)", columns=axes)
    if not set(axes) <= set(table):
        raise UserError(f"{path}: expected columns x, y, z (mm), got {', '.join(map(str, table))}")
    if world == "auto" and "t" in table:
        raise UserError(
            f"{path}: expected columns x, y, z without t, got one, as ANTs has, whose points are "
            "LPS; say --points-world lps, or ras"
        )
    numbers = read_numbers(path, table, axes) * _SIGNS[world]
    return table.assign(**dict(zip(axes, numbers.T, strict=True)))


def write_points(
    path: Path, points: pd.DataFrame, inverse: TransformField, *, world: str = "auto"
) -> None:
    """Write where points of the moving image lie in the fixed one; empty outside the grid."""
    moved = pull_points(points[["x", "y", "z"]].to_numpy(), inverse) * _SIGNS[world]
    write_table(path, points.assign(x=moved[:, 0], y=moved[:, 1], z=moved[:, 2]))


def warp_file(
    moving: Path, field: Path, output: Path, *, reference: Path | None, is_labels: bool
) -> str:
    """Apply a displacement field to an image.

    Raises:
        UserError: a file is wrong, the output is one of the inputs, or the reference has another
            grid than the field.
    """
    check_output(output)
    check_outputs([output], [moving, field, reference])
    transform = read_field(field)
    num_bad = int((~np.isfinite(transform.displacement_mm).all(axis=-1)).sum())
    if num_bad:
        raise UserError(
            f"{field}: expected finite vectors, got NaN or infinity in {num_bad} of "
            f"{transform.displacement_mm[..., 0].size} voxels; replace them, or cut the grid"
        )
    if reference is not None:
        read_image(reference).grid.check_covers(
            transform.grid,
            name=str(field),
            of=str(reference),
            advice="give the fixed image that the field was made for",
        )
    volume = read_labels(moving) if is_labels else read_image(moving)
    warped = apply_field(volume, transform, is_labels=is_labels)
    write = write_labels if is_labels else write_volume
    write(output, warped.voxels, warped.affine)
    return json.dumps({"warped": str(output), "grid": str(transform.grid)})
