"""Which sequence a DICOM series is: a table of rules on what scanners of the big vendors write.

The first rule that holds decides. Free text is only searched for known words, and never repeated.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from pretraining.curation.terms import SEQUENCES
from pretraining.descriptions import sequence_from_times

_T1_TEXT = r"t1w?|mprage|mp-rage|spgr|fspgr|bravo|vibe|vibrant|thrive|lava|disco|tfl3d|t1ffe|t1tfe"
_ENHANCED_TEXT = r"post|gd|gad|contrast|ce|cont|\+c|t1c|t1ce|km|kontrast"
_T2_TEXT = r"t2w?|haste|ssfse|frfse|space_t2|trufi|fiesta|ciss"


@dataclass(frozen=True, kw_only=True)
class Cues:
    """What a header says, brought to one form.

    Attributes:
        text: description, protocol and the vendor's sequence name, lower case.
        image_type: values of the tag, upper case.
        techniques: codes of `ScanningSequence`: SE, IR, GR, EP, RM.
        contrast: `AcquisitionContrast` of enhanced images, upper case, such as "T1".
        b_value: s/mm2; 0 where none is told.
    """

    text: str = ""
    image_type: frozenset[str] = frozenset()
    techniques: frozenset[str] = frozenset()
    contrast: str = ""
    repetition_time_ms: float | None = None
    echo_time_ms: float | None = None
    inversion_time_ms: float | None = None
    b_value: float = 0.0
    has_contrast_agent: bool = False
    num_time_points: int = 1

    def says(self, pattern: str) -> bool:
        """Say whether the text has one of the words, not as a part of a longer one."""
        return bool(re.search(rf"(?<![a-z0-9])({pattern})(?![a-z])", self.text))

    def has_type(self, *values: str) -> bool:
        """Say whether the image type has one of these values."""
        return not self.image_type.isdisjoint(values)

    def is_inversion_ms(self, lowest: float, highest: float) -> bool:
        """Say whether an inversion time is told and lies between two values."""
        time = self.inversion_time_ms
        return time is not None and lowest <= time <= highest

    def is_echo_ms(self, lowest: float, highest: float) -> bool:
        """Say whether an echo time is told and lies between two values."""
        time = self.echo_time_ms
        return time is not None and lowest <= time <= highest


@dataclass(frozen=True, kw_only=True)
class Rule:
    """If `holds`, it is this sequence, a key of `SEQUENCES`."""

    sequence: str
    holds: Callable[[Cues], bool]


RULES = (
    Rule(
        sequence="adc",
        holds=lambda c: (
            c.has_type("ADC", "ADC_UNSPECIFIED")
            or c.says(r"e?adc|apparent diffusion coeff\w*|dadc")
        ),
    ),
    Rule(sequence="asl", holds=lambda c: c.has_type("ASL") or c.says(r"p?c?asl|arterial spin")),
    Rule(
        sequence="dsc",
        holds=lambda c: (
            c.contrast == "PERFUSION"
            or (
                c.says(r"dsc|perf|perfusion|pwi")
                and (_is_echo_planar(c) or (c.num_time_points > 20 and c.is_echo_ms(15, 80)))
            )
        ),
    ),
    Rule(
        sequence="dwi",
        holds=lambda c: (
            c.b_value > 0
            or c.contrast == "DIFFUSION"
            or c.has_type("DIFFUSION", "TRACEW", "DW", "ISO")
            or c.says(
                r"dwi|dti|diff|diffusion|trace|tracew|hardi|noddi|resolve|ep2d_diff|ep_b\d+\w*"
            )
        ),
    ),
    Rule(
        sequence="fmri",
        holds=lambda c: (
            c.has_type("FMRI")
            or (c.says(r"bold|fmri|rest|resting|rsfmri|task|feepi|epfid2d1") and _is_echo_planar(c))
            or (_is_echo_planar(c) and c.num_time_points >= 30 and c.is_echo_ms(15, 60))
        ),
    ),
    Rule(
        sequence="swi", holds=lambda c: c.has_type("SWI") or c.says(r"swi|swan|swip|venbold|swi3d")
    ),
    Rule(
        sequence="mra",
        holds=lambda c: (
            c.contrast in ("TOF", "TIME_OF_FLIGHT", "FLOW_ENCODED")
            or c.has_type("TOF", "PCA", "ANGIO")
            or c.says(r"tof|mra|angio|angiography|inhance|mrv")
        ),
    ),
    Rule(
        sequence="mp2rage",
        holds=lambda c: c.has_type("UNI", "UNI-DEN") or c.says(r"mp2rage"),
    ),
    Rule(
        sequence="flair",
        holds=lambda c: (
            c.contrast == "FLUID_ATTENUATED"
            or (
                not c.says(r"t1.{0,6}flair")
                and (
                    c.says(r"t?2?_?flair|dark[ _-]?fluid|da-fl|spir_?flair")
                    or (c.is_inversion_ms(1500, 3000) and c.is_echo_ms(60, 800))
                )
            )
        ),
    ),
    Rule(
        sequence="stir",
        holds=lambda c: (
            c.contrast == "STIR"
            or c.says(r"stir|tirm")
            or ("IR" in c.techniques and "SE" in c.techniques and c.is_inversion_ms(80, 300))
        ),
    ),
    Rule(
        sequence="dce",
        holds=lambda c: (
            (
                c.says(r"dce|dynamic|dyn|twist|tricks|dixon_dyn|multiphase|multi-phase")
                and "EP" not in c.techniques
            )
            or (
                c.num_time_points > 2
                and c.has_contrast_agent
                and "GR" in c.techniques
                and (c.repetition_time_ms or 1000) < 30
            )
        ),
    ),
    Rule(
        sequence="t2star",
        holds=lambda c: (
            c.contrast == "T2_STAR"
            or c.says(r"t2\*w?|t2starw?|t2_star|hemo|heme|fl2d_t2star|mfgre|gre_t2")
            or (
                "GR" in c.techniques
                and not _is_inverted(c)
                and c.is_echo_ms(12, 60)
                and (c.repetition_time_ms or 0) > 200
            )
        ),
    ),
    Rule(
        sequence="pd",
        holds=lambda c: c.contrast == "PROTON_DENSITY" or c.says(r"pd|pdw|proton|proton_density"),
    ),
    Rule(
        sequence="t1ce",
        holds=lambda c: _is_t1(c) and (c.has_contrast_agent or c.says(_ENHANCED_TEXT)),
    ),
    Rule(sequence="t1w", holds=lambda c: _is_t1(c)),
    Rule(sequence="t2w", holds=lambda c: c.contrast == "T2" or c.says(_T2_TEXT)),
)


def sequence_of(cues: Cues) -> str:
    """Return the sequence in words; from the times alone where no rule holds."""
    for rule in RULES:
        if rule.holds(cues):
            return SEQUENCES[rule.sequence]
    return sequence_from_times(cues.repetition_time_ms, cues.echo_time_ms, cues.inversion_time_ms)


def _is_t1(cues: Cues) -> bool:
    if cues.contrast == "T1":
        return True
    if cues.says("t2w?"):
        return False
    if cues.says(_T1_TEXT):
        return True
    is_short = (cues.repetition_time_ms or 1e4) < 50 and cues.is_echo_ms(0.5, 10)
    return ("GR" in cues.techniques and is_short) or (
        "GR" in cues.techniques and cues.is_inversion_ms(400, 1400)
    )


def _is_echo_planar(cues: Cues) -> bool:
    return "EP" in cues.techniques or cues.says(r"epi|ep2d\w*|epfid\w*|feepi|epse\w*")


def _is_inverted(cues: Cues) -> bool:
    return "IR" in cues.techniques or cues.inversion_time_ms is not None
