"""Datasets that nobody has described: what is guessed is what nnU-Net then gets."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_triad.datasets import cli
from nnunet_triad.datasets.spec_file import read_spec
from tests.commands import exit_code
from tests.real_data import HIPPOCAMPI, needs_hippocampi

Describe = Callable[..., tuple[int, str]]


@pytest.fixture
def describe(capsys: pytest.CaptureFixture[str]) -> Describe:
    """Run triad-dataset describe; return its exit code, and what it prints."""

    def run(*arguments: object) -> tuple[int, str]:
        code = exit_code(cli.main, "triad-dataset", "describe", *arguments)
        return code, "".join(capsys.readouterr())

    return run


def write_tree(source: Path, names: list[str], values: tuple[int, ...] = (0, 1, 2)) -> None:
    """Write images, and labels where a name says that it is one."""
    for name in names:
        path = source / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        is_label = any(word in name.lower() for word in ("seg", "label", "mask"))
        voxels = np.resize(np.array(values if is_label else range(60)), (4, 5, 6))
        nib.save(nib.Nifti1Image(voxels.astype(np.int16), np.eye(4)), path)


TREES = {
    "nnU-Net's": (
        [
            f"{f}"
            for c in "abc"
            for f in (f"imagesTr/{c}_0000", f"imagesTr/{c}_0001", f"labelsTr/{c}")
        ]
        + ["imagesTs/d_0000"],
        {"a": ("imagesTr/a_0000", "imagesTr/a_0001", "labelsTr/a")},
    ),
    "two folders": (
        [f for c in ("p1", "p10") for f in (f"images/{c}", f"masks/{c}_mask")],
        {"p1": ("images/p1", "masks/p1_mask"), "p10": ("images/p10", "masks/p10_mask")},
    ),
    "side by side": (
        [f for c in ("p1", "p10") for f in (c, f"{c}_seg")],
        {"p1": ("p1", "p1_seg"), "p10": ("p10", "p10_seg")},
    ),
    "as BraTS": (
        [f"{c}/{c}_{part}" for c in ("x1", "x2") for part in ("t1", "flair", "seg")],
        {"x1": ("x1/x1_flair", "x1/x1_t1", "x1/x1_seg")},
    ),
    "a folder a case": (
        [f"{c}/{part}" for c in ("x1", "x2") for part in ("t2", "adc", "label")],
        {"x2": ("x2/adc", "x2/t2", "x2/label")},
    ),
}


@pytest.mark.parametrize("tree", TREES)
def test_layouts_are_told_from_the_files(describe: Describe, tmp_path: Path, tree: str) -> None:
    names, expected = TREES[tree]
    source = tmp_path / "data"
    write_tree(source, names)
    code, printed = describe(source, tmp_path / "own.toml", "--id", 601)
    assert code == 0, printed
    spec = read_spec(tmp_path / "own.toml")
    cases = {case.name: case for case in spec.layout.find_cases(source, spec)}
    assert len(cases) == sum("seg" in n or "mask" in n or "label" in n for n in names)
    for name, (*images, label) in expected.items():
        assert [str(p.relative_to(source)) for p in cases[name].images] == [
            f"{image}.nii.gz" for image in images
        ]
        assert [str(p.relative_to(source)) for p in cases[name].labels] == [f"{label}.nii.gz"]
    assert spec.labels == {"background": 0, "label_1": 1, "label_2": 2}


def test_values_with_gaps_become_consecutive(describe: Describe, tmp_path: Path) -> None:
    write_tree(tmp_path / "data", ["a", "a_seg", "b", "b_seg"], values=(0, 10, 255))
    assert describe(tmp_path / "data", tmp_path / "own.toml")[0] == 0
    spec = read_spec(tmp_path / "own.toml")
    assert spec.source_values == {0: 0, 10: 1, 255: 2}
    assert spec.labels == {"background": 0, "label_10": 1, "label_255": 2}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "expected labels beside the images"),
        (["a_seg", "b", "b_seg"], "expected an image of a, got none"),
        (["a_t1", "a_t2", "a_seg", "b_t1", "b_seg"], "expected the same images of each case"),
        (["a", "a_seg", "b", "b_mask"], "expected labels that are named alike"),
    ],
)
def test_folders_that_say_too_little_are_refused(
    describe: Describe, tmp_path: Path, names: list[str], message: str
) -> None:
    write_tree(tmp_path / "data", names)
    code, printed = describe(tmp_path / "data", tmp_path / "own.toml")
    assert code == 2
    assert message in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "own.toml").exists()


def test_label_that_is_an_image_is_refused(describe: Describe, tmp_path: Path) -> None:
    write_tree(tmp_path / "data", ["a", "a_seg"], values=tuple(range(120)))
    assert (
        "expected a label of at most 100 values"
        in describe(tmp_path / "data", tmp_path / "o.toml")[1]
    )


@needs_hippocampi
def test_the_decathlon_s_hippocampi_are_described(describe: Describe, tmp_path: Path) -> None:
    code, printed = describe(HIPPOCAMPI, tmp_path / "own.toml")
    assert code == 0, printed
    assert "260 cases" in printed
    labels = {
        name.lower(): value for name, value in read_spec(tmp_path / "own.toml").labels.items()
    }
    assert labels == {"background": 0, "anterior": 1, "posterior": 2}
