"""What a series is: tables of rules on what scanners of the big vendors and converters write.

DICOM headers and sidecars of NIfTI files are brought to the same `Cues`, so that a series gets the
same words and the same verdict by both ways. The first rule that holds decides. Free text is only
searched for known words, and never repeated.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pretraining.curation.terms import SEQUENCES
from pretraining.descriptions import UNKNOWN_SEQUENCE, sequence_from_times

_T1_TEXT = r"t1w?|mprage|mp-rage|spgr|fspgr|bravo|vibe|vibrant|thrive|lava|disco|tfl3d|t1ffe|t1tfe"
_ENHANCED_TEXT = r"post|gd|gad|contrast|ce|cont|\+c|t1c|t1ce|km|kontrast"
_T2_TEXT = r"t2w?|haste|ssfse|frfse|space_t2|trufi|fiesta|ciss"
_ASL_TEXT = r"p?c?asl|arterial spin\w*"
# Names of pulse sequences; they tell the echo where the tag that should errs.
_SPIN_EPI = r"epse\w*|ep_b\d+\w*|dwise\w*|seepi\w*|se[-_ ]?epi\w*"
_GRADIENT_EPI = r"epfid\w*|feepi\w*|ffe[-_ ]?epi\w*|gre?[-_ ]?epi\w*|ge[-_ ]epi\w*|epirt"
_GRADIENT = r"(t[12])?(ffe|tfe)"
_FMRI_TEXT = r"bold|fc?mri|rest|resting|rs_?fmri|task\w*"
# Values of AcquisitionContrast, DICOM PS3.3 C.8.13.3.1, with spaces; the longer ones first.
_CONTRASTS = (
    *("DIFFUSION", "FLOW ENCODED", "FLUID ATTENUATED", "PERFUSION", "PROTON DENSITY", "STIR"),
    *("TAGGING", "T2 STAR", "TIME OF FLIGHT", "TOF", "T1", "T2"),
)
LEAST_B_VALUE = 1.0  # s/mm2; some scanners write 0.002 for none


@dataclass(frozen=True, kw_only=True)
class Cues:
    """What a header or a sidecar says, brought to one form.

    Attributes:
        text: description, protocol and the vendor's sequence name, see `text_of`.
        types: image type, frame type and the part of a complex image, see `types_of`.
        techniques: codes of `ScanningSequence`: SE, IR, GR, EP, RM; see `techniques_of`.
        contrast: `AcquisitionContrast` of enhanced images, such as "T1"; see `contrast_of`.
        b_value: s/mm2; 0 where none is told.
        is_derived: the image type starts with DERIVED.
        is_labelled: an enhanced image has the attributes of arterial spin labelling.
    """

    text: str = ""
    types: str = ""
    techniques: frozenset[str] = frozenset()
    contrast: str = ""
    repetition_time_ms: float | None = None
    echo_time_ms: float | None = None
    inversion_time_ms: float | None = None
    b_value: float = 0.0
    has_contrast_agent: bool = False
    num_time_points: int = 1
    is_derived: bool = False
    is_labelled: bool = False

    def says(self, pattern: str) -> bool:
        """Say whether the text has one of the words, not as a part of a longer one."""
        return bool(pattern) and bool(re.search(rf"(?<![a-z0-9])({pattern})(?![a-z])", self.text))

    def has_type(self, *values: str) -> bool:
        """Say whether the image type has one of these values."""
        return any(f" {value} " in f" {self.types} " for value in values)

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
    """It is this, if one of the conditions holds and it has no word of `unless`.

    Attributes:
        name: a key of `SEQUENCES`, or what an image is that is set aside.
        types: values of the image type, as `types_of` writes them.
        contrasts: values of `Cues.contrast`.
        words: a pattern for the text.
        derived_words: the same, where the image type starts with DERIVED.
        holds: anything else.
        unless: a pattern for the text.
    """

    name: str
    types: tuple[str, ...] = ()
    contrasts: tuple[str, ...] = ()
    words: str = ""
    derived_words: str = ""
    holds: Callable[[Cues], bool] = lambda _: False
    unless: str = ""

    def is_met(self, cues: Cues) -> bool:
        """Say whether it holds."""
        return not cues.says(self.unless) and (
            cues.has_type(*self.types)
            or cues.contrast in self.contrasts
            or cues.says(self.words)
            or (cues.is_derived and cues.says(self.derived_words))
            or self.holds(cues)
        )


# What no scanner acquired, and what it acquired to calibrate itself. ADC maps are images for us, as
# in the paper.
SET_ASIDE = (
    Rule(name="field map", types=("FIELD MAP", "FIELDMAPHZ", "B0 MAP", "B1 MAP")),
    Rule(name="velocity map", types=("VELOCITY MAP",)),
    Rule(name="phase image", types=("PHASE", "PHASE MAP", "P")),
    Rule(name="real part", types=("REAL", "R")),
    Rule(name="imaginary part", types=("IMAGINARY", "I")),
    Rule(name="phase and magnitude in one file", types=("PHMAG",)),
    Rule(
        name="fractional anisotropy map",
        types=("FA", "COLFA"),
        derived_words=r"colfa|fa[ _-]?map|fractional aniso\w*",
    ),
    Rule(name="diffusion tensor", types=("TENSOR",)),
    Rule(name="exponential ADC map", types=("EADC",), derived_words=r"e-?adc"),
    Rule(name="projection", types=("PROJECTION IMAGE",)),
    Rule(name="maximum intensity projection", types=("MIP",), derived_words=r"mips?"),
    Rule(name="minimum intensity projection", types=("MNIP", "MINIP"), derived_words=r"mi?nips?"),
    Rule(name="reformat", types=("MPR", "REFORMATTED", "CURVED")),
    Rule(
        name="perfusion map",
        types=(
            *("CBF", "RCBF", "RELCBF", "CBV", "RCBV", "RELCBV", "MTT", "RELMTT", "TTP", "GBP"),
            *("PBP", "ATT", "PERFUSION FFE", "PERFUSION SE"),
        ),
        derived_words=r"(r|rel)?cb[fv]|mtt|ttp|(r|rel)?mtt",
    ),
    Rule(
        name="subtraction",
        types=("SUB", "SUBTRACT", "SUBTRACTION"),
        derived_words=r"sub|subtr|subtraction|subtracted",
    ),
    Rule(name="T1 map", types=("T1 MAP",)),
    Rule(name="T2 map", types=("T2 MAP",)),
    Rule(name="T2* map", types=("T2 STAR MAP",)),
    Rule(name="R2* map", types=("R2 STAR MAP",)),
    Rule(name="activation map", types=("T TEST", "TTEST", "T MAP")),
    Rule(name="report", types=("CSA REPORT",)),
    Rule(name="screenshot", types=("SCREEN SAVE", "SECONDARY CAPTURE")),
    # AAHScout, AAHead_Scout_64ch-head-coil, AutoAlign Scout: what Siemens' AutoAlign aligns by
    Rule(name="localizer", words=r"(aa\w*|auto ?align)?[ _-]?scout\w*|(aa|auto)?locali[sz]er\w*"),
    Rule(
        name="field-mapping scan",
        words=r"\w*field[ _-]?map\w*|fm[23]d\w*|b[01][ _-]?map\w*",
    ),
)

SEQUENCE_RULES = (
    Rule(
        name="adc",
        types=("ADC", "ADC UNSPECIFIED"),
        # dcm2niix calls a Philips diffusion series with a map at its end _ADC, too
        holds=lambda c: (
            c.says(r"e?adc|apparent diffusion coeff\w*|dadc") and c.num_time_points == 1
        ),
    ),
    Rule(name="m0scan", holds=lambda c: _is_asl(c) and c.says(r"m0|m0scan|m0_?calib\w*")),
    Rule(name="asl", holds=lambda c: _is_asl(c)),
    Rule(
        name="dsc",
        holds=lambda c: (
            (
                (c.contrast == "PERFUSION" or c.has_contrast_agent)
                and _is_gradient_epi(c)
                and not c.says(_FMRI_TEXT)
            )
            or (
                c.says(r"dsc|perf|perfusion|pwi")
                and (_is_echo_planar(c) or (c.num_time_points > 20 and c.is_echo_ms(15, 80)))
            )
        ),
    ),
    Rule(
        name="dwi",
        types=("DIFFUSION", "TRACEW", "DW", "ISO"),
        contrasts=("DIFFUSION",),
        words=(
            r"dwi\w*|dti\w*|diff|diffusion|trace|tracew|hardi|noddi|resolve|ep2d_diff|ep_b\d+\w*"
        ),
        holds=lambda c: c.b_value >= LEAST_B_VALUE,
    ),
    Rule(
        name="t2star",
        words=r"t2\*w?|t2[-_ ]?star\w*|hemo|heme|fl2d_t2star",
        unless=_FMRI_TEXT,
    ),
    Rule(
        name="fmri",
        types=("FMRI",),
        words=r"epfid2d1\w*|epirt|feepi\w*",
        holds=lambda c: (
            (c.says(_FMRI_TEXT) and _is_echo_planar(c))
            or (_is_gradient_epi(c) and c.is_echo_ms(15, 60))
            or (_is_echo_planar(c) and c.num_time_points >= 30 and c.is_echo_ms(15, 60))
        ),
    ),
    Rule(name="swi", types=("SWI",), words=r"swi|swan|swip|venbold|swi3d\w*"),
    Rule(
        name="mra",
        types=("TOF", "PCA", "ANGIO"),
        contrasts=("TOF", "TIME OF FLIGHT", "FLOW ENCODED"),
        words=r"tof|mra|angio|angiography|inhance|mrv",
    ),
    Rule(name="mp2rage", types=("UNI", "UNI-DEN"), words=r"mp2rage"),
    Rule(
        name="flair",
        contrasts=("FLUID ATTENUATED",),
        words=r"t?2?_?flair|dark[ _-]?fluid|da-fl|spir_?flair",
        holds=lambda c: c.is_inversion_ms(1500, 3000) and c.is_echo_ms(60, 800),
        unless=r"t1.{0,6}flair",
    ),
    Rule(
        name="stir",
        contrasts=("STIR",),
        words=r"stir|tirm",
        holds=lambda c: {"IR", "SE"} <= c.techniques and c.is_inversion_ms(80, 300),
    ),
    Rule(
        name="dce",
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
        name="t2star",
        contrasts=("T2 STAR",),
        words=r"mfgre|gre_t2",
        holds=lambda c: (
            "GR" in c.techniques
            and not _is_inverted(c)
            and c.is_echo_ms(12, 60)
            and (c.repetition_time_ms or 0) > 200
        ),
    ),
    Rule(name="pd", contrasts=("PROTON DENSITY",), words=r"pd|pdw|proton|proton_density"),
    Rule(
        name="t1ce",
        holds=lambda c: _is_t1(c) and (c.has_contrast_agent or c.says(_ENHANCED_TEXT)),
    ),
    Rule(name="t1w", holds=lambda c: _is_t1(c)),
    Rule(name="t2w", contrasts=("T2",), words=_T2_TEXT),
)


def sequence_of(cues: Cues) -> str:
    """Return the sequence in words; from the times alone where no rule holds."""
    for rule in SEQUENCE_RULES:
        if rule.is_met(cues):
            return SEQUENCES[rule.name]
    if "EP" in cues.techniques and "SE" not in cues.techniques:  # the thresholds are spin echo's
        return UNKNOWN_SEQUENCE
    return sequence_from_times(cues.repetition_time_ms, cues.echo_time_ms, cues.inversion_time_ms)


def set_aside_as(cues: Cues) -> str | None:
    """Return what an image is that is no acquired one to learn from; None for the others."""
    return next((rule.name for rule in SET_ASIDE if rule.is_met(cues)), None)


def text_of(parts: Iterable[str]) -> str:
    """Return free texts in one form: lower case, 2D and 3D cut off the words they lead."""
    text = " | ".join(part for part in parts if part).lower()
    return re.sub(r"(?<![a-z0-9])([23]d)(?=[a-z])", r"\1 ", text)


def types_of(values: Iterable[str]) -> str:
    """Return the values of an image type as one text, upper case.

    dcm2niix splits values at underscores (`M_FFE`, `PROTON_DENSITY`); so spaces stand for them.
    Dixon's in phase and opposed phase are no phase images.
    """
    text = " ".join(value for value in values if value).upper().replace("_", " ")
    return re.sub(r"\b(IN|OPP|OUT|OUT OF)[ -]PHASE\b", r"\1PHASE", text)


def contrast_of(told: str, types: str) -> str:
    """Return the contrast that an enhanced image tells, upper case, with spaces; "" for none.

    Args:
        told: value of `AcquisitionContrast`, which converters do not pass on.
        types: see `types_of`; Philips' image type starts with the same word.
    """
    contrast = told.upper().replace("_", " ")
    if contrast in _CONTRASTS:
        return contrast
    return next((one for one in _CONTRASTS if f"{types} ".startswith(f"{one} ")), "")


def techniques_of(codes: Iterable[str], text: str) -> frozenset[str]:
    """Return codes of `ScanningSequence`, mended where the pulse sequence's name knows better.

    Siemens XA calls diffusion's spin echo EchoPulseSequence GRADIENT; converters write only EP;
    Philips' classic headers do not say that FEEPI is echo planar, and its FFE may be RM (research).
    """
    techniques = {code.strip().upper() for code in codes} & {"SE", "IR", "GR", "EP", "RM"}
    named = Cues(text=text)
    if named.says("grase"):
        techniques |= {"SE", "GR", "EP"}
    elif named.says(_SPIN_EPI):
        techniques = techniques - {"GR", "RM"} | {"SE", "EP"}
    elif named.says(_GRADIENT_EPI):
        techniques = techniques - {"SE", "RM"} | {"GR", "EP"}
    elif named.says(_GRADIENT):
        techniques = techniques - {"RM"} | {"GR"}
    return frozenset(techniques)


def _is_asl(cues: Cues) -> bool:
    return cues.is_labelled or cues.has_type("ASL") or cues.says(_ASL_TEXT)


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
    return "EP" in cues.techniques or cues.says(r"epi|ep2d\w*|epfid\w*|feepi\w*|epse\w*")


def _is_gradient_epi(cues: Cues) -> bool:
    return {"EP", "GR"} <= cues.techniques and "SE" not in cues.techniques


def _is_inverted(cues: Cues) -> bool:
    return "IR" in cues.techniques or cues.inversion_time_ms is not None
