"""Label sets: which values make up which structure, as data.

IXI: the 30 FreeSurfer labels that TransMorph scores, and the 17 structures that its published mean
is over, left and right scored apart and averaged. OASIS: the 35 labels of neurite-OASIS (seg35).
ACDC: its 3.
"""

from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.errors import UserError
from nnunet_triad.texts import read_json


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """Structures by name, and groups of structures whose metrics are averaged."""

    structures: dict[str, tuple[int, ...]]  # name -> values that make it up
    groups: dict[str, tuple[str, ...]]  # name -> structures; empty: every structure for itself


# FreeSurfer's numbers, TransMorph's names.
_IXI = {
    2: "Left-Cerebral-White-Matter",
    3: "Left-Cerebral-Cortex",
    4: "Left-Lateral-Ventricle",
    7: "Left-Cerebellum-White-Matter",
    8: "Left-Cerebellum-Cortex",
    10: "Left-Thalamus",
    11: "Left-Caudate",
    12: "Left-Putamen",
    13: "Left-Pallidum",
    14: "3rd-Ventricle",
    15: "4th-Ventricle",
    16: "Brain-Stem",
    17: "Left-Hippocampus",
    18: "Left-Amygdala",
    24: "CSF",
    28: "Left-VentralDC",
    31: "Left-choroid-plexus",
    41: "Right-Cerebral-White-Matter",
    42: "Right-Cerebral-Cortex",
    43: "Right-Lateral-Ventricle",
    46: "Right-Cerebellum-White-Matter",
    47: "Right-Cerebellum-Cortex",
    49: "Right-Thalamus",
    50: "Right-Caudate",
    51: "Right-Putamen",
    52: "Right-Pallidum",
    53: "Right-Hippocampus",
    54: "Right-Amygdala",
    60: "Right-VentralDC",
    63: "Right-choroid-plexus",
}

# seg35 of neurite-OASIS, 1 to 35 in this order.
_OASIS_SIDES = (
    "Cerebral-White-Matter",
    "Cerebral-Cortex",
    "Lateral-Ventricle",
    "Inf-Lat-Ventricle",
    "Cerebellum-White-Matter",
    "Cerebellum-Cortex",
    "Thalamus",
    "Caudate",
    "Putamen",
    "Pallidum",
    "3rd-Ventricle",
    "4th-Ventricle",
    "Brain-Stem",
    "Hippocampus",
    "Amygdala",
    "Accumbens",
    "VentralDC",
    "Vessel",
    "Choroid-Plexus",
)
_OASIS_MIDDLE = ("3rd-Ventricle", "4th-Ventricle", "Brain-Stem")

_ACDC = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}


def _without_side(name: str) -> str:
    return name.removeprefix("Left-").removeprefix("Right-")


def _groups(names: list[str]) -> dict[str, tuple[str, ...]]:
    """Group structures by their name without the side, in order of appearance."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_without_side(name), []).append(name)
    return {group: tuple(members) for group, members in groups.items()}


def _oasis_names() -> list[str]:
    left = [name if name in _OASIS_MIDDLE else f"Left-{name}" for name in _OASIS_SIDES]
    return left + [f"Right-{name}" for name in _OASIS_SIDES if name not in _OASIS_MIDDLE]


LABEL_SETS: dict[str, LabelSet] = {
    "ixi": LabelSet(
        structures={name: (value,) for value, name in _IXI.items()},
        groups=_groups(list(_IXI.values())),
    ),
    "oasis": LabelSet(
        structures={name: (value,) for value, name in enumerate(_oasis_names(), start=1)},
        groups={},
    ),
    "acdc": LabelSet(structures={name: (value,) for value, name in _ACDC.items()}, groups={}),
}


def load_label_set(name: str) -> LabelSet:
    """Return a label set by its name, or from a JSON file.

    The file: {"structures": {"NAME": [VALUE, ...], ...}, "groups": {"NAME": ["STRUCTURE", ...],
    ...}}, groups optional.

    Raises:
        UserError: there is no such set or file, or the file is of another form.
    """
    if name in LABEL_SETS:
        return LABEL_SETS[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"label set: expected one of {', '.join(LABEL_SETS)} or a JSON file, got {name}"
        )
    try:
        content = read_json(path)
        structures = {
            str(key): tuple(int(value) for value in values)
            for key, values in content["structures"].items()
        }
        groups = {
            str(key): tuple(str(member) for member in members)
            for key, members in content.get("groups", {}).items()
        }
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UserError(
            f'{path}: expected {{"structures": {{"NAME": [VALUE, ...]}}}}, got {error!r:.100}'
        ) from None
    unknown = {member for members in groups.values() for member in members} - structures.keys()
    if unknown:
        raise UserError(f"{path}: expected groups of its structures, got {', '.join(unknown)}")
    return LabelSet(structures=structures, groups=groups)
