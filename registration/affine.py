"""Affine alignment before the network, by SimpleITK."""

import warnings
from typing import Literal, get_args

import numpy as np
import SimpleITK as sitk  # noqa: N813

from nnunet_triad.errors import UserError
from nnunet_triad.images import Volume
from nnunet_triad.images.itk import ras_matrix, to_sitk

Alignment = Literal["none", "moments", "rigid", "affine"]
ALIGNMENTS: tuple[str, ...] = get_args(Alignment)

_MIN_LENGTH = 32  # voxels along the shortest axis at the coarsest level
_MAX_SHRINK_FACTOR = 8
_MIN_SPACING_MM = 2.0  # of the finest level: the network does the rest
_NUM_ITERATIONS = 500
_MIN_STEP_MM = 1e-4
_NUM_BINS = 32
_NUM_SAMPLES = 40_000
_SEED = 1  # ITK moves the samples of a regular grid by random fractions of a voxel


def align(
    moving: Volume,
    fixed: Volume,
    alignment: str,
    *,
    num_samples: int = _NUM_SAMPLES,
    min_step_mm: float = _MIN_STEP_MM,
) -> np.ndarray:
    """Find the affine map from the fixed image's world to the moving image's.

    Source: ITK's registration framework: centres of mass, then Mattes' mutual information with
    regular step gradient descent over two resolutions. One thread and regular sampling: the same
    images give the same map.

    Args:
        moving: any grid.
        fixed: any grid.
        alignment: none: the scanners' coordinates already agree; moments: shift the centre of mass;
            rigid and affine go on from there.
        num_samples: voxels that the mutual information looks at, of the finest level.
        min_step_mm: at which the descent ends.

    Returns:
        (4, 4), mm, RAS: a point of the fixed image to one of the moving image.

    Raises:
        UserError: there is no such alignment.
    """
    if alignment not in ALIGNMENTS:
        raise UserError(f"affine: expected one of {', '.join(ALIGNMENTS)}, got {alignment}")
    if alignment == "none":
        return np.eye(4)
    still, mover = to_sitk(fixed), to_sitk(moving)
    start = _centre(still, mover, alignment)
    if alignment == "moments":
        return ras_matrix(start)
    try:
        return ras_matrix(_optimize(still, mover, start, num_samples, min_step_mm))
    except RuntimeError as error:  # a constant image has no mutual information
        reason = str(error).strip().splitlines()[-1]
        warnings.warn(f"affine: SimpleITK gave up, moments are used ({reason})", stacklevel=2)
        return ras_matrix(start)


def _centre(still: sitk.Image, mover: sitk.Image, alignment: str) -> sitk.Transform:
    kind = sitk.AffineTransform(3) if alignment == "affine" else sitk.Euler3DTransform()
    initializer = sitk.CenteredTransformInitializerFilter()
    initializer.MomentsOn()
    try:
        return initializer.Execute(still, mover, kind)
    except RuntimeError:  # an image without any mass
        initializer.GeometryOn()
        return initializer.Execute(still, mover, kind)


def _optimize(
    still: sitk.Image,
    mover: sitk.Image,
    start: sitk.Transform,
    num_samples: int,
    min_step_mm: float,
) -> sitk.Transform:
    factors = _shrink_factors(still)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(_NUM_BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    shares = [min(1.0, num_samples * factor**3 / still.GetNumberOfPixels()) for factor in factors]
    method.SetMetricSamplingPercentagePerLevel(shares, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0,
        minStep=min_step_mm,
        numberOfIterations=_NUM_ITERATIONS,
        relaxationFactor=0.8,
        gradientMagnitudeTolerance=1e-10,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(factors)
    method.SetSmoothingSigmasPerLevel([factor / 2 if factor > 1 else 0 for factor in factors])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(still, mover)
    return found.GetBackTransform() if isinstance(found, sitk.CompositeTransform) else found


def _shrink_factors(still: sitk.Image) -> list[int]:
    """Return powers of two, coarse to fine, from what leaves 32 voxels to about 2 mm."""
    factors = [1]
    while (
        2 * factors[0] <= _MAX_SHRINK_FACTOR
        and min(still.GetSize()) >= 2 * factors[0] * _MIN_LENGTH
    ):
        factors.insert(0, 2 * factors[0])
    is_coarse_enough = [min(still.GetSpacing()) * factor >= _MIN_SPACING_MM for factor in factors]
    return [f for f, is_good in zip(factors, is_coarse_enough, strict=True) if is_good] or factors[
        :1
    ]
