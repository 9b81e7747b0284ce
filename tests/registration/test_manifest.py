import re
from pathlib import Path

import pytest

from nnunet_triad.errors import UserError
from registration.manifest import Pair, read_manifest, write_manifest
from registration.training_data import plan_pair


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "data" / f"{name}.nii.gz" for name in ("a", "b", "la", "lb", "truth")]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(b"")
    return paths


def test_written_manifest_comes_back_with_paths_relative_to_it(tmp_path, files):
    a, b, la, lb, truth = files
    pairs = [
        Pair(
            moving=a,
            fixed=b,
            moving_labels=la,
            fixed_labels=lb,
            displacement=truth,
            split="test",
            subject="patient 7",
        ),
        Pair(moving=a, fixed=None, moving_labels=la, split="train"),
        Pair(moving=b, fixed=None, split="train"),
    ]
    manifest = tmp_path / "lists" / "pairs.csv"
    write_manifest(manifest, pairs)
    assert "../data/a.nii.gz" in manifest.read_text()
    found = read_manifest(manifest)
    assert [pair.split for pair in found] == ["test", "train", "train"]
    assert [pair.subject for pair in found] == ["patient 7", "", ""]
    for one, other in zip(found, pairs, strict=True):
        for name in ("moving", "fixed", "moving_labels", "fixed_labels", "displacement"):
            given, back = getattr(other, name), getattr(one, name)
            assert (back is None) if given is None else back.resolve() == given.resolve()
    assert found[0].name == "a_to_b"


def write(tmp_path, text):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("moving,split\n", "expected the columns moving, fixed"),
        ("moving,fixed,split\n", "expected at least one pair, got none"),
        ("moving,fixed,split\ndata/a.nii.gz,data/b.nii.gz,dev\n", "line 2: expected a split of"),
        (
            "moving,fixed,split\ndata/a.nii.gz,data/c.nii.gz,test\n",
            "line 2: expected a file as fixed",
        ),
        ("moving,fixed,split\n,data/b.nii.gz,test\n", "line 2: expected a moving image"),
        ("moving,fixed,split\ndata/a.nii.gz,,train\n", "line 2: expected a fixed image"),
        ("moving,fixed,split\ndata/a.nii.gz,*,test\n", "line 2: expected a fixed image"),
        ("moving,fixed,split\ndata/a.nii.gz,*,train\n", "expected train rows of two moving images"),
        (
            "moving,fixed,split\ndata/a.nii.gz,*,train\ndata/b.nii.gz,data/a.nii.gz,val\n",
            "expected train rows of two moving images",
        ),
    ],
)
def test_wrong_manifests_are_refused_with_their_line(tmp_path, files, text, message):
    with pytest.raises(UserError, match=message):
        read_manifest(write(tmp_path, text))


def test_documented_example_is_read_and_each_row_finds_a_partner(tmp_path):
    page = Path(__file__).parents[2] / "docs" / "registration.md"
    (text,) = re.findall(r"```\n(moving,fixed,.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for name in re.findall(r"[\w-]+\.nii\.gz", text):
        (tmp_path / name).touch()
    pairs = read_manifest(write(tmp_path, text))
    assert [pair.split for pair in pairs] == ["train", "val", "train"]
    train = [pair for pair in pairs if pair.split == "train"]
    for epoch in range(5):
        drawn, _ = plan_pair(train, 1, seed=0, epoch=epoch, has_flips=False)
        assert (drawn.name, drawn.has_labels) == ("sub-03_to_atlas", True)


def test_missing_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected a manifest .CSV., got no file"):
        read_manifest(tmp_path / "none.csv")
