from pathlib import Path

import pytest

from nnunet_triad.phantom import cli
from tests.commands import exit_code


def test_bids_command_writes_a_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--subjects", "2", "--spacing-mm", "8", "--anatomy", "pelvis,breast")
    assert exit_code(cli.main, "triad-phantom", "bids", tmp_path / "tree", *arguments) == 0
    assert "written:" in capsys.readouterr().out
    assert len(list((tmp_path / "tree").glob("sub-*/anat/*.nii.gz"))) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bids", "--subjects", "0"), "--subjects: expected 1 or more, got 0"),
        (("bids", "--seed", "-1"), "seed: expected zero or more, got -1"),
        (
            ("bids", "--spacing-mm", "0.3"),
            "--spacing-mm: expected 1 or more and at most 8, got 0.3",
        ),
        (("bids", "--anatomy", "knee"), "--anatomy: expected some values, each brain"),
        (("bids", "--anatomy", ""), "--anatomy: expected some of brain, pelvis, breast"),
        (("bids", "--lesion", "cyst"), "lesion for brain: expected tumour, infarct"),
        (("bids", "--lesion", "infarct", "--anatomy", "pelvis"), "lesion for pelvis: expected"),
        (("bids", "--sequences", "T1w,T9w"), "sequences: expected T1w, T2w"),
        (("bids", "--sequences", "T1w,T1w"), "sequences: expected each name once"),
        (("nnunet", "--test-subjects", "-2"), "test-subjects: expected zero or more, got -2"),
        (("nnunet", "--slice-mm", "1"), "slice-mm: expected 2 to 20, got 1"),
        (
            ("nnunet", "--strip-skull", "--anatomy", "pelvis"),
            "strip-skull: expected brains, got pelvis",
        ),
        (("nnunet", "--dataset", "7"), "dataset: expected 500 or 501, got 7"),
        (("nnunet", "--anatomy", "brain,pelvis"), "anatomy: expected one, got brain, pelvis"),
        (("classification", "--task", "age"), "task: expected one of lesion, sequence"),
        (("registration", "--sequence", "T1w,T2w"), "sequence: expected one name"),
        (("dicom", "--kind", "mosaic"), "kind: expected classic or enhanced, got mosaic"),
    ],
)
def test_mistakes_give_one_line_and_exit_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    command, *options = arguments
    assert exit_code(cli.main, "triad-phantom", command, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
