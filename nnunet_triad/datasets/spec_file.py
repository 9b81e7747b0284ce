"""A dataset's description in a file, TOML or JSON: those of `data/`, and a user's own."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from nnunet_triad.datasets.layouts import (
    BreastDmLayout,
    MsdLayout,
    PatternLayout,
    Prostate158Layout,
)
from nnunet_triad.datasets.spec import DatasetSpec, Layout
from nnunet_triad.errors import UserError
from nnunet_triad.texts import parse_json, read_short_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SUFFIXES = (".toml", ".json")
_LAYOUTS = {
    "msd": MsdLayout,
    "pattern": PatternLayout,
    "breastdm": BreastDmLayout,
    "prostate158": Prostate158Layout,
}
_RULES = {
    int: "a whole number",
    str: "text",
    tuple: "a list",
    Mapping: "a table",
    Layout: "a table",
}


def read_spec(path: Path) -> DatasetSpec:
    """Read the description of one dataset.

    Its fields are those of `DatasetSpec`; `layout` is a table of `kind` (msd, pattern, breastdm or
    prostate158) and of that layout's own fields.

    Args:
        path: ends in .toml or .json.

    Raises:
        UserError: the file cannot be read, or a field is unknown, missing or wrong.
    """
    try:
        text = read_short_text(path)
        is_json = path.name.lower().endswith(".json")
        table = parse_json(text, path.name) if is_json else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: expected a dataset's description in TOML or JSON, got a file that cannot be "
            f"read ({error}); see docs/own-dataset.md"
        ) from error
    return _construct(DatasetSpec, table, str(path))


def _construct(kind: type, table: Any, place: str) -> Any:
    """Return an object of a dataclass from a table of its fields."""
    if not isinstance(table, dict):
        raise UserError(f"{place}: expected a table of fields, got {table!r}; correct it")
    types = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in table:
        if name not in fields:
            raise UserError(
                f"{place}: expected fields {', '.join(fields)}, got {name}; correct or remove it"
            )
    for name, field in fields.items():
        has_default = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
        if name not in table and not has_default:
            raise UserError(f"{place}: expected {name}, got {', '.join(table)}; add it")
    values = {name: _value(table[name], types[name], f"{place}: {name}") for name in table}
    try:
        return kind(**values)
    except ValueError as error:
        raise UserError(f"{place}: {error}; correct it") from error


def _value(value: Any, kind: Any, place: str) -> Any:
    """Return what TOML or JSON holds as the type of a field."""
    origin = get_origin(kind) or kind
    if origin is UnionType:  # a label's value, or the values of a region
        return _value(value, get_args(kind)[isinstance(value, list)], place)
    if origin is Layout and isinstance(value, dict):
        return _layout(value, place)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(item, get_args(kind)[0], place) for item in value)
    if origin is Mapping and isinstance(value, dict):
        key_kind, item_kind = get_args(kind)
        return {
            _key(key, key_kind, place): _value(item, item_kind, f"{place}, {key}")
            for key, item in value.items()
        }
    if type(value) is kind:  # True is no number
        return value
    raise UserError(f"{place}: expected {_RULES[origin]}, got {value!r}; correct it")


def _key(key: str, kind: type, place: str) -> str | int:
    """Return a table's key; TOML and JSON have text alone."""
    try:
        return int(key) if kind is int else key
    except ValueError:
        raise UserError(f"{place}: expected whole numbers, got {key!r}; correct it") from None


def _layout(table: dict[str, Any], place: str) -> Layout:
    kind = table.get("kind")
    if kind not in _LAYOUTS:
        raise UserError(
            f"{place}: expected a kind of {', '.join(_LAYOUTS)}, got {kind!r}; correct it"
        )
    fields = {name: value for name, value in table.items() if name != "kind"}
    return _construct(_LAYOUTS[kind], fields, place)
