"""A population: which subjects, lesions, scanners and sequences a seed gives."""

from dataclasses import dataclass

import numpy as np

from nnunet_triad.phantom.acquisition import Volume, acquire, icbm_t1
from nnunet_triad.phantom.lesions import LESIONS
from nnunet_triad.phantom.sequences import SCANNERS, SEQUENCES, Scanner, Sequence
from nnunet_triad.phantom.subject import Subject, make_subject
from nnunet_triad.phantom.template import ANATOMIES

MIXED = "mixed"  # any kind of lesion, or none
_NUM_SEQUENCES = 3  # of a visit
_THICK_SLICES = 2.0  # spacing between the slices of a 2D sequence, in in-plane spacings


@dataclass(frozen=True, kw_only=True)
class Population:
    """Settings of a population; the same settings give the same bytes.

    Attributes:
        num_subjects: numbered from 0. A brain's number 0 is the ICBM152 template itself.
        seed: two seeds share no subject but the template.
        spacing_mm: of the subjects' grid and of 3D sequences.
        anatomies: of `ANATOMIES`; subjects take them in turn.
        lesion: a kind of lesion, None, or "mixed".
        is_aligned: subjects lie like the template, and differ from it by a smooth map alone.
    """

    num_subjects: int
    seed: int = 0
    spacing_mm: float = 2.0
    anatomies: tuple[str, ...] = ("brain",)
    lesion: str | None = "tumour"
    is_aligned: bool = False

    def __post_init__(self) -> None:
        if self.num_subjects < 1:
            raise ValueError(f"num_subjects: expected 1 or more, got {self.num_subjects}")
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {self.seed}")
        if not 1 <= self.spacing_mm <= 8:
            raise ValueError(f"spacing_mm: expected 1 to 8, got {self.spacing_mm}")
        if not self.anatomies or set(self.anatomies) - set(ANATOMIES):
            known, got = ", ".join(ANATOMIES), ", ".join(self.anatomies) or "none"
            raise ValueError(f"anatomies: expected some of {known}, got {got}")

    def anatomy(self, number: int) -> str:
        """Return the anatomy of a subject."""
        return self.anatomies[number % len(self.anatomies)]

    def is_template(self, number: int) -> bool:
        """Say whether a subject is the unchanged ICBM152 brain."""
        return number == 0 and self.anatomy(number) == "brain"

    def subject(self, number: int) -> Subject:
        """Make a subject."""
        anatomy = self.anatomy(number)
        return make_subject(
            self.seed,
            number,
            anatomy=anatomy,
            spacing_mm=self.spacing_mm,
            lesion=self._lesion(number, anatomy),
            is_template=self.is_template(number),
            is_aligned=self.is_aligned,
        )

    def scanner(self, number: int) -> Scanner:
        """Return the scanner that a subject is examined with."""
        return SCANNERS[self._generator(number, 1).integers(len(SCANNERS))]

    def sequences(self, number: int, names: tuple[str, ...] = ()) -> list[Sequence]:
        """Return the sequences of a subject's visit, with their settings at that site.

        Args:
            number: of the subject.
            names: of `SEQUENCES`; empty: three drawn at random.
        """
        generator = self._generator(number, 2)
        if not names:
            drawn = generator.choice(list(SEQUENCES), size=_NUM_SEQUENCES, replace=False)
            names = tuple(sorted(drawn, key=list(SEQUENCES).index))
        return [SEQUENCES[name].varied(generator) for name in names]

    def visit(self, number: int, names: tuple[str, ...] = ()) -> tuple[Subject, list[Volume]]:
        """Image a subject as a hospital would: several sequences, thick slices for 2D ones.

        The template's visit begins with the unchanged ICBM152 T1 volume, at 1 mm.
        """
        subject = self.subject(number)
        scanner = self.scanner(number)
        volumes = [
            acquire(
                subject,
                sequence,
                scanner,
                seed=self.seed,
                spacing_mm=self._spacing(number, sequence),
            )
            for sequence in self.sequences(number, names)
        ]
        if self.is_template(number):
            volumes = [icbm_t1(), *(v for v in volumes if v.sequence.name != "T1w")]
        return subject, volumes

    def _lesion(self, number: int, anatomy: str) -> str | None:
        if self.lesion != MIXED:
            return self.lesion
        kinds = (None, *LESIONS[anatomy])
        return kinds[self._generator(number, 3).integers(len(kinds))]

    def _spacing(self, number: int, sequence: Sequence) -> tuple[float, float, float] | None:
        """Return None for a 3D sequence; else thick slices along an axis, most often z."""
        if sequence.is_3d:
            return None
        axis = self._generator(number, 4).choice([0, 1, 2], p=[0.15, 0.15, 0.7])
        x, y, z = (self.spacing_mm * (_THICK_SLICES if a == axis else 1.0) for a in range(3))
        return x, y, z

    def _generator(self, number: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number, stream])
