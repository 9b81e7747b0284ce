"""Runs NPPY on images, inside the environment that has it: `python nppy_worker.py < jobs.json`.

Source: He et al., Neural Pre-processing, MICCAI 2023; package nppy 0.2.1. Imports nothing of this
project. The image is scaled to 0 .. 1, conformed to 256 voxels of 1 mm in LIA orientation, and the
network returns the intensity-normalised, skull-stripped brain in MNI space and in its own; the
first is written, as the paper trains on brains "in standard coordinate space".
"""

import json
import os
import sys

SMOOTHNESS = -1.0  # NPPY's default
_SHAPE = (256, 256, 256)


def main() -> None:
    """Process the jobs of standard input."""
    import nibabel as nib
    import numpy as np
    import torch
    from nibabel.processing import conform
    from nppy.models.model import UNet

    content = json.load(sys.stdin)
    network = UNet().eval()
    network.load_state_dict(torch.load(content["weights"], map_location="cpu", weights_only=True))
    mni_affine = np.array([[-1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    for source, target in content["jobs"]:
        image = nib.Nifti1Image.from_filename(source)
        values = np.asarray(image.dataobj, dtype=np.float32)
        low, high = values.min(), np.quantile(values, 0.999)
        scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
        conformed = conform(
            nib.Nifti1Image(scaled, image.affine),
            _SHAPE,
            (1.0, 1.0, 1.0),
            order=0,
            orientation="LIA",
        )
        tensor = torch.from_numpy(np.asarray(conformed.dataobj, dtype=np.float32))[None, None]
        with torch.no_grad():
            in_mni = network(tensor, SMOOTHNESS)[0]
        result = np.squeeze(in_mni.numpy()).astype(np.int16)
        temporary = target.removesuffix(".nii.gz") + ".part.nii.gz"
        nib.save(nib.Nifti1Image(result, mni_affine), temporary)
        os.replace(temporary, target)  # noqa: PTH105  # whole or not there


if __name__ == "__main__":
    main()
