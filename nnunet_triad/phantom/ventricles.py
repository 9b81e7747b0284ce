"""A small anatomical change: wider lateral ventricles, by a flow that points away from them."""

import dataclasses

import numpy as np

from nnunet_triad.phantom.deformation import Deformation
from nnunet_triad.phantom.grid import axis_coordinates_mm

# Centres of the bodies of the lateral ventricles in the ICBM152 space, and the flow's reach, mm.
_CENTRES_MM = ((-14.0, -10.0, 18.0), (14.0, -10.0, 18.0))
_REACH_MM = (14.0, 34.0, 16.0)


def widen_ventricles(deformation: Deformation, growth: float) -> Deformation:
    """Return the deformation with wider ventricles.

    The map goes from the subject to the template, so the flow points inward: a subject's wide
    ventricle is read from the template's narrow one. Being part of the velocity, it can be
    inverted like the rest.

    Args:
        deformation: of the subject.
        growth: strength of the flow; 0.4 gives the ventricles about a quarter more volume.
    """
    shape = deformation.velocity_mm.shape[1:]
    x, y, z = axis_coordinates_mm(shape, deformation.control_affine)
    flow = np.zeros_like(deformation.velocity_mm)
    for centre in _CENTRES_MM:
        offsets = np.stack(
            np.broadcast_arrays(
                x[:, None, None] - centre[0], (y - centre[1])[:, None], z - centre[2]
            )
        )
        reach = np.array(_REACH_MM)[:, None, None, None]
        weight = np.exp(-0.5 * ((offsets / reach) ** 2).sum(axis=0))
        flow -= (growth * weight * offsets).astype(np.float32)
    return dataclasses.replace(deformation, velocity_mm=deformation.velocity_mm + flow)
