"""The 17 datasets as data: what the paper counts, and what nnU-Net demands."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_triad import datasets
from nnunet_triad.benchmark import paper
from nnunet_triad.datasets import DatasetSpec, find_dataset, known_datasets
from nnunet_triad.errors import UserError
from tests.layouts import LAYOUTS

# Section 4.2.1 of the paper, in its order, which is the order of the ids.
PAPER_CASES = (1251, 484, 232, 158, 32, 20, 60, 361, 70, 281, 131, 20, 260, 63, 303, 41, 126)
GUIDE = Path(__file__).parents[2] / "docs" / "segmentation.md"


PAPER = [spec for spec in known_datasets().values() if 501 <= spec.id <= 517]


def each_dataset() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spec", known_datasets().values(), ids=lambda spec: spec.name)


def each_of_the_paper() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spec", PAPER, ids=lambda spec: spec.name)


def test_datasets_of_the_paper_are_there() -> None:
    assert [spec.id for spec in PAPER] == list(range(501, 518))
    assert tuple(spec.num_cases for spec in PAPER) == PAPER_CASES


@each_of_the_paper()
def test_benchmark_knows_the_same_dataset(spec: DatasetSpec) -> None:
    listed = paper.find_dataset("segmentation", spec.folder_name)
    assert listed is not None
    assert (listed.name, listed.nnunet_id) == (spec.name, spec.id)
    assert (listed.num_cases, listed.modality) == (spec.num_cases, spec.modality)


def test_files_are_named_after_their_datasets() -> None:
    files = sorted((Path(datasets.__file__).parent / "data").iterdir())
    names = [f"{spec.id}_{spec.name}.toml" for spec in known_datasets().values()]
    assert [file.name for file in files] == names


@each_dataset()
def test_labels_are_what_nnunet_takes(spec: DatasetSpec) -> None:
    manager = LabelManager(dict(spec.labels), regions_class_order=spec.regions_class_order or None)
    assert manager.all_labels == sorted(spec.label_values)
    assert manager.has_regions == bool(spec.regions_class_order)


@each_dataset()
def test_ct_is_normalised_as_ct(spec: DatasetSpec) -> None:
    assert ("CT" in spec.channels) == (spec.modality == "CT")


@each_dataset()
def test_dataset_is_found_by_id_and_names(spec: DatasetSpec) -> None:
    for name in (str(spec.id), spec.name, spec.name.lower(), spec.folder_name):
        assert find_dataset(name) is spec


def test_unknown_dataset_is_refused() -> None:
    with pytest.raises(UserError, match=r"expected one of 501 BraTS21.*got 999"):
        find_dataset("999")


def test_every_dataset_of_the_paper_has_a_layout_of_the_phantom() -> None:
    assert {i: name for i, (name, _) in LAYOUTS.items()} == {spec.id: spec.name for spec in PAPER}


@each_of_the_paper()
def test_guide_says_what_the_catalogue_says(spec: DatasetSpec) -> None:
    (line,) = re.findall(rf"^\| {spec.id} \|.*$", GUIDE.read_text(), flags=re.MULTILINE)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    listed = paper.find_dataset("segmentation", spec.name)
    assert listed is not None
    domain = "within" if "within-domain" in listed.groups else "out"
    assert cells[1:5] == [spec.name, spec.modality, domain, f"{spec.num_cases:,}"]
    assert cells[5] == ", ".join(spec.channels)


def test_values_with_a_gap_are_refused() -> None:
    spec = known_datasets()[512]
    with pytest.raises(ValueError, match="0 to n without gaps"):
        _with(spec, source_values={0: 0, 1: 2})


def test_label_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="expected names for"):
        _with(known_datasets()[512], labels={"background": 0, "left atrium": 1, "right atrium": 2})


def test_regions_without_an_order_are_refused() -> None:
    with pytest.raises(ValueError, match="regions_class_order"):
        _with(known_datasets()[501], regions_class_order=())


def _with(spec: DatasetSpec, **changes: object) -> DatasetSpec:
    return replace(spec, **changes)  # type: ignore[arg-type]
