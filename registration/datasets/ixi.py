"""IXI as TransMorph publishes it: IXI_data/{Train,Val,Test}/subject_N.pkl and atlas.pkl.

The atlas moves and each subject is fixed, as in TransMorph's training and evaluation.
"""

from collections.abc import Callable
from pathlib import Path

from nnunet_triad.errors import UserError
from registration.datasets.convert import convert_pickle, nifti_files
from registration.manifest import Pair

SPLITS = {"Train": "train", "Val": "val", "Test": "test"}  # 403, 58 and 115 subjects


def prepare_ixi(source: Path, output: Path, progress: Callable[[str], None]) -> list[Pair]:
    """Convert the pickles to NIfTI and list the pairs.

    Args:
        source: the folder IXI_data, or the one that holds it.
        output: receives images/ and labels/; files that are there already are kept.
        progress: called with each subject's name.

    Raises:
        UserError: the layout is another, or a pickle is refused.
    """
    folder = source / "IXI_data" if (source / "IXI_data").is_dir() else source
    atlas = folder / "atlas.pkl"
    if not atlas.is_file():
        raise UserError(
            f"{source}: expected TransMorph's IXI_data with atlas.pkl, Train, Val and Test, "
            "got no atlas.pkl"
        )
    moving, moving_labels = _convert(atlas, output)
    pairs = []
    for name, split in SPLITS.items():
        for file in sorted((folder / name).glob("*.pkl"), key=_number):
            progress(file.stem)
            fixed, fixed_labels = _convert(file, output)
            pairs.append(
                Pair(
                    moving=moving,
                    fixed=fixed,
                    moving_labels=moving_labels,
                    fixed_labels=fixed_labels,
                    split=split,
                )
            )
    return pairs


def _convert(file: Path, output: Path) -> tuple[Path, Path]:
    target = nifti_files(output, file.stem)
    convert_pickle(file, (target,))
    return target


def _number(file: Path) -> tuple[int, str]:
    digits = "".join(letter for letter in file.stem if letter.isdigit())
    return int(digits or 0), file.stem
