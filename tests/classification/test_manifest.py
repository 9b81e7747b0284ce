"""Manifests as users write them: encodings, separators, channels, and each mistake by its name."""

import numpy as np
import pytest

from classification.manifest import (
    Columns,
    manifest_of,
    read_manifest,
    read_samples,
    write_split,
)
from nnunet_triad.errors import UserError
from tests.classification.volumes import write_nifti, write_rows

SPLITS = ("train", "train", "val", "test")


@pytest.fixture
def folder(tmp_path):
    """Eight small images, a0..a3 and b0..b3."""
    for name in "ab":
        for number in range(4):
            write_nifti(tmp_path / f"{name}{number}.nii.gz", np.ones((4, 5, 6), np.float32))
    return tmp_path


def rows_of(change=None):
    rows = [
        [f"{name}{number}.nii.gz", name.upper(), split, f"s{name}{number}"]
        for name in "ab"
        for number, split in enumerate(SPLITS)
    ]
    if change:
        change(rows)
    return [tuple(row) for row in rows]


def read(folder, change=None, **options):
    return read_manifest(write_rows(folder / "m.csv", rows_of(change)), **options)


def test_manifest_keeps_labels_splits_and_subjects(folder):
    manifest = read(folder)
    assert manifest.classes == ("A", "B")
    assert manifest.labels.tolist() == [0] * 4 + [1] * 4
    assert manifest.splits.tolist() == list(SPLITS) * 2
    assert manifest.subjects[5] == "sb1"
    assert manifest.images[6] == (folder / "b2.nii.gz",)
    assert [len(manifest.rows(split)) for split in ("train", "val", "test")] == [4, 2, 2]


def test_the_mark_of_utf_16_before_other_bytes_is_refused(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"\xfe\xffimage,label,split\r\n")  # an odd number
    with pytest.raises(
        UserError, match=r"expected a manifest .*, got the mark of UTF-16 before other"
    ):
        read_manifest(tmp_path / "manifest.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_manifest_reads_excels_encodings_and_separators(folder, encoding, separator):
    path = write_rows(folder / "m.csv", rows_of(lambda rows: rows[4].__setitem__(3, "Müller")))
    text = path.read_text().replace(",", separator).replace("A", "Ödem")
    path.write_bytes(text.encode(encoding))
    manifest = read_manifest(path)
    assert manifest.classes == ("B", "Ödem")
    assert "Müller" in manifest.subjects


def test_numbered_labels_sort_as_numbers_and_take_names(folder):
    header = "image,label,label_name,split"
    names = {"A": ("10", "late"), "B": ("9", "early")}
    rows = [(image, *names[label], split) for image, label, split, _ in rows_of()]
    assert read_manifest(write_rows(folder / "m.csv", rows, header)).classes == ("early", "late")


def test_classes_keep_the_order_that_is_asked_for(folder):
    manifest = read(folder, classes=["B", "A"])
    assert manifest.classes == ("B", "A")
    assert manifest.labels[0] == 1


def test_channels_are_paths_joined_by_a_bar(folder):
    rows = [
        (f"a{n}.nii.gz|b{n}.nii.gz", label, split)
        for n, (label, split) in enumerate([("x", "train"), ("y", "train"), ("x", "val")])
    ]
    rows.append(("a3.nii.gz|b3.nii.gz", "x", "test"))
    manifest = read_manifest(write_rows(folder / "m.csv", rows, "image,label,split"))
    assert manifest.num_channels == 2
    assert manifest.images[1] == (folder / "a1.nii.gz", folder / "b1.nii.gz")


def test_centers_make_many_samples_of_one_image(folder):
    header = "image,label,split,subject,x_mm,y_mm,z_mm,extent_mm"
    rows = [(*row, number, 2.5, -1, 8) for row in rows_of() for number in range(2)]
    manifest = read_manifest(write_rows(folder / "m.csv", rows, header))
    assert (len(manifest), len(manifest.images), manifest.extent_mm) == (16, 8, 8.0)
    assert manifest.centers_mm[3].tolist() == [1, 2.5, -1]
    assert len(set(manifest.cases)) == 16


def put(row, column, value):
    return lambda rows: rows[row].__setitem__(column, value)


def drop(count):
    return lambda rows: rows.__delitem__(slice(count, None))


MISTAKES = {
    "label only in test": (put(3, 1, "C"), "expected each label in train, got C only in test"),
    "one class": (lambda rows: [r.__setitem__(1, "A") for r in rows], "two classes or more"),
    "missing file": (put(2, 0, "gone.nii.gz"), "got 1 that are missing, first .*gone.nii.gz"),
    "shared subject": (put(3, 3, "sa0"), "got sa0 in train and test"),
    "no validation": (
        lambda rows: [r.__setitem__(2, "test") for r in rows if r[2] == "val"],
        "got none of val",
    ),
    "unknown split": (put(0, 2, "holdout"), "train, val or test .* got 'holdout'"),
    "no label": (put(1, 1, ""), "expected a label in each row, got none in line 3"),
    "no subject": (put(2, 3, ""), "expected a subject in each row, got none in line 4"),
    "empty": (drop(0), "at least one image, got only a header"),
    "twice": (put(1, 0, "a0.nii.gz"), "expected each image once"),
    "channels": (put(1, 0, "a1.nii.gz|a2.nii.gz"), r"same number of channels .* got \[1, 2\]"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_by_name(folder, mistake):
    change, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message):
        read(folder, change)


def test_shared_subjects_are_allowed_when_asked(folder):
    assert len(read(folder, put(3, 3, "sa0"), allow_shared_subjects=True)) == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"\x00\x01PK\x00", "got a binary file"),
        (b"path;class\na;b\n", "add image, label, or name them by --image-column, --label-column"),
    ],
)
def test_files_that_are_no_manifest_are_refused(tmp_path, content, message):
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_labels_beyond_the_models_classes_are_refused(folder):
    path = write_rows(folder / "m.csv", rows_of(put(3, 1, "C")))
    rule = r"labels of A, B \(2 classes\), got C besides"
    with pytest.raises(UserError, match=f"{rule}; the model has no output for it"):
        read_samples(path, ("A", "B"))
    with pytest.raises(UserError, match=f"{rule}; see --classes"):
        read_manifest(path, classes=["A", "B"])


def test_images_alone_become_samples_without_labels(folder):
    manifest = manifest_of([folder / "a0.nii.gz", folder / "b1.nii.gz"], ("A", "B"))
    assert manifest.labels.tolist() == [-1, -1]
    with pytest.raises(UserError, match=r"^INPUTS: .* got 1 that are missing, first .*nothing.nii"):
        manifest_of([folder / "nothing.nii.gz"], ("A", "B"))


def one_s_own_table(folder, *, num_subjects=20, visits=2):
    """Columns of a user's own, no splits, two images a subject, a third of them of class B."""
    write_nifti(folder / "template.nii.gz", np.ones((4, 5, 6), np.float32))
    rows = []
    for number in range(num_subjects * visits):
        image = folder / f"scan{number}.nii.gz"
        image.hardlink_to(folder / "template.nii.gz")
        subject = number // visits
        rows.append((image.name, "AB"[subject % 3 == 0], f"p{subject}", "x"))
    return write_rows(folder / "own.csv", rows, "scan,diagnosis,patient,image")


OWN = Columns(image="scan", label="diagnosis", subject="patient")


def test_columns_of_one_s_own_and_no_splits_are_divided_by_subject_class_by_class(tmp_path):
    path = one_s_own_table(tmp_path)
    manifest = read_manifest(path, columns=OWN)
    assert manifest.images[0] == (tmp_path / "scan0.nii.gz",)
    split_of = dict(zip(manifest.subjects, manifest.splits, strict=True))
    assert all(
        split_of[subject] == split
        for subject, split in zip(manifest.subjects, manifest.splits, strict=True)
    )
    shares = [
        manifest.counts(manifest.rows(s)) / manifest.counts(np.arange(40))
        for s in ("train", "val", "test")
    ]
    for found, wanted in zip(shares, (0.7, 0.15, 0.15), strict=True):
        np.testing.assert_allclose(found, wanted, atol=0.5 / 7 + 1e-9)  # seven subjects of B
    assert read_manifest(path, columns=OWN).splits.tolist() == manifest.splits.tolist()


def test_written_split_is_a_manifest_with_the_same_samples(tmp_path):
    manifest = read_manifest(one_s_own_table(tmp_path), columns=OWN)
    (tmp_path / "elsewhere").mkdir()
    write_split(tmp_path / "elsewhere" / "split.csv", manifest)
    again = read_manifest(tmp_path / "elsewhere" / "split.csv")
    assert not again.is_divided_here
    for name in ("splits", "subjects", "labels", "image_of"):
        assert getattr(again, name).tolist() == getattr(manifest, name).tolist()
    assert again.classes == manifest.classes


def test_written_split_keeps_names_that_a_spreadsheet_would_compute(folder):
    def rename(rows):
        for row in rows:
            row[1], row[3] = f"@{row[1]}", f"-{row[3]}"

    manifest = read(folder, rename)
    write_split(folder / "split.csv", manifest)
    again = read_manifest(folder / "split.csv")
    assert again.classes == manifest.classes == ("@A", "@B")
    assert again.subjects.tolist() == manifest.subjects.tolist()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(image="file"), "--image-column: expected one of scan, diagnosis, patient, image"),
        (Columns(image="scan", label="scan"), "got one for two of them"),
    ],
)
def test_columns_that_are_not_there_are_refused(tmp_path, columns, message):
    with pytest.raises(UserError, match=message):
        read_manifest(one_s_own_table(tmp_path), columns=columns)


def test_too_few_subjects_of_a_class_to_divide_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"at least 3 subjects of each class, .* got 2 of A"):
        read_manifest(one_s_own_table(tmp_path, num_subjects=3), columns=OWN)
