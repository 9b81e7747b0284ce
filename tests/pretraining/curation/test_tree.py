"""A walk through a folder ends, stays inside, and says what it left out."""

import os

import pytest

from pretraining.curation.tree import Tree


def found(tree: Tree) -> list[str]:
    return [path.relative_to(tree.root).as_posix() for path in tree.files()]


def reasons(tree: Tree) -> dict[str, str]:
    return {bad.source: bad.reason for bad in tree.bad_files}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.dcm").write_text("x")
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    for name in ("a/2.dcm", "a/b/1.dcm", "z.nii", ".hidden", "a/.git.dcm"):
        (tmp_path / "root" / name).write_text("x")
    return tmp_path / "root"


def test_files_come_in_the_order_of_their_paths_without_hidden_ones(root):
    assert found(Tree(root=root)) == ["z.nii", "a/2.dcm", "a/b/1.dcm"]


def test_loops_of_links_end_and_are_named(root):
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a" / "self")
    tree = Tree(root=root)
    assert found(tree) == ["z.nii", "a/2.dcm", "a/b/1.dcm"]
    assert reasons(tree) == {
        "a/loop": "a link to a folder, which is not followed",
        "a/self": "a link that leads nowhere",
    }


def test_link_out_of_the_tree_is_followed_only_when_asked(root, tmp_path):
    (root / "out.dcm").symlink_to(tmp_path / "outside" / "secret.dcm")
    (root / "climb.dcm").symlink_to("../outside/secret.dcm")
    strict = Tree(root=root)
    assert found(strict) == ["z.nii", "a/2.dcm", "a/b/1.dcm"]
    assert set(reasons(strict).values()) == {"a link that leads out of the source"}
    assert found(Tree(root=root, follows_links=True))[:2] == ["climb.dcm", "out.dcm"]


def test_link_inside_the_tree_is_followed(root):
    (root / "again.dcm").symlink_to(root / "a" / "2.dcm")
    tree = Tree(root=root)
    assert "again.dcm" in found(tree)
    assert not tree.bad_files


def test_folder_that_cannot_be_read_is_named_and_the_rest_goes_on(root, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything, so it is simulated
    tree = Tree(root=root)
    assert found(tree) == ["z.nii"]
    assert reasons(tree) == {"a": "a folder that cannot be read (Permission denied)"}
