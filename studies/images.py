"""The phantoms of the experiment, made by the commands that a user could type."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_json
from nnunet_triad.images import Nan, read_labels, read_volume
from studies.design import Images, Scale

# The parts of a lesion are a few voxels each at 3 mm: they count as one label.
LABELS = ("CSF", "grey_matter", "white_matter", "lesion")
_SEQUENCE = "T1w"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A labelled volume: image (x, y, z) float32, z-scored; labels (x, y, z) int64."""

    name: str
    image: Tensor
    labels: Tensor


def make_store(folder: Path, images: Images, scale: Scale, *, model: Path) -> Path:
    """Simulate, curate and embed the images of a pre-training; what is there stays."""
    store = folder / "stores" / images.name
    if (store / ".finished").exists():
        return store
    if images.has_shuffled_texts:
        _copy_with_shuffled_texts(folder, images, scale, store, model=model)
    else:
        subjects = max(3, round(scale.pretraining_subjects * images.share_of_subjects))
        source = folder / "images" / images.name
        x, y, z = scale.store_shape
        run(
            *("triad-phantom", "bids", source, "--subjects", subjects),
            *("--seed", scale.pretraining_seed, "--spacing-mm", scale.spacing_mm),
            *("--anatomy", images.anatomy, *_sequences(images)),
        )
        run(
            *("triad-curate", source, store, "--shape", f"{x},{y},{z}", "--workers", 1),
            *("--spacing-mm", scale.spacing_mm, "--max-spacing-mm", "inf"),
        )
        run("triad-embed", store, "--model", model)
    write_json(store / ".finished", {})
    return store


def _sequences(images: Images) -> tuple[str, ...]:
    # The other anatomies have no FLAIR; three sequences at random are what they offer.
    return ("--sequences", images.sequences) if images.anatomy == "brain" else ()


def _copy_with_shuffled_texts(
    folder: Path, images: Images, scale: Scale, store: Path, *, model: Path
) -> None:
    """Copy a store and give each description another one's vector."""
    from pretraining.text_embeddings import EmbeddingTable

    plain = Images(
        sequences=images.sequences,
        anatomy=images.anatomy,
        share_of_subjects=images.share_of_subjects,
    )
    original = make_store(folder, plain, scale, model=model)
    shutil.copytree(original, store, dirs_exist_ok=True)
    table = EmbeddingTable.open(original)
    order = np.random.default_rng(0).permutation(len(table))
    EmbeddingTable(
        model_name=table.model_name,
        revision=table.revision,
        descriptions=table.descriptions,
        vectors=table.vectors[order],
    ).save(store)


def make_labelled(folder: Path, scale: Scale, *, is_confirmation: bool = False) -> Path:
    """Simulate the labelled subjects; what is there stays."""
    raw = folder / ("labelled_confirmation" if is_confirmation else "labelled")
    seed = scale.confirmation_seed if is_confirmation else scale.labelled_seed
    if not (raw / ".finished").exists():
        run(
            *("triad-phantom", "nnunet", raw, "--dataset", 500, "--sequences", _SEQUENCE),
            *("--subjects", scale.labelled_subjects + 1, "--test-subjects", scale.test_subjects),
            *("--seed", seed, "--spacing-mm", scale.spacing_mm),
        )
        write_json(raw / ".finished", {})
    return raw / "Dataset500_Phantom"


def read_cases(dataset: Path, part: str) -> list[Case]:
    """Read the labelled subjects ("Tr") but the template, or the test subjects ("Ts")."""
    files = sorted((dataset / f"labels{part}").glob("*.nii.gz"))
    return [_read_case(file, part) for file in (files[1:] if part == "Tr" else files)]


def _read_case(file: Path, part: str) -> Case:
    name = file.name.removesuffix(".nii.gz")
    image_file = file.parents[1] / f"images{part}" / f"{name}_0000.nii.gz"
    image = read_volume(image_file, nan=Nan.REFUSE).voxels
    labels = np.minimum(read_labels(file).voxels, len(LABELS)).astype(np.int64)
    image = (image - image.mean()) / max(float(image.std()), 1e-8)
    return Case(name=name, image=torch.from_numpy(image), labels=torch.from_numpy(labels))


def run(*command: object) -> None:
    """Run one of this project's commands quietly.

    Raises:
        UserError: it fails; its last line is quoted.
    """
    words = [str(word) for word in command]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which(words[0], path=path) or words[0]
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UserError(
            f"{' '.join(words)}: expected exit code 0, got {done.returncode}: {lines[-1]}"
        )
