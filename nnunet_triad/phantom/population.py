"""A population: which subjects, lesions, scanners and sequences a seed gives."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_triad.errors import require
from nnunet_triad.phantom.acquisition import Acquisition, acquire, icbm_t1
from nnunet_triad.phantom.lesions import LESIONS
from nnunet_triad.phantom.randomised import randomise
from nnunet_triad.phantom.sequences import SCANNERS, SEQUENCES, Scanner, Sequence
from nnunet_triad.phantom.subject import Subject, make_subject
from nnunet_triad.phantom.template import ANATOMIES
from nnunet_triad.training.settings import Settings, join_words, option

MIXED = "mixed"  # any kind of lesion, or none
_NUM_SEQUENCES = 3  # of a visit
_THICK_SLICES = 2.0  # spacing between the slices of a 2D sequence, in in-plane spacings


@dataclass(frozen=True, kw_only=True)
class Population(Settings):
    """Settings of a population; the same settings give the same bytes.

    Raises:
        UserError: a value is outside its range, or an anatomy has no such lesion.
    """

    # numbered from 0; a brain's number 0 is the ICBM152 template itself
    num_subjects: int = option(
        10, "Number of subjects, the template included.", flag="--subjects", low=1
    )
    seed: int = option(0, "Of the population; two seeds share only the template.", low=0)
    # of the subjects' grid and of 3D sequences
    spacing_mm: float = option(2.0, "In-plane voxel spacing, 1 to 8 mm.", low=1, high=8)
    anatomies: tuple[str, ...] = option(
        ("brain",),
        "{choices}; several with commas, taken in turn.",
        flag="--anatomy",
        choices=ANATOMIES,
    )
    lesion: str | None = option(
        "tumour", f"tumour, infarct or plaques (brain only), {MIXED}, or none."
    )
    # subjects lie like the template, and differ from it by a smooth map alone
    is_aligned: bool = option(False)

    def __post_init__(self) -> None:
        if self.lesion == "none":
            object.__setattr__(self, "lesion", None)
        super().__post_init__()
        require("anatomies", "none", f"some of {', '.join(ANATOMIES)}", bool(self.anatomies))
        for name in self.anatomies:
            known = (*LESIONS[name], MIXED, "none")
            is_known = self.lesion is None or self.lesion in known
            require(f"lesion for {name}", self.lesion, join_words(known), is_known)

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

    def visit(self, number: int, names: tuple[str, ...] = ()) -> tuple[Subject, list[Acquisition]]:
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

    def randomised(self, number: int) -> tuple[Subject, list[npt.NDArray[np.int16]]]:
        """Return a subject, and three images (x, y, z) of random contrast on its grid."""
        subject = self.subject(number)
        streams = range(_NUM_SEQUENCES)
        return subject, [randomise(subject, self._generator(number, k)) for k in streams]

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
