"""Where a prediction comes from: GradCAM or occlusion, as a map in the image's own space."""

from pathlib import Path

import numpy as np
import torch
from monai.visualize import GradCAM
from numpy.typing import NDArray

from classification.model import cam_layer
from classification.model_file import Model
from classification.preprocess import preprocess, read_image, to_image_space
from nnunet_triad.errors import UserError
from nnunet_triad.images import write_volume

METHODS = ("gradcam", "occlusion")
_OCCLUDED = 8  # pieces that the cube's edge is hidden in


def write_saliency(
    model: Model, files: tuple[Path, ...], path: Path, *, method: str, device: torch.device
) -> Path:
    """Explain the predicted class of one image.

    GradCAM weighs the activations of a layer by their gradient (0 to 1 after scaling; MONAI).
    Occlusion hides a piece at a time, and shows by how much the probability of the class falls.

    Args:
        model: of whole images.
        files: the image's channels; the map is on the grid of the first.
        path: NIfTI file to write.
        method: gradcam or occlusion.
        device: where the network is.

    Returns:
        `path`.

    Raises:
        UserError: the method is unknown, or not for this kind of model.
    """
    check_method(model, method)
    settings = model.settings.preprocess
    images = [read_image(file) for file in files]
    cubes = [preprocess(image, settings)[0] for image in images]
    # float16, as in the cache: the map explains what predict said
    stacked = np.stack(cubes).astype(np.float16).astype(np.float32)
    cube = saliency_map(model, torch.from_numpy(stacked)[None].to(device), method)
    values = to_image_space(cube, images[0], settings)
    return write_volume(path, values, images[0].affine)


def saliency_map(model: Model, image: torch.Tensor, method: str) -> NDArray[np.float32]:
    """Return the map of the predicted class over the network's input, (size, size, size).

    Args:
        model: its network is on the image's device.
        image: (1, c, size, size, size).
        method: gradcam or occlusion.
    """
    network = model.network.eval()
    with torch.no_grad():
        target = int(network(image).argmax())
    if method == "gradcam":
        cam = GradCAM(nn_module=network, target_layers=cam_layer(network.spec))
        seen = cam(x=image, class_idx=target)[0, 0].detach().cpu().numpy()
        # along the axes that the encoder's weights saw
        return seen.transpose(np.argsort(getattr(network.encoder, "order", (0, 1, 2))))
    return occlusion_map(network, image, target)


@torch.no_grad()
def occlusion_map(
    network: torch.nn.Module, image: torch.Tensor, target: int
) -> NDArray[np.float32]:
    """Return by how much the probability of a class falls when a cube is hidden.

    A hidden cube gets the image's mean. MONAI's `OcclusionSensitivity` indexes with lists, which
    newer versions of PyTorch read as something else.

    Args:
        network: gives logits.
        image: (1, c, x, y, z), sizes divisible by 8.
        target: number of the class.

    Returns:
        (x, y, z), the same value within each cube.
    """
    sizes = image.shape[2:]
    edges = [size // _OCCLUDED for size in sizes]
    fill = image.mean(dim=(2, 3, 4))[0][:, None, None, None]
    before = network(image).softmax(dim=1)[0, target]
    falls = np.zeros((_OCCLUDED,) * 3, np.float32)
    for i, j in np.ndindex(_OCCLUDED, _OCCLUDED):  # a line of cubes along z is one batch
        hidden = image.repeat(_OCCLUDED, 1, 1, 1, 1)
        for k in range(_OCCLUDED):
            x, y, z = (
                slice(number * edge, (number + 1) * edge)
                for number, edge in zip((i, j, k), edges, strict=True)
            )
            hidden[k, :, x, y, z] = fill
        after = network(hidden).softmax(dim=1)[:, target]
        falls[i, j] = (before - after).float().cpu().numpy()
    return np.kron(falls, np.ones(edges, np.float32))


def check_method(model: Model, method: str) -> None:
    """Raise a UserError when a method cannot explain a model."""
    if method not in METHODS:
        raise UserError(f"saliency: expected {' or '.join(METHODS)}, got {method}")
    if method == "gradcam" and model.settings.mode == "knn":
        raise UserError("saliency: expected occlusion for a model of neighbours, got gradcam")
    if model.description.extent_mm is not None:
        raise UserError(
            "saliency: expected a model of whole images, got one of samples around points"
        )
