"""The base of a program's settings: an option is written once, as a field of a dataclass.

From the fields come the command line (`nnunet_triad.cli.takes_settings`), the JSON beside the
results, the check of ranges and choices, and the comparison with a checkpoint. Nothing slow is
imported here, so that --help stays fast.
"""

import operator
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from nnunet_triad.errors import UserError, require

Triple = tuple[int, int, int]
MAX_SEED = 2**32 - 1  # of NumPy's generators
DEVICES = ("cpu", "cuda", "mps")
DEVICE_DEFAULT = "cuda if there is one, else cpu"
INIT_HELP = "scratch, a weights file, or a name under TRIAD_WEIGHTS (triad, voco)."

_KINDS: dict[type, tuple[Any, str]] = {  # what a value must be, and in words
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a finite number"),
    str: (str, "text"),
    Path: ((Path, str), "a path"),
}
_BOUNDS = {
    "low": (operator.ge, "{} or more"),
    "above": (operator.gt, "above {}"),
    "high": (operator.le, "at most {}"),
    "below": (operator.lt, "below {}"),
}

AnySettings = TypeVar("AnySettings", bound="Settings")


@dataclass(frozen=True, kw_only=True)
class Option:
    """What a field of settings says of itself, by `option`, and by its name, default and type."""

    help: str = ""  # {choices} stands for them; empty: no option of the command line
    unit: str = ""  # of a number; --help says it
    source: str = ""  # of the default, such as the section of a paper; --help says it
    low: float | None = None  # the least value; numbers are finite, unless a bound is infinite
    above: float | None = None  # as `low`, but itself outside
    high: float | None = None  # the largest value
    below: float | None = None  # as `high`, but itself outside
    choices: tuple[str, ...] = ()  # of text; those of a Literal are known
    flag: str = ""  # names on the command line, where they are not made of the field's
    is_repeated: bool = False  # given once for each of several values, not with commas
    show_default: str = ""  # in words, where the command or a preset fills in what is not given

    name: str = ""
    default: Any = None
    type: Any = None  # of a value, or of each where there are several
    length: int | None = None  # how many values; 0: any number of them; None: a single one
    is_optional: bool = False  # it may be None

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that there are, by their names in `_BOUNDS`."""
        found = {name: getattr(self, name) for name in _BOUNDS}
        return {name: bound for name, bound in found.items() if bound is not None}

    @property
    def rule(self) -> str:
        """The range or the choices in words."""
        if self.choices:
            return join_words(self.choices)
        if self.bounds in ({"low": 0}, {"above": 0}):
            return "zero or more" if "low" in self.bounds else "a positive number"
        words = (_BOUNDS[name][1].format(bound) for name, bound in self.bounds.items())
        return " and ".join(words) or _KINDS[self.type][1]

    def check(self, value: Any) -> None:
        """Check the type, the range and the choices of a value.

        Raises:
            UserError: one does not fit.
        """
        if value is None and self.is_optional:
            return
        rule = self.rule
        if self.length is not None:
            rule = f"{self.length or 'some'} values, each {rule}"
            is_tuple = isinstance(value, tuple) and self.length in (0, len(value))
            require(self.name, value, rule, is_tuple)
        for one in (value,) if self.length is None else value:
            is_small = self.type is not int or not isinstance(one, int) or abs(one) < 2**63
            require(self.name, value, f"{rule}, below 2^63", is_small)
            require(self.name, value, rule, self._is_good(one))

    def _is_good(self, value: Any) -> bool:
        kind = _KINDS[self.type][0]
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            return False
        if self.type not in (int, float):
            return not self.choices or value in self.choices
        is_finite = abs(value) <= sys.float_info.max or value in self.bounds.values()
        return is_finite and all(
            _BOUNDS[name][0](value, bound) for name, bound in self.bounds.items()
        )


def option(default: Any, help: str = "", *, changes_result: bool = True, **about: Any) -> Any:
    """Return a field of `Settings`.

    Args:
        default: ... where there is none; None: absent, or filled in by `__post_init__`.
        help: one sentence for the command line.
        changes_result: False: it may change when a run continues.
        about: other fields of `Option`: unit, source, low, above, high, below, choices, flag,
            is_repeated, show_default.
    """
    return field(
        default=MISSING if default is ... else default,
        metadata={"option": Option(help=help, **about), "changes_result": changes_result},
    )


def redefine(base: "type[Settings]", name: str, default: Any, *, show_default: str = "") -> Any:
    """Return a field of `Settings` that differs from one of a base class in its default alone.

    Args:
        base: has the field, an `option`.
        name: of the field.
        default: of the derived class.
        show_default: as of `Option`.
    """
    metadata = base.__dataclass_fields__[name].metadata
    about = replace(metadata["option"], show_default=show_default)
    return field(default=default, metadata={**metadata, "option": about})


def nested(settings: "type[Settings] | Mapping[str, type[Settings]]", *, by: str = "") -> Any:
    """Return a field of `Settings` that holds settings of its own.

    The command line shows their options among the others.

    Args:
        settings: a class, or one for each value of the field `by`.
        by: name of an earlier field.
    """
    classes = settings if isinstance(settings, Mapping) else {"": settings}
    return field(default=None, metadata={"nested": _Nested(classes=classes, by=by)})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a program; derive a frozen, keyword-only dataclass with `option` fields.

    A `__post_init__` of its own calls this one, fills in what is None, then checks what depends
    on several fields.

    Raises:
        UserError: a value has another type, or is outside its range.
    """

    def __post_init__(self) -> None:
        for one in _own_options(type(self)).values():
            one.check(getattr(self, one.name))
        for name, place in _nested(type(self)).items():
            settings = place.choose(getattr(self, place.by or name))
            self._fill(**{name: settings()})
            rule = f"{settings.__name__}, as {place.by} is {getattr(self, place.by or name)}"
            require(name, getattr(self, name), rule, isinstance(getattr(self, name), settings))

    def _fill_precision(self) -> None:
        """Set the fastest precision of the device where none is given; for `__post_init__`."""
        values = vars(self)
        if values["precision"] is None:
            from nnunet_triad.training.device import default_precision

            (one,) = (one for one in options_of(type(self)) if one.name == "precision")
            self._fill(precision=default_precision(values["device"], one.choices))

    def _fill(self, **values: Any) -> None:
        """Set those fields that are None; for `__post_init__`."""
        for name, value in values.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[AnySettings], values: Mapping[str, Any]) -> AnySettings:
        """Build settings from `to_dict`'s values, or from those of a command line.

        Args:
            values: a list is taken as a tuple; the fields of nested settings may stand in a
                dictionary under its name, or among the others.

        Raises:
            TypeError: a field is unknown.
            UserError: a value has another type, or is outside its range.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"settings: expected names and values, got {values!r}")
        known: dict[str, Any] = {}
        known |= {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        for name, place in _nested(cls).items():
            moved = {one.name: known.pop(one.name) for one in place.options if one.name in known}
            choice = known.get(place.by, cls.__dataclass_fields__[place.by or name].default)
            known[name] = place.build(choice, known.get(name, {}), moved)
        return cls(**known)

    def differing_field(self: AnySettings, other: AnySettings) -> str | None:
        """Return the first field that would change the result, or None when there is none.

        Returns:
            Its name; that of a nested field as "field.nested".
        """
        for item in fields(self):
            ours, theirs = getattr(self, item.name), getattr(other, item.name)
            if ours == theirs or not item.metadata.get("changes_result", True):
                continue
            if not isinstance(ours, Settings) or type(ours) is not type(theirs):
                return item.name
            inner = ours.differing_field(theirs)
            if inner is not None:
                return f"{item.name}.{inner}"
        return None


@dataclass(frozen=True, kw_only=True)
class _Nested:
    """The settings that a field holds: of one class, or of that which the field `by` chooses."""

    classes: Mapping[str, type[Settings]]
    by: str

    def choose(self, choice: Any) -> type[Settings]:
        if self.by:
            require(self.by, choice, join_words(tuple(self.classes)), choice in self.classes)
        return self.classes[choice if self.by else ""]

    def build(self, choice: Any, own: Mapping[str, Any], moved: Mapping[str, Any]) -> Settings:
        """Make settings of the values under the field's name, and of those among the others."""
        settings = self.choose(choice)
        known = {one.name for one in options_of(settings)}
        for name, value in moved.items():
            rule = f"none, as {self.by.removesuffix('_name')} is {choice}"
            require(name, value, rule, name in known)
        return settings.from_dict({**own, **moved})

    @property
    def options(self) -> list[Option]:
        """The options of all classes; the default of each tells whose it is."""
        found: dict[str, dict[str, Option]] = {}
        for choice, settings in self.classes.items():
            for one in options_of(settings):
                found.setdefault(one.name, {})[choice] = one
        return [self._merge(same) for same in found.values()]

    def _merge(self, same: Mapping[str, Option]) -> Option:
        first = next(iter(same.values()))
        words = {True: "yes", False: "no"}
        shown = {
            choice: one.show_default
            or (words[one.default] if one.type is bool else str(one.default))
            for choice, one in same.items()
        }
        # What any of them takes; each says itself what it does not.
        widest: dict[str, Any] = {}
        for name in _BOUNDS:
            bounds = [getattr(one, name) for one in same.values()]
            outermost = min if name in ("low", "above") else max
            widest[name] = None if None in bounds else outermost(bounds)
        first = replace(first, **widest)
        if len(same) == len(self.classes) and len(set(shown.values())) == 1:
            return first
        texts = (f"{choice}: {default}" for choice, default in shown.items())
        return replace(first, show_default="; ".join(texts))


def options_of(settings: type[Settings]) -> Iterator[Option]:
    """Yield the options of settings and of those nested in them, in their order."""
    own, inner = _own_options(settings), _nested(settings)
    for item in fields(settings):
        yield from [own[item.name]] if item.name in own else []
        yield from inner[item.name].options if item.name in inner else []


def _nested(settings: type[Settings]) -> dict[str, _Nested]:
    found = {item.name: item.metadata.get("nested") for item in fields(settings)}
    return {name: place for name, place in found.items() if place is not None}


def _own_options(settings: type[Settings]) -> dict[str, Option]:
    hints = get_type_hints(settings)
    return {
        item.name: _describe(item, hints[item.name])
        for item in fields(settings)
        if "option" in item.metadata
    }


def _describe(item: Field[Any], hint: Any) -> Option:
    """Complete what a field says of itself by its name, default and type."""
    one: Option = item.metadata["option"]
    is_optional = item.default is None or type(None) in get_args(hint)
    if get_origin(hint) not in (None, tuple, Literal):  # X | None
        (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
    length = None
    if get_origin(hint) is tuple:
        first, *others = get_args(hint)
        hint, length = first, 0 if others == [...] else 1 + len(others)
    is_literal = get_origin(hint) is Literal
    choices = get_args(hint) if is_literal else one.choices
    remarks = ", ".join(filter(None, (one.unit, one.source)))
    text = one.help.format(choices=join_words(choices)) + f" ({remarks})" * bool(remarks)
    return replace(
        one,
        help=text,
        choices=choices,
        name=item.name,
        default=item.default,
        type=str if is_literal else hint,
        length=length,
        is_optional=is_optional,
    )


def device_option() -> Any:
    """Return the field of the device; a command without --device takes a GPU where one is."""
    return option(
        "cpu", "{choices}.", choices=DEVICES, show_default=DEVICE_DEFAULT, changes_result=False
    )


def precision_option(choices: tuple[str, ...]) -> Any:
    """Return the field of the precision; a `__post_init__` calls `_fill_precision`."""
    other = "fp16" if "fp16" in choices else "fp32"
    return option(
        None,
        "{choices}; mixed: weights, losses and optimiser stay fp32. The paper's is fp32.",
        choices=choices,
        show_default=f"bf16 on a GPU that has it, {other} on another; fp32 on a CPU",
    )


def recompute_option(which: str = "") -> Any:
    """Return the field of the recomputation of activations, and which encoders can; "": all."""
    return option(
        None,
        f"Less memory, a third more time{which and f' ({which})'}.",
        flag="--recompute-activations/--keep-activations",
        show_default="recompute where the device's memory asks for it",
        changes_result=False,
    )


def workers_option(task: str) -> Any:
    """Return the field of the number of processes beside the training one, and what they do."""
    return option(
        0,
        f"Processes that {task}; 0: the training process does it.",
        low=0,
        high=1024,
        show_default="0 on the CPU, else 4",
        changes_result=False,
    )


def join_words(words: tuple[str, ...]) -> str:
    """Return "a, b or c"."""
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
