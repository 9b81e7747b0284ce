"""The base of all settings: one field is the option, the JSON, the range and the comparison."""

import json
import math
from dataclasses import dataclass
from typing import Literal

import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.training.settings import (
    Settings,
    Triple,
    device_option,
    nested,
    option,
    options_of,
    workers_option,
)


@dataclass(frozen=True, kw_only=True)
class Cube(Settings):
    size: int = option(64, "Voxels.", low=32, high=256)
    window: tuple[float, float] | None = option(None, "Bounds.")


@dataclass(frozen=True, kw_only=True)
class Flat(Settings):
    share: float = option(0.5, "Share.", low=0, below=1)


@dataclass(frozen=True, kw_only=True)
class Round(Settings):
    share: float = option(0.7, "Share.", low=0, below=1)
    radius_mm: float = option(2.0, "Radius.", unit="mm", above=0)


@dataclass(frozen=True, kw_only=True)
class Example(Settings):
    steps: int = option(10, "Steps.", source="section 3", low=1)
    rate: float = option(None, "Rate.", above=0, show_default="1 / steps")
    limit_mm: float = option(10.0, "Limit.", above=0, high=math.inf)
    crop_size: Triple = option((8, 8, 8), "Voxels.", low=1)
    names: tuple[str, ...] = option((), "Names.")
    balance: Literal["volume", "organ"] = option("volume", "Draw {choices}.")
    is_quick: bool = option(False, "Less of it.")
    note: str = option("", changes_result=False)
    device: str = device_option()
    workers: int = workers_option("read")
    cube: Cube = nested(Cube)
    form: Literal["flat", "round"] = option("flat", "{choices}.")
    form_settings: Settings = nested({"flat": Flat, "round": Round}, by="form")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fill(rate=1 / self.steps)


CHANGED = Example(
    steps=3, crop_size=(4, 5, 6), names=("a", "b"), cube=Cube(size=96, window=(-1.0, 2.0)),
    form="round", form_settings=Round(share=0.25),
)  # fmt: skip


@pytest.mark.parametrize("settings", [Example(), CHANGED])
def test_settings_survive_json(settings):
    assert Example.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_nested_fields_may_stand_among_the_others_as_on_a_command_line():
    found = Example.from_dict({"size": 96, "window": [-1, 2], "form": "round", "radius_mm": 3.5})

    assert found.cube == Cube(size=96, window=(-1, 2))
    assert found.form_settings == Round(share=0.7, radius_mm=3.5)


def test_settings_chosen_by_another_field_are_its_class():
    assert Example(form="round").form_settings == Round()
    with pytest.raises(UserError, match="form_settings: expected Round, as form is round"):
        Example(form="round", form_settings=Flat())


def test_option_of_another_choice_is_refused():
    with pytest.raises(UserError, match=r"radius_mm: expected none, as form is flat, got 2\.0"):
        Example.from_dict({"radius_mm": 2.0})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps: expected 1 or more, got 0"),
        ({"steps": 2.0}, r"steps: expected 1 or more, got 2\.0"),
        ({"steps": True}, "steps: expected 1 or more, got True"),
        ({"steps": "3"}, "steps: expected 1 or more, got 3"),
        ({"steps": None}, "steps: expected 1 or more, got None"),
        ({"steps": 2**63}, r"steps: expected 1 or more, below 2\^63, got 9223372036854775808"),
        ({"rate": 0}, "rate: expected a positive number, got 0"),
        ({"rate": math.inf}, "rate: expected a positive number, got inf"),
        ({"rate": 10**400}, "rate: expected a positive number, got 1000"),
        ({"limit_mm": math.nan}, "limit_mm: expected above 0 and at most inf, got nan"),
        ({"crop_size": [8, 8]}, r"crop_size: expected 3 values, each 1 or more, got \(8, 8\)"),
        ({"crop_size": [8, 0, 8]}, r"crop_size: expected 3 values, each 1 or more, got \(8, 0, 8"),
        ({"names": [1]}, r"names: expected some values, each text, got \(1,\)"),
        ({"balance": "age"}, "balance: expected volume or organ, got age"),
        ({"is_quick": 1}, "is_quick: expected True or False, got 1"),
        ({"device": "tpu"}, "device: expected cpu, cuda or mps, got tpu"),
        ({"workers": -1}, "workers: expected 0 or more and at most 1024, got -1"),
        ({"size": 257}, "size: expected 32 or more and at most 256, got 257"),
        ({"window": [0, math.inf]}, r"window: expected 2 values, each a finite number, got \(0, i"),
        ({"form": "square"}, "form: expected flat or round, got square"),
        ({"share": 1.0}, r"share: expected 0 or more and below 1, got 1\.0"),
        ([1], r"settings: expected names and values, got \[1\]"),
    ],
)
def test_values_outside_of_their_range_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Example.from_dict(values)


def test_infinity_is_taken_where_it_is_a_bound():
    assert Example(limit_mm=math.inf).limit_mm == math.inf


def test_unknown_field_is_refused():
    with pytest.raises(TypeError, match="unheard_of"):
        Example.from_dict({"unheard_of": 1})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"note": "x", "workers": 2, "device": "mps"}, None),
        ({"steps": 5}, "steps"),
        ({"cube": Cube(size=96)}, "cube.size"),
        ({"form": "round"}, "form"),
        ({"form_settings": Flat(share=0.1)}, "form_settings.share"),
    ],
)
def test_differing_field_names_what_changes_the_result(changes, name):
    assert Example(rate=1.0).differing_field(Example(rate=1.0, **changes)) == name


def test_options_are_those_of_all_settings_in_order():
    found = {one.name: one for one in options_of(Example)}

    assert list(found) == [
        "steps", "rate", "limit_mm", "crop_size", "names", "balance", "is_quick", "note",
        "device", "workers", "size", "window", "form", "share", "radius_mm",
    ]  # fmt: skip
    assert found["steps"].help == "Steps. (section 3)"
    assert found["balance"].help == "Draw volume or organ."
    assert found["share"].show_default == "flat: 0.5; round: 0.7"
    assert found["crop_size"].length == 3
