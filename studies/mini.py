"""The encoder that the package brings, made of one of the studies' pre-trainings."""

import sys
from dataclasses import replace
from pathlib import Path

from nnunet_triad.weights.catalogue import find_entry
from nnunet_triad.weights.file import save_tensors
from nnunet_triad.weights.locate import load_weights

NAME = "triad-mini"
_CITATION = (
    "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022), "
    "whose hippocampus images it was trained on"
)


def write_mini(weights: Path) -> Path:
    """Write an encoder as triad-mini: in half precision, with its licence and its data.

    Args:
        weights: that `triad-pretrain` wrote.

    Returns:
        The file in the package; its SHA-256 goes into `weights.origins`.
    """
    entry = find_entry(NAME)
    read = load_weights(weights)
    info = replace(
        read.info, licence=entry.licence, data_summary=entry.file.data, citation=_CITATION
    )
    save_tensors(entry.path, {name: t.half() for name, t in read.tensors.items()}, info)
    return entry.path


if __name__ == "__main__":
    print(write_mini(Path(sys.argv[1])))
