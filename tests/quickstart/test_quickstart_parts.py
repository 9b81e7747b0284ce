"""Sizes, steps and estimates."""

import json
import math
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.segmentation import requirements
from nnunet_triad.benchmark.segmentation import steps as steps_of_run
from nnunet_triad.quickstart.estimate import estimate_minutes, num_iterations
from nnunet_triad.quickstart.inputs import read_inputs
from nnunet_triad.quickstart.settings import QuickstartSettings
from nnunet_triad.quickstart.sizes import Sizes, choose_crop, choose_sizes, coarsened
from nnunet_triad.quickstart.steps import (
    DATASET,
    num_steps,
    predict_command,
    runs,
    steps,
    weights_of,
)
from nnunet_triad.quickstart.verdict import verdicts
from nnunet_triad.weights.file import WeightsInfo, save_weights
from pretraining.crop_fit import check_crop_fits
from pretraining.settings import PretrainSettings
from tests.parsing import check_parses

SIZES = Sizes(
    shape=(32, 40, 24), spacing_mm=1.0, crop=(32, 64, 32), batch=4, target_spacing_mm=(2, 1, 1)
)


def write_splits(folder: Path, num_folds: int) -> None:
    place = folder / "nnUNet_preprocessed" / DATASET
    place.mkdir(parents=True)
    (place / "splits_final.json").write_text(json.dumps([{}] * num_folds))


def steps_of_training(run: Run, folder: Path):
    variables = {
        name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    }
    environment = Environment(folder=folder / "benchmark", device="cpu", variables=variables)
    return steps_of_run(run, environment)


@pytest.mark.parametrize("init", ["", "voco-b"])
def test_commands_take_the_options_that_the_quickstart_gives_them(
    boxes: Path, tmp_path: Path, init: str
) -> None:
    inputs = read_inputs(boxes / "unlabelled", boxes / "labelled")
    settings = QuickstartSettings(init=init)
    write_splits(tmp_path, 2)
    made = list(steps(tmp_path, inputs, settings, SIZES, processes=1))
    assert len(made) == num_steps(settings)
    assert len({step.name for step in made}) == len(made)
    for step in made:
        if step.command[0].startswith("triad-"):
            check_parses(step.command)


def test_each_fold_is_trained_from_scratch_and_from_the_encoder(tmp_path: Path) -> None:
    write_splits(tmp_path, 3)
    found = [(run.fold, run.initialization) for run in runs(tmp_path, QuickstartSettings())]
    assert found == [(fold, name) for fold in range(3) for name in ("scratch", "triad")]


def test_verdict_without_a_number_is_a_line(tmp_path: Path) -> None:
    header = "table,initialization,minus_initialization,ours,low,high,num_cases,note"
    (tmp_path / "report.csv").write_text(f"{header}\ntest,triad,scratch,,,,2,\n")
    assert verdicts(tmp_path / "report.csv") == [
        "Triad minus Scratch: no Dice that could be compared"
    ]


def test_command_for_new_images_names_the_models_where_they_are(tmp_path: Path) -> None:
    write_splits(tmp_path, 3)
    line = predict_command(tmp_path, QuickstartSettings())
    assert line.startswith("nnUNetv2_predict -i NEW_IMAGES -o PREDICTIONS -d 600")
    assert "-f 0 1 2 -tr nnUNetTrainerTriadUNetT_demo -chk checkpoint_best.pth -device cpu" in line
    published = QuickstartSettings(init="voco-b")
    line = predict_command(tmp_path, published)
    own = steps_of_training(runs(tmp_path, published)[1], tmp_path)[-1].variables["nnUNet_results"]
    assert line.startswith(f"nnUNet_results={own} nnUNetv2_predict")
    assert "-f 0 -tr nnUNetTrainerPretrainedSwinB_demo" in line


def test_store_has_the_images_own_voxels_whichever_way_they_lie(tmp_path: Path) -> None:
    # array axes run to anterior, superior, right; 30, 20, 50 voxels of 1, 3 and 2 mm
    affine = np.array([[0, 0, 2, 0], [1, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1.0]])
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((30, 20, 50), np.float32), affine), path)
    sizes = choose_sizes([path], encoder_spec("unet_t"), max_voxels=0, device="cpu")
    assert sizes.shape == (50, 30, 20)
    assert sizes.spacing_mm == 1
    assert sizes.target_spacing_mm is None
    smaller = choose_sizes([path], encoder_spec("unet_t"), max_voxels=15_000, device="cpu")
    # nnU-Net's readers reverse the file's axes: 2, 3 and 1 mm
    z, y, x = smaller.target_spacing_mm
    assert (y, z) == (3, pytest.approx(2, abs=0.05))
    assert x == pytest.approx(2, abs=0.05)
    assert math.prod(smaller.shape) == pytest.approx(15_000, rel=0.05)


def test_finest_axes_become_coarser_first_and_no_more_than_needed() -> None:
    spacing, extent = np.array([0.5, 0.5, 5.0]), np.array([250.0, 250.0, 150.0])
    found = coarsened(spacing, extent, max_voxels=500_000)
    assert found[2] == 5
    assert found[0] == found[1]
    assert 0.97 * 500_000 < np.prod(extent / found) <= 500_000
    assert np.array_equal(coarsened(spacing, extent, max_voxels=0), spacing)


@pytest.mark.parametrize("encoder", ["unet_t", "swin_t", "primus_m", "mednext_s"])
@pytest.mark.parametrize("shape", [(35, 50, 36), (20, 20, 20), (240, 240, 155), (320, 320, 24)])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_crops_are_ones_that_the_encoder_takes_and_mostly_image(encoder, shape, device) -> None:
    spec = encoder_spec(encoder)
    crop, batch = choose_crop(shape, spec, device=device)
    strides = spec.total_stride
    assert all(length % stride == 0 for length, stride in zip(crop, strides, strict=True))
    assert crop != strides
    assert 2 <= batch <= 8
    settings = PretrainSettings(encoder=encoder, crop_size=crop, batch_size=batch)
    check_crop_fits(shape, settings)  # raises where it does not
    inside = math.prod(min(a, b) for a, b in zip(crop, shape, strict=True))
    assert inside >= 0.3 * math.prod(crop) or min(shape) < min(strides)


def test_estimate_grows_with_steps_and_folds_and_is_none_where_nobody_measured() -> None:
    settings = QuickstartSettings()
    pretraining, training = estimate_minutes(settings, SIZES, num_cases=2)
    more = replace(settings, steps=600, folds=5)
    twice = estimate_minutes(more, SIZES, num_cases=4)
    assert twice == (pytest.approx(2 * pretraining), pytest.approx(2 * training))
    assert estimate_minutes(QuickstartSettings(encoder="swin_b"), SIZES, num_cases=2) is None


@pytest.mark.parametrize(
    ("variant", "expected"), [("_demo", 200), ("_quick", 15), ("_adamw_5epochs", 1250), ("", 75000)]
)
def test_iterations_are_those_of_the_trainer(variant: str, expected: int) -> None:
    assert num_iterations(QuickstartSettings(variant=variant)) == expected


def test_weights_are_named_so_that_the_trainings_find_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = encoder_spec("unet_t")
    save_weights(tmp_path / "mine.safetensors", build_encoder(spec), WeightsInfo(spec=spec))
    monkeypatch.chdir(tmp_path)
    settings = QuickstartSettings(init="mine.safetensors")
    write_splits(tmp_path, 2)
    weights = weights_of(tmp_path, settings)
    environment = Environment(folder=tmp_path, variables={"TRIAD_WEIGHTS": weights})
    run = next(run for run in runs(tmp_path, settings) if run.initialization != "scratch")
    (found,) = (one for one in requirements(run, environment) if one.name == "weights")
    assert found.found == str(tmp_path / "mine.safetensors")
    assert (run.architecture, num_steps(settings)) == ("unet_t", 6)
