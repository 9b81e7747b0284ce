"""The classifier: encoder, global average pooling of its last feature, and a head."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nnunet_triad.architectures import EncoderSpec, build_encoder, family_of
from nnunet_triad.architectures.padding import pad_to_stride


class Classifier(nn.Module):
    """An encoder under a head; `find_encoder` finds it, so weights transfer into it.

    Source: section 4.3.2 and Figure 5a of the paper: encoder, average pooling of the last layer's
    output, two linear layers.
    Differs: a ReLU between the two layers, without which they would be one.
    """

    def __init__(self, spec: EncoderSpec, head: nn.Module, *, input_channels: int = 1) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = build_encoder(spec, input_channels=input_channels)
        self.head = head

    def features(self, image: Tensor) -> Tensor:
        """Return the pooled features.

        Args:
            image: (b, c, x, y, z), multiples of the encoder's stride.

        Returns:
            (b, d), d the channels of the encoder's last feature.
        """
        min_voxels = family_of(self.spec).min_bottleneck_voxels
        image = pad_to_stride(image, self.spec.total_stride, min_voxels=min_voxels)
        return self.encoder(image)[-1].mean(dim=(2, 3, 4))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (b, classes) for an image (b, c, x, y, z)."""
        return self.head(self.features(image))


def two_layer_head(
    num_features: int, num_classes: int, hidden_size: int | None = None
) -> nn.Module:
    """Return the paper's head; `hidden_size` None: as wide as the features."""
    width = hidden_size or num_features
    return nn.Sequential(nn.Linear(num_features, width), nn.ReLU(), nn.Linear(width, num_classes))


class NeighbourHead(nn.Module):
    """Votes of the nearest training samples by cosine similarity, as log probabilities."""

    vectors: Tensor
    labels: Tensor
    num_neighbours: Tensor

    def __init__(self, num_samples: int, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("vectors", torch.zeros(num_samples, num_features))
        self.register_buffer("labels", torch.zeros(num_samples, dtype=torch.long))
        self.register_buffer("num_neighbours", torch.tensor(1))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logarithm of each class's share of the votes, (b, classes)."""
        similarity = F.normalize(features.float()) @ F.normalize(self.vectors).T
        nearest = similarity.topk(int(self.num_neighbours), dim=1).indices
        votes = F.one_hot(self.labels[nearest], self.num_classes).float().mean(dim=1)
        return votes.clamp_min(1e-6).log()


def cam_layer(spec: EncoderSpec) -> str:
    """Return the layer whose output GradCAM weighs: the finest one of stride 8 or more.

    The last feature of a 64-voxel cube has two voxels along each edge, which shows nothing.
    """
    stride = 1
    for level, steps in enumerate(spec.strides):
        stride *= steps[0]
        if stride >= 8 or level == len(spec.strides) - 1:
            break
    return f"encoder.{family_of(spec).layer_of(spec, level)}"
