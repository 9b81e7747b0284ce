"""nnssl's Primus checkpoints: names by the library's own modules, features as at home."""

from pathlib import Path
from typing import Any

import pytest
import torch
from dynamic_network_architectures.building_blocks.eva import Eva
from dynamic_network_architectures.building_blocks.patch_encode_decode import (
    PatchDecode,
    PatchEmbed,
)
from einops import rearrange
from torch import Tensor, nn

from nnunet_triad.architectures import ENCODERS, build_encoder
from nnunet_triad.architectures.families import read_spec
from nnunet_triad.architectures.meta import build_on_meta
from nnunet_triad.errors import UserError
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.transfer import Shown, transfer_encoder

EDGE = 3  # tokens along each axis


class EvaMAE(nn.Module):
    """The modules of nnssl's masked autoencoder, by their names, and its encoder's features."""

    def __init__(self, width: int = 144, depth: int = 2, heads: int = 2, edge: int = EDGE) -> None:
        super().__init__()
        shape = (edge, edge, edge)
        more: dict[str, Any] = {"num_heads": heads, "ref_feat_shape": shape}
        more |= {"init_values": 0.1, "scale_attn_inner": True}
        self.down_projection = PatchEmbed((8, 8, 8), 1, width)
        self.eva = Eva(embed_dim=width, depth=depth, **more)
        self.up_projection = PatchDecode((8, 8, 8), width, 1)
        self.decoder = Eva(embed_dim=width, depth=1, **more)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))

    def features(self, image: Tensor, order: str) -> Tensor:
        """The encoder's, with tokens counted in an order of the axes w h d."""
        tokens = self.down_projection(image)
        w, h, d = tokens.shape[2:]
        found, _ = self.eva(rearrange(tokens, f"b c w h d -> b ({order}) c"))
        return rearrange(found, f"b ({order}) c -> b c w h d", w=w, h=h, d=d)


def checkpoint(model: nn.Module, trainer: str) -> dict[str, Any]:
    """As nnssl writes it (AbstractTrainer.save_checkpoint, BaseEvaMAETrainer's adaptation plan)."""
    configuration = {"spacing": [1, 1, 1], "patch_size": [160, 160, 160]}
    configuration["normalization_schemes"] = ["ZScoreNormalization"]
    return {
        "network_weights": model.state_dict(),
        "optimizer_state": {},
        "current_epoch": 1000,
        "init_args": {"plan": {}},
        "trainer_name": trainer,
        "nnssl_adaptation_plan": {
            "architecture_plans": {
                "arch_class_name": "PrimusM",
                "arch_kwargs": None,
                "arch_kwargs_requiring_import": None,
            },
            "pretrain_plan": {"configurations": {"onemmiso": configuration}},
            "pretrain_num_input_channels": 1,
            "recommended_downstream_patchsize": [160, 160, 160],
            "key_to_encoder": "eva",
            "key_to_stem": "down_projection",
            "keys_to_in_proj": ["down_projection.proj"],
            "key_to_lpe": "eva.pos_embed",
        },
    }


@pytest.mark.parametrize(
    ("trainer", "order"),
    [("BaseEvaMAETrainer", "h w d"), ("BaseEvaMAETrainer_BS8", "h w d"), ("SimMIMEva", "w h d")],
)
def test_encoder_computes_what_it_did_at_home(tmp_path: Path, trainer: str, order: str) -> None:
    torch.manual_seed(0)
    theirs = EvaMAE().eval()
    torch.save(checkpoint(theirs, trainer), tmp_path / "checkpoint.pth")
    weights = load_weights(tmp_path / "checkpoint.pth")
    assert (weights.info.source, weights.info.spec.family) == ("nnssl", "primus")
    assert weights.info.patch_size == (160, 160, 160)
    encoder = build_encoder(weights.info.spec).eval()
    report = transfer_encoder(encoder, weights, Shown(axes="zyx"))
    assert (report.fresh.tensors, report.unused.tensors) == (0, 0)
    image = torch.randn(1, 1, *(8 * EDGE,) * 3)
    with torch.no_grad():
        (found,) = encoder(image)
        expected = theirs.features(image, order)
        other = theirs.features(image, "d w h")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found - other).abs().max() > 0.1  # the order matters


def test_published_size_is_known_by_its_tensors() -> None:
    state = build_on_meta(lambda: EvaMAE(864, 16, 12, edge=20)).state_dict()
    tensors = {n: t for n, t in state.items() if n.startswith(("down_projection.", "eva."))}
    assert read_spec(tensors) == ENCODERS["primus_m"]
    names = dict(build_on_meta(lambda: build_encoder(ENCODERS["primus_m"])).named_parameters())
    assert {n: t.shape for n, t in names.items()} == {n: t.shape for n, t in tensors.items()}


def test_tokens_by_convolutions_are_refused(tmp_path: Path) -> None:
    model = EvaMAE()
    model.down_projection.proj = nn.Conv3d(1, 144, 4, 4)
    torch.save(checkpoint(model, "x"), tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match=r"got a Primus of another build, .* is not supported"):
        load_weights(tmp_path / "checkpoint.pth")
