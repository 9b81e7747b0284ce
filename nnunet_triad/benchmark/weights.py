"""Which weights file a run starts from, found without reading it."""

from pathlib import Path

from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.steps import Need, missing

_VARIABLE = "TRIAD_WEIGHTS"
# Names under which other projects publish their checkpoints, by initialisation and encoder. VoCo's
# are those of `nnunet_triad.weights`; to import it would cost seconds, since it imports torch.
_PUBLISHED_NAMES = {
    ("voco", "unet"): ("VoComni_nnunet.pt",),
    ("voco", "swin_b"): ("VoCo_B_SSL_head.pt", "VoComni_B.pt"),
    ("voco", "swin_l"): ("VoCo_L_SSL_head.pt", "VoComni_L.pt"),
    ("voco", "swin_h"): ("VoCo_H_SSL_head.pt", "VoComni_H.pt"),
    ("swinunetr", "swin_b_v1"): ("self_supervised_nv_swin_unetr_5050.pt",),
    ("suprem", "swin_b_v1"): ("supervised_suprem_swinunetr_2100.pth",),
}


def file_names(initialization: str, encoder: str) -> tuple[str, ...]:
    """Return the names that are looked for in a folder of weights, the first one first."""
    own = f"{initialization}_{encoder}.safetensors"
    return (own, *_PUBLISHED_NAMES.get((initialization, encoder), ()))


def weights_need(initialization: str, encoder: str, environment: Environment) -> Need:
    """Return the weights file of an initialisation, there or not; the file is not opened."""
    names = file_names(initialization, encoder)
    value = environment.variables.get(_VARIABLE, "").strip()
    if not value:
        return missing(
            "weights",
            f"weights: expected {_VARIABLE} to name a folder that holds {' or '.join(names)}, "
            f"got nothing; export {_VARIABLE}=FOLDER",
        )
    if value.startswith("hf:/"):  # on the hub: it is looked up when the run starts
        return Need(name="weights", found=value)
    path = Path(value).expanduser()
    if path.is_file():
        return Need(name="weights", found=str(path))
    for name in names:
        if (path / name).is_file():
            return Need(name="weights", found=str(path / name))
    found = "no such file in it" if path.is_dir() else "no such folder"
    return missing("weights", f"weights: expected {' or '.join(names)} in {path}, got {found}")
