"""hf:// names, read from the hub's cache in the layout that huggingface_hub keeps it in."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.hub import HubName, first_sentence
from nnunet_triad.weights.locate import find_weights, load_weights
from nnunet_triad.weights.sharing import pull

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SWIN_T = encoder_spec("swin_t")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An offline cache: blobs by hash, a snapshot of links to them, and refs by name."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = folder / "models--lab--brains"
    for name in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (repository / name).mkdir(parents=True)
    for revision in ("main", "v1"):
        (repository / "refs" / revision).write_text(COMMIT)
    for number, source in enumerate(("triad", "voco")):
        info = WeightsInfo(spec=SWIN_T, source=source)
        blob = repository / "blobs" / f"{number}"
        save_weights(blob.with_suffix(".safetensors"), build_encoder(SWIN_T), info)
        blob.with_suffix(".safetensors").rename(blob)
        link = repository / "snapshots" / COMMIT / f"{source}_swin_t.safetensors"
        link.symlink_to(Path("../..") / "blobs" / blob.name)
    return folder


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://lab/brains", ("lab/brains", None, None)),
        ("hf://lab/brains/a/b.pt", ("lab/brains", "a/b.pt", None)),
        ("hf://lab/brains/b.pt@v1", ("lab/brains", "b.pt", "v1")),
        ("hf://lab/brains@refs/pr/1", ("lab/brains", None, "refs/pr/1")),
    ],
)
def test_name_has_repository_file_and_revision(text: str, parts: tuple) -> None:
    name = HubName.parse(text)
    assert (name.repository, name.file, name.revision) == parts
    assert str(name) == text
    assert HubName.parse(str(Path(text))) == name  # Path drops a slash


@pytest.mark.parametrize("text", ["hf://", "hf://lab", "hf://lab/", "hf://lab/b@", "hf://a b/c"])
def test_name_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"expected hf://ORG/NAME\[/FILE\]\[@REVISION\], got"):
        load_weights(text)


@pytest.mark.parametrize("revision", ["", "@v1", f"@{COMMIT}"])
@pytest.mark.parametrize("is_path", [False, True])
def test_file_is_loaded_from_the_cache(cache: Path, revision: str, is_path: bool) -> None:
    name = f"hf://lab/brains/triad_swin_t.safetensors{revision}"
    assert load_weights(Path(name) if is_path else name).info.spec == SWIN_T


@pytest.mark.parametrize("initialization", ["triad", "voco"])
def test_variable_may_name_a_repository(
    cache: Path, monkeypatch: pytest.MonkeyPatch, initialization: str
) -> None:
    monkeypatch.setenv("TRIAD_WEIGHTS", "hf://lab/brains")
    weights = find_weights(initialization, SWIN_T)
    assert weights.path.name == f"{initialization}_swin_t.safetensors"
    assert weights.info.source == initialization


def test_variable_may_name_a_file_of_a_repository(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAD_WEIGHTS", "hf://lab/brains/voco_swin_t.safetensors@main")
    assert find_weights("voco", SWIN_T).info.source == "voco"


def test_repository_of_several_files_needs_a_name(cache: Path) -> None:
    with pytest.raises(UserError, match=r"one weights file, got triad_swin_t.*voco_swin_t"):
        load_weights("hf://lab/brains")


def test_repository_of_one_file_needs_none(cache: Path) -> None:
    next(cache.rglob("voco_swin_t.safetensors")).unlink()
    assert load_weights("hf://lab/brains").info.source == "triad"


def test_list_of_the_hub_is_asked_before_the_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["README.md", "voco_swin_t.safetensors"]
    monkeypatch.setattr(HfApi, "list_repo_files", lambda *_, **__: files)
    assert load_weights("hf://lab/brains").info.source == "voco"


@pytest.mark.parametrize(
    "name", ["hf://lab/nothing", "hf://lab/brains/no.pt", "hf://lab/brains/a.pt@no"]
)
def test_what_is_not_there_is_one_line(cache: Path, name: str) -> None:
    with pytest.raises(UserError, match="expected a file that the hub or its cache gives") as error:
        load_weights(name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert "local_files_o" not in str(error.value)


def test_first_sentence_ends_at_a_word() -> None:
    assert first_sentence(OSError("Not there. To pass 'a=1' helps.\nMore")) == "Not there"
    text = first_sentence(OSError("word " * 100))
    assert len(text) <= 200 and text.endswith("word ...")
    assert first_sentence(OSError()) == "OSError"


def test_pull_copies_the_file_once(cache: Path, tmp_path: Path) -> None:
    name = "hf://lab/brains/triad_swin_t.safetensors"
    target = pull(name, tmp_path)
    assert target == tmp_path / "triad_swin_t.safetensors"
    assert not target.is_symlink()
    assert load_weights(target).sha256 == load_weights(name).sha256
    assert pull(name, tmp_path) == target
    target.write_bytes(b"mine")
    with pytest.raises(UserError, match="expected no file of that name, got another one"):
        pull(name, tmp_path)
    assert target.read_bytes() == b"mine"
