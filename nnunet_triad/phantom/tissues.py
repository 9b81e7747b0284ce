"""Magnetic properties of tissues, and how they change with field strength and contrast agent."""

import math
from dataclasses import dataclass, replace

REFERENCE_FIELD_STRENGTH_T = 1.5
# Paired measurements at 1.5 and 3 T: T1 21 % longer, T2 8 % shorter (de Bazelaire et al., Radiology
# 2004, means over abdominal and pelvic tissues); T2* of the brain 20 % shorter (Peters et al.,
# Magn Reson Imaging 2007: grey matter 84 -> 66 ms, white matter 66 -> 53 ms). As powers of B0.
_T1_EXPONENT = math.log2(1.21)
_T2_EXPONENT = math.log2(0.92)
_T2_STAR_EXPONENT = math.log2(0.80)
# Gadopentetate in plasma at 1.5 T, per mmol/l and second (Rohrer et al., Invest Radiol 2005).
RELAXIVITY_R1, RELAXIVITY_R2 = 4.1, 4.6


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """Relaxation times and proton density of a tissue.

    Attributes:
        t1_ms, t2_ms, t2_star_ms: relaxation times at 1.5 T, or at the field that
            `at_field_strength` was asked for; milliseconds.
        proton_density: relative to water, 0 to 1.
        gadolinium_mmol_per_l: concentration some minutes after an injection of contrast agent.
        is_fluid: free water, whose T1 and T2 hardly depend on the field.
    """

    t1_ms: float
    t2_ms: float
    t2_star_ms: float
    proton_density: float
    gadolinium_mmol_per_l: float = 0.0
    is_fluid: bool = False

    def at_field_strength(self, field_strength_t: float) -> "Tissue":
        """Return the tissue at another field strength, in tesla."""
        ratio = field_strength_t / REFERENCE_FIELD_STRENGTH_T
        t2_star_ms = self.t2_star_ms * ratio**_T2_STAR_EXPONENT
        if self.is_fluid:
            return replace(self, t2_star_ms=t2_star_ms)
        return replace(
            self,
            t1_ms=self.t1_ms * ratio**_T1_EXPONENT,
            t2_ms=self.t2_ms * ratio**_T2_EXPONENT,
            t2_star_ms=t2_star_ms,
        )

    def with_contrast_agent(self) -> "Tissue":
        """Return the tissue with its gadolinium: relaxation rates grow in proportion to it."""
        extra_r1 = RELAXIVITY_R1 * self.gadolinium_mmol_per_l / 1000  # per ms
        extra_r2 = RELAXIVITY_R2 * self.gadolinium_mmol_per_l / 1000
        return replace(
            self,
            t1_ms=1 / (1 / self.t1_ms + extra_r1),
            t2_ms=1 / (1 / self.t2_ms + extra_r2),
            t2_star_ms=1 / (1 / self.t2_star_ms + extra_r2),
        )


def _tissue(
    t1_ms: float, t2_ms: float, t2_star_ms: float, proton_density: float, gadolinium: float = 0.0
) -> Tissue:
    return Tissue(
        t1_ms=t1_ms,
        t2_ms=t2_ms,
        t2_star_ms=t2_star_ms,
        proton_density=proton_density,
        gadolinium_mmol_per_l=gadolinium,
    )


# 1.5 T. csf, grey_matter, white_matter, fat, muscle and plaque ("MS lesion") are BrainWeb's values
# (Kwan et al., IEEE Trans Med Imaging 1999; tissue_mr_parameters.txt of the BrainWeb site).
# Prostate: T1 near the whole gland's 1317 ms (de Bazelaire et al. 2004), T2 of the zones and of
# tumours from Simpkin et al., Br J Radiol 2013. Breast fat and fibroglandular tissue: Rakow-Penner
# et al., J Magn Reson Imaging 2006. Plausible values without a publication: bone, organ_wall,
# urine, the lesions' parts where no source is named, T2* outside the brain, and the gadolinium.
TISSUES: dict[str, Tissue] = {
    "csf": replace(_tissue(2569, 329, 58, 1.00), is_fluid=True),
    "grey_matter": _tissue(833, 83, 69, 0.86),
    "white_matter": _tissue(500, 70, 61, 0.77),
    "fat": _tissue(350, 70, 58, 1.00),
    "muscle": _tissue(900, 47, 30, 1.00, 0.10),
    "bone": _tissue(1000, 1, 0.5, 0.15),
    "necrotic_core": _tissue(1900, 250, 150, 0.95),
    "oedema": _tissue(1100, 140, 110, 0.88),
    "enhancing_rim": _tissue(1150, 100, 75, 0.86, 0.60),
    "plaque": _tissue(752, 237, 204, 0.76),
    "urine": replace(_tissue(3500, 700, 300, 1.00), is_fluid=True),
    "organ_wall": _tissue(1000, 55, 35, 0.90, 0.15),
    "peripheral_zone": _tissue(1400, 149, 75, 0.95, 0.15),
    "transition_zone": _tissue(1280, 125, 60, 0.88, 0.25),
    "prostate_lesion": _tissue(1250, 97, 55, 0.85, 0.50),
    "breast_fat": _tissue(296, 53, 40, 1.00),
    "fibroglandular": _tissue(1266, 58, 40, 0.85, 0.15),
    "breast_lesion": _tissue(1200, 75, 50, 0.88, 0.80),
}
