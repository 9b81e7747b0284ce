"""`triad-register apply` on a 160x192x224 pair at 1 mm: seconds and peak memory.

    python -m benchmarks.registration_apply [NETWORK|none] [--half]

The pair is the ICBM152 volume that nilearn ships, and the same one bent by a smooth displacement.
The network has random weights: it takes as long as a trained one. `none` registers without a model.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from nilearn.datasets import load_mni152_template

from nnunet_triad.images import Volume, write_volume
from registration.model_file import ModelInfo, build_network, save_model
from registration.settings import RegistrationSettings
from registration.transform_file import TransformField, apply_field

SHAPE = (160, 192, 224)


def make_pair(folder: Path) -> tuple[Path, Path]:
    """Write a moving and a fixed image."""
    template = load_mni152_template(resolution=1)
    grid = Volume(voxels=np.zeros(SHAPE, np.float32), affine=template.affine.copy()).grid
    source = Volume(voxels=template.get_fdata(dtype=np.float32), affine=template.affine)
    places = np.indices(SHAPE) / 25.0
    waves = [4 * np.sin(places[(axis + 1) % 3]) for axis in range(3)]
    paths = []
    for name, vectors in (("fixed", np.zeros((*SHAPE, 3))), ("moving", np.stack(waves, axis=-1))):
        field = TransformField(displacement_mm=vectors.astype(np.float32), affine=grid.affine)
        paths.append(folder / f"{name}.nii.gz")
        warped = apply_field(source, field)
        write_volume(paths[-1], warped.voxels, warped.affine)
    return paths[1], paths[0]


def main(network: str, *, is_half: bool) -> None:
    """Run the command in a process of its own and show its report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        moving, fixed = make_pair(folder)
        script = "from registration.cli import main; main()"
        command = [sys.executable, "-c", script, "apply", str(moving), str(fixed)]
        command += ["-o", str(folder / "w.nii.gz")]
        if network != "none":
            settings = RegistrationSettings(network=network, is_half_resolution=is_half)
            info = ModelInfo(settings=settings, spacing_mm=(1.0, 1.0, 1.0))
            save_model(folder / "model.safetensors", build_network(settings), info)
            command += ["--model", str(folder / "model.safetensors")]
        command += ["--displacement", str(folder / "field.nii.gz"), "--device", "cpu"]
        mode = ", half resolution" if is_half else ""
        print(f"{network}{mode}, {torch.get_num_threads()} thread(s)", flush=True)
        subprocess.run(command, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="transmorph_t", help="or none: no model")
    parser.add_argument("--half", action="store_true", help="the field at half resolution")
    chosen = parser.parse_args()
    main(chosen.network, is_half=chosen.half)
