"""How others optimise their objectives: fields of `PretrainSettings`."""

from typing import Any

from nnunet_triad.architectures import EncoderSpec, family_of

NOT_CLIPPED = 1e9  # as a norm of the gradient

# Triad's released script: timm's `param_groups_weight_decay`, and half a cosine down to zero.
TRIADS = {
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.05,
    "betas": (0.9, 0.95),
    "decays_all": False,
    "gradient_clip": NOT_CLIPPED,
    "rate_decay": "cosine",
}


def nnssls(spec: EncoderSpec, *, steps: int) -> dict[str, Any]:
    """Return nnssl's optimiser: nnU-Net's for CNNs, that of its SimMIM and MAE for transformers.

    Source: `AbstractBaseTrainer`, `BaseMAETrainer` and `SimMIMEvaTrainer` of nnssl (commit
        7044864); 50 of 1000 epochs of a transformer are the warm-up.
    """
    if not family_of(spec).embedding:
        return {
            "optimizer": "sgd",
            "learning_rate": 1e-2,
            "weight_decay": 3e-5,
            "gradient_clip": 12.0,
            "warmup_steps": 0,
            "rate_decay": "polynomial",
        }
    return {
        "optimizer": "adamw",
        "learning_rate": 3e-4,
        "weight_decay": 0.05,
        "betas": (0.9, 0.98),
        "gradient_clip": 1.0,
        "warmup_steps": steps // 20,
        "rate_decay": "polynomial",
    }
