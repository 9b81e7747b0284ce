"""Pulse sequences and scanners: the settings that a device reports with each series."""

import math
from dataclasses import dataclass, replace

import numpy as np

KINDS = ("spin_echo", "inversion_recovery", "spoiled_gradient_echo")


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """One pulse sequence with its true settings.

    Attributes:
        name: key of `SEQUENCES`.
        kind: "spin_echo", "inversion_recovery" or "spoiled_gradient_echo".
        repetition_time_ms, echo_time_ms: TR and TE.
        inversion_time_ms: TI; None without an inversion pulse.
        flip_angle_deg: of the excitation pulse; only the gradient echo's signal depends on it.
        is_contrast_enhanced: acquired after an injection of contrast agent.
        is_3d: encoded as a volume, not slice by slice.
        bids_suffix: suffix of the file's name in BIDS.
    """

    name: str
    kind: str
    repetition_time_ms: float
    echo_time_ms: float
    inversion_time_ms: float | None = None
    flip_angle_deg: float = 90.0
    is_contrast_enhanced: bool = False
    is_3d: bool = False
    bids_suffix: str = "T1w"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if not 0 < self.echo_time_ms < self.repetition_time_ms:
            raise ValueError(
                "echo_time_ms: expected more than 0 and less than the repetition time "
                f"{self.repetition_time_ms}, got {self.echo_time_ms}"
            )
        has_inversion = self.inversion_time_ms is not None
        if has_inversion != (self.kind == "inversion_recovery"):
            raise ValueError(
                "inversion_time_ms: expected a time for inversion_recovery and None for other "
                f"kinds, got {self.inversion_time_ms} for {self.kind}"
            )

    def varied(self, generator: np.random.Generator, *, spread: float = 0.08) -> "Sequence":
        """Return the sequence as another site would run it: each setting off by up to `spread`.

        The inversion time stays: it nulls a tissue, and sites set it alike.
        """
        factors = 1 + spread * generator.uniform(-1, 1, size=3)
        return replace(
            self,
            repetition_time_ms=_round(self.repetition_time_ms * factors[0]),
            echo_time_ms=_round(self.echo_time_ms * factors[1]),
            flip_angle_deg=float(round(self.flip_angle_deg * factors[2]))
            if self.kind == "spoiled_gradient_echo"
            else self.flip_angle_deg,
        )


def _round(time_ms: float) -> float:
    """Return a time with three significant digits, as scanners show it."""
    return float(round(time_ms, 2 - math.floor(math.log10(time_ms))))


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """One MR scanner.

    Attributes:
        manufacturer, model, software_version, serial_number: as in the DICOM tags.
        field_strength_t: tesla.
        noise_percent: standard deviation of the noise in each of the two channels, in percent
            of the brightest tissue that is not fat.
        bias_percent: peak-to-peak range of the intensity non-uniformity ("20 %": 0.9 to 1.1).
        gain: stored units for a signal of 1.
    """

    manufacturer: str
    model: str
    field_strength_t: float
    software_version: str
    serial_number: str
    noise_percent: float
    bias_percent: float
    gain: float


def _scanner(
    manufacturer: str, model: str, field: float, software: str, serial: str, gain: float
) -> Scanner:
    # A higher field gives more signal for the same noise, and a less even transmit field.
    is_high = field > 2
    return Scanner(
        manufacturer=manufacturer,
        model=model,
        field_strength_t=field,
        software_version=software,
        serial_number=serial,
        noise_percent=1.5 if is_high else 3.0,
        bias_percent=35.0 if is_high else 20.0,
        gain=gain,
    )


SCANNERS: tuple[Scanner, ...] = (
    _scanner("SIEMENS", "Avanto", 1.5, "syngo MR B17", "25001", 1500.0),
    _scanner("GE MEDICAL SYSTEMS", "Signa HDxt", 1.5, "24\\LX\\MR HD16.0", "00412", 4000.0),
    _scanner("Philips Medical Systems", "Ingenia", 3.0, "5.3.1", "42017", 2200.0),
    _scanner("SIEMENS", "Skyra", 3.0, "syngo MR E11", "45093", 1800.0),
)

# T1w, T2w and PDw are the settings of BrainWeb's simulated brain database; the inversion times
# null the table's CSF (FLAIR) and fat (STIR) at 1.5 T.
SEQUENCES: dict[str, Sequence] = {
    sequence.name: sequence
    for sequence in (
        Sequence(
            name="T1w",
            kind="spoiled_gradient_echo",
            repetition_time_ms=18,
            echo_time_ms=10,
            flip_angle_deg=30,
            is_3d=True,
        ),
        Sequence(
            name="T2w",
            kind="spin_echo",
            repetition_time_ms=3300,
            echo_time_ms=120,
            bids_suffix="T2w",
        ),
        Sequence(
            name="FLAIR",
            kind="inversion_recovery",
            repetition_time_ms=9000,
            echo_time_ms=120,
            inversion_time_ms=1700,
            bids_suffix="FLAIR",
        ),
        Sequence(
            name="PDw",
            kind="spin_echo",
            repetition_time_ms=3300,
            echo_time_ms=35,
            bids_suffix="PDw",
        ),
        Sequence(
            name="T1ce",
            kind="spoiled_gradient_echo",
            repetition_time_ms=18,
            echo_time_ms=10,
            flip_angle_deg=30,
            is_contrast_enhanced=True,
            is_3d=True,
        ),
        Sequence(
            name="T2starw",
            kind="spoiled_gradient_echo",
            repetition_time_ms=700,
            echo_time_ms=25,
            flip_angle_deg=20,
            bids_suffix="T2starw",
        ),
        Sequence(name="T1se", kind="spin_echo", repetition_time_ms=500, echo_time_ms=12),
        Sequence(
            name="STIR",
            kind="inversion_recovery",
            repetition_time_ms=4500,
            echo_time_ms=60,
            inversion_time_ms=220,
            bids_suffix="T2w",
        ),
    )
}
