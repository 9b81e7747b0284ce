"""Names of weights files, by initialisation and encoder; importing them costs nothing."""

# Under which names other projects publish their checkpoints.
_PUBLISHED = {
    ("triad", "unet"): ("Triad-PlainConvUNet-MAE.pth", "Triad-PlainConvUNet-SimMIM.pth"),
    ("triad", "swin_b"): ("Triad-SwinB-MAE.pth", "Triad-SwinB-SimMIM.pth"),
    ("voco", "unet"): ("VoComni_nnunet.pt",),
    ("voco", "swin_b"): ("VoCo_B_SSL_head.pt", "VoComni_B.pt"),
    ("voco", "swin_l"): ("VoCo_L_SSL_head.pt", "VoComni_L.pt"),
    ("voco", "swin_h"): ("VoCo_H_SSL_head.pt", "VoComni_H.pt"),
    ("swinunetr", "swin_b_v1"): ("self_supervised_nv_swin_unetr_5050.pt",),
    ("suprem", "swin_b_v1"): ("supervised_suprem_swinunetr_2100.pth",),
}


def file_names(initialization: str, encoder: str) -> tuple[str, ...]:
    """Return the names that are looked for in a folder of weights, the first one first.

    Args:
        initialization: such as `triad`.
        encoder: such as `swin_b`.
    """
    own = f"{initialization}_{encoder}.safetensors"
    return (own, *_PUBLISHED.get((initialization, encoder), ()))
