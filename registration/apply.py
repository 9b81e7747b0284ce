"""Register one pair of images with a trained network."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nnunet_triad.architectures.cpu.accelerate import accelerate_on_cpu
from nnunet_triad.images import Grid, Volume
from registration.affine import align
from registration.model_file import ModelInfo
from registration.networks import RegistrationNetwork
from registration.pairs import PreparedPair, prepare_pair
from registration.refine import refine_field
from registration.spatial import (
    folding_percent,
    inverse_error,
    invert_displacement,
    sd_log_jacobian,
)
from registration.transform_file import TransformField, whole_field, whole_inverse_field


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A finished registration of one pair."""

    pair: PreparedPair
    displacement: Tensor  # (1, 3, x, y, z) on the pair's grid, voxels
    inverse: Tensor | None = None  # of the displacement, the same shape

    @property
    def folding_percent(self) -> float:
        """Inner voxels at which the displacement folds space."""
        return folding_percent(self.displacement)

    @property
    def sd_log_jacobian(self) -> float:
        """Standard deviation of the logarithm of the Jacobian determinant."""
        return sd_log_jacobian(self.displacement)

    @property
    def inverse_error_mm(self) -> float:
        """How far a point is from its start after the transform and its inverse: mean, mm."""
        assert self.inverse is not None
        spacing = self.pair.grid.spacing_mm.tolist()
        return float(inverse_error(self.displacement, self.inverse, spacing=spacing).mean())

    def field(self, grid: Grid) -> TransformField:
        """Return the whole transform, affine part included, on a grid of the fixed world."""
        return whole_field(
            grid,
            working=self.pair.grid,
            displacement=self.displacement[0].cpu().double().numpy(),
            matrix=self.pair.matrix,
        )

    def inverse_field(self, grid: Grid) -> TransformField:
        """Return the inverse of the whole transform on a grid of the moving world."""
        assert self.inverse is not None
        return whole_inverse_field(
            grid,
            working=self.pair.grid,
            inverse=self.inverse[0].cpu().double().numpy(),
            matrix=self.pair.matrix,
        )


def register(
    network: RegistrationNetwork,
    info: ModelInfo,
    *,
    moving: Volume,
    fixed: Volume,
    alignment: str = "affine",
    num_refinements: int = 0,
    has_inverse: bool = False,
    device: str = "cpu",
) -> Registration:
    """Register a moving image to a fixed one.

    Both are reoriented to RAS. The moving image is aligned and resampled to the fixed image's grid;
    where the network was trained on a spacing that differs by more than 5 %, to that.

    Args:
        network: from `load_model`.
        info: from `load_model`.
        moving: any orientation, spacing and size.
        fixed: any orientation, spacing and size.
        alignment: see `registration.affine.align`.
        num_refinements: steps of instance optimisation.
        has_inverse: compute the inverse as well.
        device: cpu, cuda or mps.

    Raises:
        UserError: the images do not overlap.
    """
    moving, fixed = moving.to_ras(), fixed.to_ras()
    settings = info.settings
    pair = prepare_pair(
        moving,
        fixed,
        spacing_mm=info.spacing_mm,
        percentile=settings.intensity_percentile,
        matrix=align(moving, fixed, alignment),
    )
    network = network.to(device).eval()
    accelerate_on_cpu(network, torch.device(device))
    images = pair.moving.to(device), pair.fixed.to(device)
    with torch.no_grad():
        field = network.predict(*images)
    if num_refinements:
        field = refine_field(
            network,
            field,
            moving=images[0],
            fixed=images[1],
            settings=settings,
            num_steps=num_refinements,
        )
    return finish(network, field, pair, has_inverse=has_inverse)


@torch.no_grad()
def finish(
    network: RegistrationNetwork, field: Tensor, pair: PreparedPair, *, has_inverse: bool
) -> Registration:
    """Turn a predicted field into a registration."""
    sizes = tuple(pair.moving.shape[2:])
    displacement = network.displacement(field, sizes).cpu()
    found = Registration(pair=pair, displacement=displacement)
    if not has_inverse:
        return found
    if network.is_diffeomorphic:
        return replace(found, inverse=network.displacement(field, sizes, sign=-1).cpu())
    return replace(found, inverse=invert_displacement(displacement))


def describe_grid(info: ModelInfo, pair: PreparedPair, fixed: Volume) -> str:
    """Say on which grid the network worked, and why it is another than the fixed image's."""
    own = fixed.to_ras().grid
    if pair.grid.is_same(own):
        return f"grid: {pair.grid}"
    wanted = " x ".join(f"{length:.3g}" for length in info.spacing_mm)
    return (
        f"grid: {pair.grid}; the model was trained at {wanted} mm, the fixed image has "
        f"{' x '.join(f'{length:.3g}' for length in own.spacing_mm)} mm"
    )
