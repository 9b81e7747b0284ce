"""Datasets of one NIfTI file a channel and one for the label, recognised by their paths."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.datasets.case import Case
from nnunet_triad.datasets.layouts.checks import (
    all_files,
    join_some,
    refuse_partial_downloads,
)
from nnunet_triad.datasets.spec import DatasetSpec, Layout
from nnunet_triad.errors import UserError

_LABEL = "label"
_NIFTI = r"\.nii(\.gz)?$"


@dataclass(frozen=True, kw_only=True)
class PatternLayout(Layout):
    """File names in which `{}` stands for the case.

    A pattern is matched against the end of a file's path, so that it does not matter how many
    folders an archive was unpacked into.

    Attributes:
        case: regular expression for what `{}` may be. A group `(?P<patient>...)` in it tells who
            was scanned; without one, each case is another patient.
        images: one pattern a channel, without `.nii` or `.nii.gz`.
        label: the label's pattern.
        test_images: patterns of cases without a label, or none.
        test_case: regular expression for `{}` in those, when it is another one.
        case_name: format of nnU-Net's case name.
        description: for people; the patterns themselves when left out.
    """

    case: str
    images: tuple[str, ...]
    label: str
    test_images: tuple[str, ...] = ()
    test_case: str = ""
    case_name: str = "{}"
    description: str = ""

    def __post_init__(self) -> None:
        """Check the patterns, and describe them where nobody has.

        Raises:
            ValueError: a pattern has no `{}`, or an expression or the name's format is none.
        """
        for pattern in (*self.images, self.label, *self.test_images):
            _check_pattern(pattern, self.case, self.test_case)
        if self.test_images and len(self.test_images) != len(self.images):
            raise ValueError(
                f"test_images: expected {len(self.images)} as of images, got {self.test_images}"
            )
        try:
            self.case_name.format("1")
        except (ValueError, LookupError, AttributeError) as error:
            raise ValueError(
                f"case_name: expected a format such as Liver_{{}}, got {self.case_name!r}"
            ) from error
        if not self.description:
            patterns = ", ".join(f"{pattern}.nii.gz" for pattern in (*self.images, self.label))
            object.__setattr__(self, "description", f"{patterns} where {{}} is {self.case}")

    def find_cases(self, source: Path, spec: DatasetSpec) -> list[Case]:
        """Return all cases below `source`, training cases first.

        Raises:
            UserError: nothing is there, two files claim one place, or files are missing.
        """
        files = list(all_files(source))
        refuse_partial_downloads(files)
        patterns = {**_numbered(self.images), _LABEL: self.label}
        training = _match(files, source, patterns, self.case)
        if not training:
            there = join_some(path.relative_to(source).as_posix() for path in files)
            raise UserError(
                f"{source}: expected {self.description}, got {there or 'no such file'}; "
                "name the folder into which the archives were unpacked"
            )
        _refuse_incomplete(training, patterns, source)
        test_patterns = _numbered(self.test_images)
        tests = _match(files, source, test_patterns, self.test_case or self.case)
        _refuse_incomplete(tests, test_patterns, source)
        return [
            *(self._case(name, parts) for name, parts in sorted(training.items())),
            *(self._case(name, parts) for name, parts in sorted(tests.items())),
        ]

    def _case(self, name: str, parts: dict[str, Path]) -> Case:
        label = parts.get(_LABEL)
        images = tuple(path for part, path in sorted(parts.items()) if part != _LABEL)
        full_name = self.case_name.format(name)
        if "/" in full_name:
            raise UserError(
                f"{full_name}: expected a case name without folders; let `case` match the name of "
                "one folder or file, as [^/]+ does"
            )
        expression = self.case if label else self.test_case or self.case
        match = re.fullmatch(expression, name)
        return Case(
            name=full_name,
            images=images,
            labels=(label,) if label else (),
            patient=(match and match.groupdict().get("patient")) or full_name,
            split="train" if label else "test",
        )


def _check_pattern(pattern: str, *cases: str) -> None:
    if "{}" not in pattern:
        raise ValueError(f"images, label: expected {{}} in each for the case, got {pattern!r}")
    for case in cases:
        try:
            _expression(pattern, case)
        except re.error as error:
            raise ValueError(
                f"case, test_case: expected a regular expression, got {case!r} ({error})"
            ) from error


def _expression(pattern: str, case: str) -> re.Pattern[str]:
    """Return what finds a file of `pattern` at the end of a path."""
    before, *rest = (re.escape(part) for part in pattern.split("{}"))
    return re.compile(rf"(^|/){before}(?P<case>{case}){'(?P=case)'.join(rest)}{_NIFTI}")


def _numbered(patterns: tuple[str, ...]) -> dict[str, str]:
    return {f"{channel:04d}": pattern for channel, pattern in enumerate(patterns)}


def _match(
    files: list[Path], source: Path, patterns: dict[str, str], case: str
) -> dict[str, dict[str, Path]]:
    """Return the files by case and by part (a channel's number, or the label)."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for part, pattern in patterns.items():
        for name, path in _matching(files, source, pattern, case):
            other = found[name].setdefault(part, path)
            if other != path:
                raise UserError(
                    f"{name}: expected one file for each part of a case, got {other} and {path}; "
                    "remove one of the two"
                )
    return found


def _matching(
    files: list[Path], source: Path, pattern: str, case: str
) -> Iterator[tuple[str, Path]]:
    expression = _expression(pattern, case)
    for path in files:
        match = expression.search(path.relative_to(source).as_posix())
        if match:
            yield match["case"], path


def _refuse_incomplete(
    found: dict[str, dict[str, Path]], patterns: dict[str, str], source: Path
) -> None:
    missing = [
        patterns[part].replace("{}", name) + ".nii.gz"
        for name, parts in sorted(found.items())
        for part in patterns
        if part not in parts
    ]
    if missing:
        cases = [name for name, parts in sorted(found.items()) if len(parts) < len(patterns)]
        raise UserError(
            f"{source}: expected all files of {len(found)} cases, got {len(cases)} incomplete "
            f"({join_some(cases)}): {join_some(missing)} missing; finish the download, or move "
            "incomplete cases elsewhere"
        )
