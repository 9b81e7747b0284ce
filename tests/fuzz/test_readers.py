"""Whatever is in a file: it is read, or refused with a message of one line.

Each reader gets random bytes, and a good file of its own with bytes changed, cut or repeated;
those of tables and JSON get tables and JSON of any content, too. TRIAD_FUZZ_TRIES as in
test_commands.
"""

import csv
import io
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classification.datasets.adni import read_collection, read_split_ids
from classification.datasets.lld_mmri import read_annotation
from classification.manifest import read_manifest as read_classes
from classification.model_file import load_model as load_classifier
from classification.predict import read_predictions
from classification.preprocess import read_image as read_classified
from nnunet_triad.benchmark.runs import read_runs
from nnunet_triad.datasets.published import read_nifti as read_segmented
from nnunet_triad.datasets.records import read_cases
from nnunet_triad.datasets.split_files import read_list, read_patients
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import read_results
from nnunet_triad.weights.locate import load_weights
from pretraining.curation.dicom_scan import scan_file
from pretraining.curation.nifti_fields import NiftiFacts, fields_from_nifti
from pretraining.curation.nifti_source import _json_files, read_metadata, read_time_point
from pretraining.curation.series import RejectedSeriesError
from pretraining.descriptions import describe
from pretraining.store import VolumeStore, read_rejected
from pretraining.text_embeddings import EmbeddingTable
from pretraining.volume_table import read_volume_table
from registration.apply_command import read_points
from registration.datasets.acdc import read_info
from registration.datasets.array_pickle import read_array_pickle
from registration.label_sets import load_label_set
from registration.manifest import read_manifest as read_pairs
from registration.model_file import load_model
from registration.pairs import read_image, read_labels
from registration.transform_file import read_field
from tests.fuzz.decoys import write_decoys

TRIES = int(os.environ.get("TRIAD_FUZZ_TRIES", "30"))
ANY = settings(
    max_examples=TRIES,
    deadline=None,
    derandomize=TRIES < 1000,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A function that reads a file, and a good file that is spoilt for it."""

    read: Callable[[Path], Any]
    good: str  # path below the decoys
    name: str = ""  # path to write to below the same folder; default: that of `good`
    kind: str = "binary"  # or table, json


def _read_pairs_of_arrays(path: Path) -> Any:
    return read_array_pickle(path, num_arrays=2)


def _read_store(path: Path) -> Any:
    return read_volume_table(VolumeStore.open(path.parent))


def _read_crop(path: Path) -> Any:
    store = VolumeStore.open(path.parents[4])
    return store.read_crop(0, (0, 0, 0), (8, 8, 8))


def _read_sidecar(path: Path) -> Any:
    _json_files.cache_clear()
    metadata = read_metadata(path.with_suffix(".nii"), path.parent)
    return describe(fields_from_nifti(NiftiFacts(stem="a", metadata=metadata))[0])


VOLUME = "store/volumes/DATASET/sub-0/ses-1/anat.b2nd"
READERS = {
    "image of classification": Reader(read=read_classified, good="images/a.nii.gz"),
    "uncompressed image": Reader(read=read_classified, good="plain.nii"),
    "MetaImage": Reader(read=read_classified, good="plain.mha"),
    "image of registration": Reader(read=read_image, good="images/a.nii.gz"),
    "uncompressed image of registration": Reader(read=read_image, good="plain.nii"),
    "labels": Reader(read=read_labels, good="images/a_seg.nii.gz"),
    "field": Reader(read=read_field, good="field.nii.gz"),
    "image of segmentation": Reader(read=read_segmented, good="images/a.nii.gz"),
    "image of curation": Reader(read=read_time_point, good="images/a.nii.gz"),
    "uncompressed image of curation": Reader(read=read_time_point, good="plain.nii"),
    "DICOM": Reader(read=lambda path: scan_file(path, salt=""), good="slice.dcm"),
    "weights": Reader(read=load_weights, good="small.safetensors"),
    "checkpoint": Reader(read=load_weights, good="small.pt"),
    "model of registration": Reader(read=load_model, good="small.safetensors"),
    "model of classification": Reader(read=load_classifier, good="small.pt"),
    "pickle": Reader(read=_read_pairs_of_arrays, good="pair.pkl"),
    "embeddings": Reader(
        read=lambda path: EmbeddingTable.open(path.parent), good="store/embeddings.safetensors"
    ),
    "volume": Reader(read=_read_crop, good=VOLUME),
    "index": Reader(read=_read_store, good="store/index.csv", kind="table"),
    "settings of a store": Reader(read=_read_store, good="store/store.json", kind="json"),
    "sidecar": Reader(
        read=lambda path: VolumeStore.open(path.parents[4]).rebuild_index(),
        good=VOLUME.replace(".b2nd", ".json"),
        kind="json",
    ),
    "rejected": Reader(
        read=lambda path: read_rejected(path.parent), good="store/rejected.csv", kind="table"
    ),
    "BIDS sidecar": Reader(read=_read_sidecar, good="bids.json", kind="json"),
    "manifest of classes": Reader(read=read_classes, good="classes.csv", kind="table"),
    "manifest of pairs": Reader(read=read_pairs, good="pairs.csv", kind="table"),
    "results": Reader(read=read_results, good="results.csv", kind="table"),
    "runs": Reader(read=read_runs, good="runs.csv", kind="table"),
    "cases": Reader(read=read_cases, good="cases.csv", kind="table"),
    "patients": Reader(read=read_patients, good="patients.csv", kind="table"),
    "points": Reader(read=read_points, good="points.csv", kind="table"),
    "predictions": Reader(read=read_predictions, good="predictions.csv", kind="table"),
    "collection of ADNI": Reader(read=read_collection, good="collection.csv", kind="table"),
    "splits of ADNI": Reader(read=read_split_ids, good="split_ids.csv", kind="table"),
    "list of splits, table": Reader(read=read_list, good="list.csv", kind="table"),
    "list of splits": Reader(read=read_list, good="list.json", kind="json"),
    "label set": Reader(read=lambda path: load_label_set(str(path)), good="set.json", kind="json"),
    "annotation": Reader(
        read=lambda path: read_annotation(path.parents[1]),
        good="labels/Annotation.json",
        kind="json",
    ),
    "Info.cfg": Reader(read=read_info, good="Info.cfg"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("readers") / "work"
    write_decoys(root)
    _write_more(root)
    return root


def _write_more(root: Path) -> None:
    """Add the good files that only a reader wants; models without tensors, which would be large."""
    import nibabel as nib
    import torch
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
    from safetensors.torch import save_file

    from nnunet_triad.architectures import encoder_spec
    from nnunet_triad.weights.file import WeightsInfo
    from registration.model_file import ModelInfo
    from registration.settings import RegistrationSettings

    image = nib.load(root / "images" / "a.nii.gz")
    nib.save(image, root / "plain.nii")
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(60.0).reshape(3, 4, 5)), root / "plain.mha")
    info = ModelInfo(
        settings=RegistrationSettings(network="transmorph_t"), spacing_mm=(1.0, 1.0, 1.0)
    )
    about = {
        "triad": WeightsInfo(spec=encoder_spec("swin_t")).to_json(),
        "triad_register": info.to_json(),
    }
    save_file({"a": torch.ones(2)}, root / "small.safetensors", metadata=about)
    content = {"format_version": 1, "step": 3, "settings": {}, "description": {}, "model": {}}
    torch.save({**content, "state_dict": {"a": torch.ones(2)}}, root / "small.pt")
    arrays = (np.ones((3, 2, 4), np.float32), np.ones((3, 2, 4), np.int64))
    (root / "pair.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["a"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = Dataset()
    header.file_meta = meta
    header.SeriesInstanceUID = header.StudyInstanceUID = meta.MediaStorageSOPInstanceUID
    header.PatientID, header.Modality = "p", "MR"
    header.save_as(root / "slice.dcm", enforce_file_format=True)
    (root / "labels").mkdir()
    texts = {
        "store/rejected.csv": "series_id,dataset,source,reason\na,b,c,d\n",
        "bids.json": '{"MagneticFieldStrength": 3, "EchoTime": 0.03, "RepetitionTime": 2}',
        "cases.csv": "case,patient,split,is_training,sha256,is_itk,is_copied,sources,version\n"
        "a,a,,1,0,1,0,x,1\n",
        "predictions.csv": "case,subject,split,label,predicted,p_a,p_b\na,s,test,a,b,0.25,0.75\n",
        "collection.csv": "Image Data ID,Subject,Group\nI1,s,CN\n",
        "split_ids.csv": "Image Data ID,split\nI1,train\n",
        "list.csv": "image,split\na.nii.gz,train\nb.nii.gz,val\n",
        "labels/Annotation.json": '{"Annotation_info": {"a": []}}',
        "Info.cfg": "ED: 1\nES: 12\n",
    }
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")


def accept_or_refuse(reader: Reader, path: Path, content: bytes) -> None:
    """Read a file of this content; a refusal is a `UserError` of one line."""
    path.write_bytes(content)
    try:
        reader.read(path)
    except (UserError, RejectedSeriesError) as error:
        assert "Traceback" not in str(error)


EDIT = st.tuples(
    st.sampled_from(["cut", "change", "remove", "repeat"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 40),
    st.binary(min_size=1, max_size=8),
)


def spoilt(content: bytes, edits: list[tuple[str, float, int, bytes]]) -> bytes:
    """Apply edits at shares of the file's length."""
    for kind, share, length, patch in edits:
        start = int(share * len(content))
        before, middle, after = (
            content[:start],
            content[start : start + length],
            content[start + length :],
        )
        content = {
            "cut": before,
            "change": before + patch + content[start + len(patch) :],
            "remove": before + after,
            "repeat": before + middle * 3 + after,
        }[kind]
    return content


KEYS = st.sampled_from(
    [
        *("structures", "groups", "training", "validation", "test", "image", "label", "fold"),
        *("format", "format_version", "shape", "spacing_mm", "series_id", "dataset", "mean"),
        *("Annotation_info", "category", "labels", "modality", "EchoTime", "RepetitionTime"),
        *("MagneticFieldStrength", "Manufacturer", "SequenceName", "one", "a", ""),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([1, 1.5, [64, 64, 64], "a.nii.gz", "3T", "1" * 30]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
CELLS = st.one_of(
    st.sampled_from(
        [
            *("", " ", "0", "1", "-1", "0.5", "nan", "inf", "1e309", "train", "val", "test", "*"),
            *("images/a.nii.gz", "images/b.nii.gz", "images/a.nii.gz|images/b.nii.gz", "torn.pth"),
            *("images/a_seg.nii.gz", "a", "b", "CN", "AD", "I1", "segmentation", "unet", "scratch"),
        ]
    ),
    st.text(max_size=4),
)


@pytest.mark.parametrize("name", READERS)
def test_any_bytes_are_read_or_refused(name: str, folder: Path) -> None:
    reader = READERS[name]
    path = folder / (reader.name or reader.good)
    good = path.read_bytes()

    @ANY
    @given(st.one_of(st.binary(max_size=300), st.lists(EDIT, min_size=1, max_size=4)))
    def attempt(content: Any) -> None:
        made = content if isinstance(content, bytes) else spoilt(good, content)
        accept_or_refuse(reader, path, made)

    try:
        reader.read(path)  # the good file is read, or refused for what it holds
    except UserError as error:
        assert "small." in reader.good, error
    try:
        attempt()
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize(
    "name", [name for name, reader in READERS.items() if reader.kind == "json"]
)
def test_any_json_is_read_or_refused(name: str, folder: Path) -> None:
    reader = READERS[name]
    path = folder / reader.good
    good = path.read_bytes()
    known = json.loads(good)

    @ANY
    @given(JSON, st.sampled_from(sorted(known)), st.booleans())
    def attempt(value: Any, key: str, is_whole: bool) -> None:
        content = value if is_whole else {**known, key: value}
        accept_or_refuse(reader, path, json.dumps(content).encode())

    try:
        attempt()
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize(
    "name", [name for name, reader in READERS.items() if reader.kind == "table"]
)
def test_any_table_is_read_or_refused(name: str, folder: Path) -> None:
    reader = READERS[name]
    path = folder / reader.good
    good = path.read_bytes()
    header = good.decode().split("\n")[0].split(",")
    rows = st.lists(st.lists(CELLS, min_size=1, max_size=len(header) + 1), max_size=4)

    @ANY
    @given(st.permutations(header), rows, st.sampled_from([*[0] * 6, 1, 2]))
    def attempt(columns: list[str], cells: list[list[str]], num_dropped: int) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([columns[num_dropped:], *cells])
        accept_or_refuse(reader, path, text.getvalue().encode("utf-8", "replace"))

    try:
        attempt()
    finally:
        path.write_bytes(good)
