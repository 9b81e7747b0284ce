"""The unit of length of a NIfTI file."""

import nibabel as nib

_MM_PER_UNIT = {"micron": 1e-3, "meter": 1e3}


def mm_per_unit(header: nib.Nifti1Header) -> float:
    """Return how many mm one of a header's units of length has.

    Source: NIfTI-1's `xyzt_units`. A header without a unit, or with a code that NIfTI has not, is
    in mm, as nibabel and all else take it.
    """
    try:
        return _MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)
    except KeyError:
        return 1.0
