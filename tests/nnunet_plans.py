"""What nnU-Net's planners write of a network's layers, whatever its stages."""

from typing import Any

REQUIRES_IMPORT = ["conv_op", "norm_op", "dropout_op", "nonlin"]


def layers(num_axes: int = 3) -> dict[str, Any]:
    """Return the arguments that name them."""
    return {
        "conv_op": f"torch.nn.modules.conv.Conv{num_axes}d",
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{num_axes}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
