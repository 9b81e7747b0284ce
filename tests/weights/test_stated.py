"""What a user states of a file: taken where the file does not say, refused where it does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.weights.cli import main
from nnunet_triad.weights.export import convert
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.locate import find_weights, load_weights
from nnunet_triad.weights.origins import CT_WINDOW, PERCENTILES, ZSCORE
from nnunet_triad.weights.stated import Stated
from tests.commands import exit_code
from tests.weights.conftest import triad_authors_swin, triad_authors_unet

Published = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _no_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIAD_ORIGIN", raising=False)


def test_origin_fills_what_an_anonymous_file_does_not_say(published: Published) -> None:
    silent = load_weights(published("monai")).info
    assert (silent.source, silent.spec.merging, silent.axes) == ("monai", None, None)
    info = load_weights(published("monai"), Stated(origin="voco")).info
    assert (info.source, info.spec.merging, info.axes) == ("voco", "old", "xyz")
    assert info.intensity_normalization == CT_WINDOW
    assert info.spacing_mm == (1.5, 1.5, 1.5)  # its transforms' Spacingd
    assert "2410.09890" in info.citation
    assert info.data_summary.endswith("stated to be VoCo's")


def test_environment_states_it_too_and_an_argument_goes_before(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAD_ORIGIN", "voco")
    assert load_weights(published("monai")).info.source == "voco"
    assert load_weights(published("monai"), Stated(origin="triad")).info.source == "triad"
    monkeypatch.setenv("TRIAD_ORIGIN", "nobody")
    with pytest.raises(UserError, match=r"^TRIAD_ORIGIN: origin: expected one of .*triad.*nobody$"):
        load_weights(published("monai"))


def test_the_release_of_triad_s_authors_states_neither_axes_nor_merging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path))
    torch.save(triad_authors_swin(encoder_spec("swin_b")), tmp_path / "Triad-SwinB-MAE.pth")
    unet = tmp_path / "Triad-PlainConvUNet-MAE.pth"
    torch.save(triad_authors_unet(encoder_spec("unet")), unet)
    # found under its published name, by a trainer of its publisher
    info = find_weights("triad", encoder_spec("swin_b")).info
    assert (info.source, info.spec.merging, info.axes) == ("triad", None, None)
    assert (info.intensity_normalization, info.licence) == (PERCENTILES, "MIT")
    # under the same name without the publisher's, nothing is assumed
    assert load_weights(unet).info.source == "nnunet"
    stated = find_weights("triad", encoder_spec("swin_b"), stated=Stated(merging="old")).info
    assert stated.spec.merging == "old"


def test_what_the_file_knows_of_its_intensities_stays(published: Published) -> None:
    assert load_weights(published("nnunet")).info.intensity_normalization == ZSCORE
    info = load_weights(published("nnunet"), Stated(origin="triad")).info
    assert (info.source, info.intensity_normalization) == ("triad", ZSCORE)


def test_file_of_the_stated_origin_stays_as_it_is(published: Published) -> None:
    name = published("voco SSL head")
    assert load_weights(name, Stated(origin="voco")).info == load_weights(name).info


@pytest.mark.parametrize(
    ("name", "stated", "message"),
    [
        ("voco SSL head", {"origin": "suprem"}, "expected SuPreM's weights, as stated, got voco's"),
        ("nnssl resenc", {"origin": "triad"}, "expected Triad's weights, as stated, got nnssl's"),
        (
            "Triad's authors unet",
            {"origin": "suprem"},
            r"expected an encoder that SuPreM publishes \(swin V1\), as stated, got unet",
        ),
        ("monai", {"origin": "suprem"}, r"\(swin V1\), as stated, got swin_t \(swin V2\)"),
        ("nnunet", {"merging": "old"}, r"with patch merging, .* got unet \(plainconv\), which has"),
        ("voco SSL head", {"merging": "new"}, r"expected --merging old, .* \(voco\) says, got new"),
        ("monai", {"key": "ema"}, "--key: expected a state dict of the file, got ema; it has "),
    ],
)
def test_contradiction_is_one_line(
    published: Published, name: str, stated: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_weights(published(name), Stated(**stated))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"origin": "monai"}, "origin: expected one of nnssl, .*swinunetr, .*, got monai"),
        ({"origin": ""}, "origin: expected one of"),
        ({"merging": "1.5"}, "merging: expected old or new, got 1.5"),
    ],
)
def test_name_that_is_none_is_refused(stated: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Stated(**stated)


def test_file_of_ones_own_project_is_contradicted_by_what_its_metadata_say(tmp_path: Path) -> None:
    spec = encoder_spec("swin_t")
    path = tmp_path / "w.safetensors"
    save_weights(path, build_encoder(spec), WeightsInfo(spec=spec, source="ourlab"))
    with pytest.raises(UserError, match="got ourlab's by what the file says"):
        load_weights(path, Stated(origin="voco"))
    with pytest.raises(UserError, match="expected --merging new"):
        load_weights(path, Stated(merging="old"))


def test_converted_file_says_what_was_stated(published: Published, tmp_path: Path) -> None:
    stated = load_weights(published("Triad's training swin"), Stated(merging="old"))
    convert(stated, tmp_path / "w.safetensors")
    again = load_weights(tmp_path / "w.safetensors").info
    assert again == stated.info
    assert again.spec.merging == "old"


def run(*arguments: object) -> int:
    return exit_code(main, "triad-weights", *arguments)


def test_commands_take_the_same_options(
    published: Published,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "w.safetensors"
    options = ("--origin", "triad", "--merging", "new")
    assert run("convert", published("Triad's authors swin"), output, *options) == 0
    capsys.readouterr()
    assert run("show", output, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["source"], shown["merging"], shown["licence"]) == ("triad", "new", "")
    assert run("show", published("monai")) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["merging"] == lines["axes"] == "not stated"
    voco = published("voco SSL head")
    assert run("show", voco, "--origin", "suprem") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for command in ("convert", "export"):
        assert run(command, voco, tmp_path / "x.pth", "--merging", "1.5") == 2
        assert "merging: expected old or new" in capsys.readouterr().err
    assert run("push", voco, "ourlab/x", "--key", "best") == 2
    assert "--key: expected a state dict" in capsys.readouterr().err


def test_stated_merging_changes_what_the_encoder_computes_behind_the_first_level(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {}
    for merging in ("old", "new"):
        path = published("Triad's training swin")
        assert run("verify", path, "--merging", merging, "--device", "cpu") == 0
        lines[merging] = capsys.readouterr().out.splitlines()
    assert len(lines["old"]) == len(lines["new"]) == 5
    same = [a == b for a, b in zip(lines["old"], lines["new"], strict=True)]
    assert same == [True, False, False, False, False]
