"""The phantoms of the studies, made by the commands that a user could type; what is there stays."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nnunet_triad.files import write_atomically, write_json
from nnunet_triad.images import Nan, read_labels, read_volume
from nnunet_triad.phantom.writers.nnunet_raw import NAMES, PHANTOM_ID
from nnunet_triad.steps import environment
from studies.aligned import write_aligned
from studies.command import run
from studies.design import REAL, Data, Images
from studies.real import (
    make_real_classes,
    make_real_dataset,
    make_real_pairs,
    make_real_store,
)

# The parts of a lesion are a few voxels each at 3 mm: they count as one label.
LABELS = ("CSF", "grey_matter", "white_matter", "lesion")
_FINISHED = ".finished"
_TEMPLATE = "phantom_000"
DATASET = NAMES[PHANTOM_ID]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A labelled volume: image (x, y, z) float32, z-scored; labels (x, y, z) int64."""

    name: str
    image: Tensor
    labels: Tensor


@contextmanager
def _making(folder: Path) -> Iterator[bool]:
    """Say whether a folder is still to be made; afterwards it is marked as finished."""
    is_missing = not (folder / _FINISHED).exists()
    yield is_missing
    if is_missing:
        write_json(folder / _FINISHED, {})


def make_store(
    folder: Path, images: Images, *, model: Path, hippocampi: Path | None = None
) -> Path:
    """Simulate, curate and embed the images of a pre-training; return the store."""
    store, source = folder / "stores" / images.name, folder / "images" / images.name
    with _making(store) as is_missing:
        if is_missing and images.is_real:
            assert hippocampi is not None
            make_real_store(source, store, hippocampi)
            return store
        if is_missing and images.has_shuffled_texts:
            plain = make_store(folder, replace(images, has_shuffled_texts=False), model=model)
            _copy_with_shuffled_texts(plain, store)
        elif is_missing:
            x, y, z = images.shape
            run(
                *("triad-phantom", "bids", source, "--subjects", images.subjects),
                *("--seed", images.seed, "--spacing-mm", images.spacing_mm),
                *("--anatomy", images.anatomy, *_contrasts(images)),
            )
            run(
                *("triad-curate", source, store, "--shape", f"{x},{y},{z}", "--workers", 1),
                *("--spacing-mm", images.spacing_mm, *images.curation),
            )
            if not images.is_randomised:  # of which nothing is to be told
                run("triad-embed", store, "--model", model)
    return store


def _contrasts(images: Images) -> tuple[str, ...]:
    return ("--randomised",) if images.is_randomised else ("--sequences", images.sequences)


def _copy_with_shuffled_texts(original: Path, store: Path) -> None:
    """Copy a store and give each description another one's vector."""
    from pretraining.text_embeddings import EmbeddingTable

    shutil.copytree(original, store, dirs_exist_ok=True, ignore=shutil.ignore_patterns(_FINISHED))
    table = EmbeddingTable.open(original)
    order = np.random.default_rng(0).permutation(len(table))
    replace(table, vectors=table.vectors[order]).save(store)


def make_data(folder: Path, name: str, data: Data, hippocampi: Path | None = None) -> Path:
    """Simulate the subjects of a task; return nnU-Net's dataset folder, or the manifest."""
    if data.is_real:
        assert hippocampi is not None
        return _make_real(folder / "data", name, data, hippocampi)
    make = {
        "segmentation": _make_labelled,
        "classification": _make_classes,
        "registration": _make_pairs,
    }[data.task]
    root = folder / "data" / name
    with _making(root) as is_missing:
        return make(root, data, is_missing=is_missing)


def _make_real(folder: Path, name: str, data: Data, hippocampi: Path) -> Path:
    """Return the folders of both halves, which are one, or a manifest."""
    make: Callable[[Path, Path], None]
    make, manifest = {
        "segmentation": (make_real_dataset, ""),
        "classification": (make_real_classes, "parts.csv"),
        "registration": (make_real_pairs, "manifest.csv"),
    }[data.task]
    root = folder / (name if manifest else REAL)
    with _making(root) as is_missing:
        if is_missing:
            make(root, hippocampi)
    return root / manifest


def _population(data: Data, subjects: int) -> tuple[object, ...]:
    return "--subjects", subjects, "--seed", data.seed, "--spacing-mm", data.spacing_mm


def _make_labelled(root: Path, data: Data, *, is_missing: bool) -> Path:
    if data.slice_mm is not None:
        return _make_preprocessed(root, data, data.slice_mm, is_missing=is_missing)
    if is_missing:
        run(
            *("triad-phantom", "nnunet", root, "--dataset", 500, "--sequences", "T1w"),
            *("--test-subjects", data.test_subjects, *_population(data, data.subjects + 1)),
        )
    return root / DATASET


def _make_preprocessed(root: Path, data: Data, slice_mm: float, *, is_missing: bool) -> Path:
    """Let nnU-Net plan and preprocess all subjects but the template, which is not like them."""
    if is_missing:
        variables = environment(root)
        raw = Path(variables["nnUNet_raw"])
        run(
            *("triad-phantom", "nnunet", raw, "--dataset", 500, "--sequences", "T1w"),
            *("--slice-mm", slice_mm, *_population(data, data.subjects + data.test_subjects + 1)),
        )
        for file in (raw / DATASET).glob(f"*Tr/{_TEMPLATE}*"):
            file.unlink()
        run(
            *("nnUNetv2_plan_and_preprocess", "-d", 500, "-c", "3d_fullres"),
            *("-npfp", 1, "-np", 1),
            variables=variables,
        )
    return root


def _make_classes(root: Path, data: Data, *, is_missing: bool) -> Path:
    """Write a manifest whose parts are not the phantom's own."""
    manifest = root / "parts.csv"
    if is_missing:
        run(
            *("triad-phantom", "classification", root, "--task", data.kind),
            *_population(data, data.subjects),
        )
        table = split_classes(pd.read_csv(root / "manifest.csv"), data)
        with write_atomically(manifest) as temporary:
            table.to_csv(temporary, index=False)
    return manifest


def split_classes(table: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Return a manifest whose classes are balanced in each part, or as rare as `counts` says."""
    if data.counts is None:
        train, val = data.parts
        place = np.arange(len(table))  # the classes come in turn, so each part is balanced
        parts = np.select([place < train, place < train + val], ["train", "val"], "test")
        return table.assign(split=parts)
    kept = []
    for label, counts in data.counts.items():
        rows = table[table.label == label].iloc[: sum(counts)]
        kept.append(rows.assign(split=np.repeat(["train", "val", "test"], counts)))
    return pd.concat(kept)


def _make_pairs(root: Path, data: Data, *, is_missing: bool) -> Path:
    raw = root / "raw" if data.is_own_alignment else root
    if is_missing:
        aligned = () if data.is_own_alignment else ("--aligned",)
        run("triad-phantom", "registration", raw, *aligned, *_population(data, data.subjects))
        if data.is_own_alignment:
            write_aligned(raw / "manifest.csv", root)
    return root / "manifest.csv"


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
