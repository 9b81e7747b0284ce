"""What a pre-training trains: any encoder, and the heads of the objective."""

from torch import Tensor, nn

from nnunet_triad.architectures import EncoderSpec, build_encoder
from pretraining.objective import Objective


class PretrainNetwork(nn.Module):
    """An encoder and the heads of an objective, each under its own name.

    Example:
        >>> network = PretrainNetwork(Paper(), encoder_spec("swin_t"))
        >>> outputs = network({"image": torch.zeros(2, 1, 64, 32, 32)})
        >>> outputs["reconstruction"].shape, outputs["embedding"].shape
        (torch.Size([2, 1, 64, 32, 32]), torch.Size([2, 192]))
    """

    def __init__(self, objective: Objective, spec: EncoderSpec, *, recompute: bool = False) -> None:
        """Build all with random weights, the encoder first.

        Args:
            objective: has the heads, and says how to run them.
            spec: the encoder.
            recompute: the encoder's activations in the backward pass, where it can.
        """
        super().__init__()
        self.objective = objective
        self.spec = spec
        self.encoder = build_encoder(spec, input_channels=1, recompute=recompute)
        heads = objective.heads(spec)
        self.names = tuple(heads)  # of the heads
        for name, head in heads.items():
            self.add_module(name, head)
        objective.attach(self.encoder, heads, spec)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what the objective makes of a batch."""
        heads = {name: getattr(self, name) for name in self.names}
        return self.objective.forward(self.encoder, heads, batch)
