"""A folder of small files of every kind that a command may meet: good ones and spoilt ones."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from classification.model_file import Description
from classification.model_file import build_network as build_classifier
from classification.model_file import save_model as save_classifier
from classification.settings import PreprocessSettings, TrainSettings
from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.evaluation import Result, append_results
from nnunet_triad.weights.file import WeightsInfo, save_weights
from registration.model_file import ModelInfo, build_network, save_model
from registration.settings import RegistrationSettings
from registration.transform_file import TransformField, write_field
from tests.pretraining.conftest import write_embeddings, write_store
from tests.registration.heads import head, save

SHAPE = (12, 10, 9)
FOLDERS = ("empty", "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "data", "weights")


def write_decoys(folder: Path) -> list[str]:
    """Fill a new folder; return the relative paths of its files and folders."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    _write_images(folder)
    _write_tables(folder)
    _write_models(folder)
    write_store(folder / "store", num_volumes=2)
    write_embeddings(folder / "store")
    spoil(folder)
    shown = (path.relative_to(folder) for path in sorted(folder.rglob("*")))
    return [path.as_posix() for path in shown if len(path.parts) <= 2]


def _write_images(folder: Path) -> None:
    for number, name in enumerate(("a", "b")):
        image, labels = head(shape=SHAPE, spacing=(14.0, 15.0, 16.0), seed=number)
        save(folder / "images" / f"{name}.nii.gz", image)
        save(folder / "images" / f"{name}_seg.nii.gz", labels)
    field = TransformField(displacement_mm=np.zeros((*SHAPE, 3)), affine=image.affine)
    write_field(folder / "field.nii.gz", field)
    figure = Figure(figsize=(1, 1))
    figure.subplots()
    figure.savefig(folder / "picture.png", dpi=20)


def _write_tables(folder: Path) -> None:
    images = [f"images/{name}.nii.gz" for name in "ab"]
    splits = ("train", "val", "test")
    rows = []
    for number, split in enumerate(splits):
        for path, label in zip(images, "ab", strict=True):
            rows.append((f"images/{label}{number}.nii.gz", label, split))
            shutil.copy(folder / path, folder / rows[-1][0])
    write_csv(folder / "classes.csv", ("image", "label", "split"), rows)
    labels = [path.replace(".nii", "_seg.nii") for path in images]
    columns = ("moving", "fixed", "moving_labels", "fixed_labels", "split")
    write_csv(folder / "pairs.csv", columns, [(*images, *labels, split) for split in splits])
    columns = ("task", "dataset", "architecture", "initialization")
    write_csv(folder / "runs.csv", columns, [("segmentation", "BraTS21", "unet", "scratch")])
    write_csv(folder / "points.csv", ("x", "y", "z"), [(0, 1, 2)])
    write_csv(folder / "patients.csv", ("case", "patient"), [("a", "p"), ("b", "q")])
    results = [
        Result(
            task="registration",
            dataset="IXI",
            architecture="transmorph_t",
            initialization=initialization,
            fold=0,
            case=case,
            label="1",
            metric="dice",
            value=value,
        )
        for initialization, value in (("scratch", 0.5), ("triad", 0.75))
        for case in "abc"
    ]
    append_results(folder / "results.csv", results)
    content = {"training": [{"image": "a.nii.gz"}], "validation": [{"image": "b.nii.gz"}]}
    (folder / "list.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "set.json").write_text('{"structures": {"one": [1, 2]}}', encoding="utf-8")


def _write_models(folder: Path) -> None:
    encoder = build_encoder(encoder_spec("swin_t"))
    save_weights(
        folder / "weights" / "triad_swin_t.safetensors",
        encoder,
        WeightsInfo(spec=encoder_spec("swin_t")),
    )
    torch.save({"state_dict": encoder.state_dict()}, folder / "weights" / "foreign.pt")
    settings = RegistrationSettings(network="transmorph_t")
    info = ModelInfo(settings=settings, spacing_mm=(14.0, 15.0, 16.0))
    save_model(folder / "register" / "model.safetensors", build_network(settings), info)
    chosen = TrainSettings(encoder="swin_t", preprocess=PreprocessSettings(size=32))
    about = Description(classes=("a", "b"), num_channels=1, initialization="scratch")
    network = build_classifier(chosen, about)
    save_classifier(folder / "classify" / "model.pt", network, chosen, about, epoch=1)


def spoil(folder: Path) -> None:
    """Add files that are not what they seem."""
    content = (folder / "images" / "a.nii.gz").read_bytes()
    (folder / "images" / "torn.nii.gz").write_bytes(content[: len(content) // 2])
    (folder / "empty.nii").touch()
    (folder / "binary.csv").write_bytes(bytes(range(256)))
    (folder / "text.txt").write_text("n\u00e9 \u4e2d\n\n,\n", encoding="utf-8")
    (folder / "no.json").write_text("[1, {", encoding="utf-8")
    (folder / "scalar.json").write_text("3", encoding="utf-8")
    (folder / "torn.safetensors").write_bytes(b"\xff" * 40)
    (folder / "torn.pth").write_bytes(b"PK\x03\x04" + b"\0" * 50)
    (folder / "code.pt").write_bytes(b"\x80\x04cos\nsystem\n.")
    (folder / "a b \u00fc.csv").write_text("image;label\n", encoding="utf-8")
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere.nii.gz").symlink_to("missing")


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


class Workplace:
    """A folder of decoys that is mended after each command that changed it."""

    def __init__(self, root: Path) -> None:
        """Write the decoys."""
        self.pristine = root / "pristine"
        self.folder = root / "work"
        self.paths = write_decoys(self.pristine)
        shutil.copytree(self.pristine, self.folder, symlinks=True)
        self._seen = self._state()

    def mend(self) -> None:
        """Undo what a command wrote."""
        if self._state() != self._seen:
            shutil.rmtree(self.folder)
            shutil.copytree(self.pristine, self.folder, symlinks=True)
            self._seen = self._state()

    def _state(self) -> set[tuple[str, int, int]]:
        found = ((str(path), path.lstat()) for path in self.folder.rglob("*"))
        return {(name, about.st_mtime_ns, about.st_size) for name, about in found}
