"""Published encoders by name, fetched from a real HTTP server on this machine."""

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gdown
import pytest
import torch
from safetensors.torch import save_file

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.architectures.families import networks_on
from nnunet_triad.errors import UserError
from nnunet_triad.files import DiskFullError, only_process
from nnunet_triad.weights import catalogue
from nnunet_triad.weights.catalogue import entries, fetch, find_entry
from nnunet_triad.weights.download import fetch_from_drive, fetch_url
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.fingerprint import (
    compare,
    compute_fingerprint,
    find_fingerprint,
    is_same,
)
from nnunet_triad.weights.locate import find_weights, load_weights, read_initialization
from nnunet_triad.weights.origins import TRIAD, PublishedFile
from nnunet_triad.weights.stated import Stated

SWIN_T = encoder_spec("swin_t")


class Server(ThreadingHTTPServer):
    """Serves files from memory; may stop in the middle of one."""

    files: dict[str, bytes]
    stops_after: int | None = None
    can_resume = True
    ranges: list[str]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers with a file, or with what is left of it."""

    server: Server

    def do_GET(self) -> None:
        """Send a file."""
        wanted = self.headers.get("Range", "")
        self.server.ranges.append(wanted)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        first = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if not self.server.can_resume:
            first = 0
        if first >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        if first:
            whole = len(content)
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        self.end_headers()
        stop = self.server.stops_after or len(content)
        self.wfile.write(content[first : first + stop])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as found:
        found.files, found.ranges = {}, []
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def published(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Weights on the server, in the catalogue as triad-test."""
    path = tmp_path / "made.safetensors"
    torch.manual_seed(0)
    save_weights(path, build_encoder(SWIN_T), WeightsInfo(spec=SWIN_T, axes="xyz"))
    content = path.read_bytes()
    server.files["/triad.safetensors"] = content
    publish(monkeypatch, server, sha256=None)
    return content


def publish(
    monkeypatch: pytest.MonkeyPatch, server: Server, *, sha256: str | None, restricts: bool = False
) -> None:
    file = PublishedFile(
        encoder="swin_t",
        name="triad.safetensors",
        url=f"{server.url}/triad.safetensors",
        sha256=sha256,
        short="triad-test",
    )
    origin = replace(TRIAD, files=(file,), restricts=restricts, licence="CC BY-NC 4.0")
    monkeypatch.setattr(catalogue, "ORIGINS", (origin,))


def test_every_published_file_has_a_name_of_its_own_and_an_encoder() -> None:
    names = [entry.name for entry in entries()]
    assert len(names) == len(set(names)) >= 25
    assert {"voco-b", "triad-swinb-mae", "suprem-swinunetr", "openmind-resencl-mae"} <= set(names)
    for entry in entries():
        assert entry.to_dict()["where"]
        assert entry.origin.page.startswith("https://")


def test_name_goes_for_a_path_wherever_weights_are_wanted(
    published: bytes, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    expected = hashlib.sha256(published).hexdigest()
    assert load_weights("triad-test").sha256 == expected
    assert read_initialization("Triad-Test", SWIN_T).sha256 == expected
    monkeypatch.setenv("TRIAD_WEIGHTS", "triad-test")
    assert find_weights("triad", SWIN_T).sha256 == expected
    assert len(server.ranges) == 1  # fetched once


def test_anonymous_file_that_came_by_its_name_is_its_publisher_s(
    published: bytes, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "anonymous.safetensors"
    save_file({f"swinViT.{n}": t for n, t in build_encoder(SWIN_T).named_parameters()}, path)
    assert load_weights(path).info.source == "monai"
    server.files["/triad.safetensors"] = path.read_bytes()
    fetched = load_weights("triad-test")
    assert fetched.info.source == "triad"
    assert fetched.info.intensity_normalization == TRIAD.assumes.intensity
    assert load_weights(fetched.path).info == fetched.info
    with pytest.raises(UserError, match="expected VoCo's weights, as stated, got triad's"):
        load_weights("triad-test", Stated(origin="voco"))


def test_second_process_waits_for_the_download_of_the_first(
    published: bytes, server: Server, cache: Path
) -> None:
    (cache / "weights").mkdir(parents=True)
    found: list[Path] = []
    second = threading.Thread(target=lambda: found.append(fetch("triad-test")))
    with only_process(cache / "weights" / ".triad.safetensors.lock", refusal=None):
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert not server.ranges
        fetch_url(f"{server.url}/triad.safetensors", cache / "weights" / "triad.safetensors")
    second.join(20)
    assert found[0].read_bytes() == published
    assert len(server.ranges) == 1


def test_interrupted_download_goes_on_where_it_stopped(
    published: bytes, server: Server, cache: Path
) -> None:
    server.stops_after = 1000
    with pytest.raises(UserError, match=r"ended after 1,000 of .* bytes; .* goes on where"):
        fetch("triad-test")
    assert not (cache / "weights" / "triad.safetensors").exists()
    server.stops_after = None
    assert fetch("triad-test").read_bytes() == published
    assert server.ranges == ["", "bytes=1000-"]


def test_full_disk_is_called_that_and_not_a_matter_of_the_network(
    published: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, pytest.raises(DiskFullError) as caught:
        patched.setattr(os, "fsync", fail)
        fetch("triad-test")
    assert caught.value.filename == str(cache / "weights" / "triad.safetensors")


def test_server_that_cannot_resume_sends_all_of_it(
    published: bytes, server: Server, cache: Path
) -> None:
    server.stops_after = 1000
    with pytest.raises(UserError):
        fetch("triad-test")
    server.stops_after, server.can_resume = None, False
    assert fetch("triad-test").read_bytes() == published


def test_download_that_was_whole_but_not_renamed_is_taken(
    published: bytes, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "x.part").write_bytes(published)
    fetch_url(f"{server.url}/triad.safetensors", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == published


@pytest.mark.parametrize("is_published", [True, False])
def test_another_content_than_published_or_than_before_is_refused(
    published: bytes,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    is_published: bool,
) -> None:
    digest = hashlib.sha256(published).hexdigest()
    publish(monkeypatch, server, sha256=digest if is_published else None)
    path = fetch("triad-test")
    path.unlink()
    server.files["/triad.safetensors"] = published[:-1] + b"x"
    whose = "its publisher's" if is_published else "that of the first time"
    with pytest.raises(UserError, match=rf"expected SHA-256 {digest} \({whose}\)"):
        fetch("triad-test")


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>Sign in", b"\n <html>quota exceeded"])
def test_web_page_in_place_of_a_file_is_called_that(
    published: bytes, server: Server, page: bytes, cache: Path
) -> None:
    server.files["/triad.safetensors"] = page
    with pytest.raises(UserError, match="got a web page"):
        fetch("triad-test")
    assert not list((cache / "weights").glob("triad*"))


def test_restrictive_licence_is_accepted_once(
    published: bytes, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, server, sha256=None, restricts=True)
    with pytest.raises(UserError, match=r"CC BY-NC 4.0.*--accept-licence"):
        load_weights("triad-test")
    fetch("triad-test", accepts_licence=True)
    assert load_weights("triad-test").info.spec == SWIN_T


@pytest.fixture
def drive(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """gdown, that looks for a file of Google Drive on the server of this machine."""
    download = gdown.download

    def from_server(*, id: str, **arguments: object) -> object:
        return download(url=f"{server.url}/{id}", **arguments)

    monkeypatch.setattr(gdown, "download", from_server)
    return server


def test_file_on_google_drive_comes_by_gdown_and_goes_on_where_it_stopped(
    drive: Server, tmp_path: Path
) -> None:
    page, target = "https://drive.google.com/file/d/AB_c-1/view?usp=sharing", tmp_path / "w.pth"
    drive.files["/AB_c-1"] = content = bytes(range(256)) * 8192
    drive.stops_after = 1_500_000
    with pytest.raises(UserError, match=r"AB_c-1/view.*: expected a file, got: .*run again, or"):
        fetch_from_drive(page, target)
    assert not target.exists()
    drive.stops_after = None
    fetch_from_drive(page, target)
    assert target.read_bytes() == content
    assert drive.ranges[-1].startswith("bytes=")
    assert drive.ranges[-1] != "bytes=0-"
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]


def test_page_of_google_drive_in_place_of_a_file_is_called_that(
    drive: Server, tmp_path: Path
) -> None:
    drive.files["/quota"] = b"<!DOCTYPE html><html>Too many users have viewed this file</html>"
    with pytest.raises(UserError, match=r"got a web page; download it in a browser"):
        fetch_from_drive("https://drive.google.com/file/d/quota", tmp_path / "w.pth")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_had_is_one_line(published: bytes, server: Server) -> None:
    server.files.clear()
    with pytest.raises(UserError, match=r"got: HTTP Error 404.*download it yourself to"):
        fetch("triad-test")
    with pytest.raises(UserError, match="expected one of triad-test, got nobody"):
        find_entry("nobody")


def test_without_a_network_the_line_says_what_to_download_where(
    published: bytes, server: Server, cache: Path
) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=rf"check the network.*{cache / 'weights'}/triad"):
        fetch("triad-test")


def test_proxy_of_the_environment_is_asked(
    published: bytes, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    server.files["http://weights.example/file"] = published
    fetch_url("http://weights.example/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == published


def test_file_of_the_name_goes_before_the_catalogue(
    published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("triad-test").write_bytes(published)
    assert load_weights("triad-test").path == Path("triad-test")
    assert server.ranges == []


def test_packaged_encoder_is_the_one_of_its_card(tmp_path: Path) -> None:
    entry = find_entry("triad-mini")
    card = entry.path.with_suffix(".md")
    assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.file.sha256
    assert entry.file.sha256 in card.read_text(encoding="utf-8")
    weights = load_weights("triad-mini")
    assert weights.info.licence == entry.licence == "CC BY-SA 4.0"
    assert "Antonelli" in weights.info.citation
    written = find_fingerprint(card.read_text(encoding="utf-8"))
    assert is_same(compare(compute_fingerprint(weights), written))
    copy = fetch("triad-mini", folder=tmp_path / "mine")
    assert copy.read_bytes() == entry.path.read_bytes()
    assert fetch("triad-mini") == entry.path  # nothing is copied


def test_encoder_of_fewer_levels_goes_into_the_network_that_is_as_wide() -> None:
    assert networks_on("unet_4") == networks_on("unet_t") == ("UNetT",)
    assert networks_on("unet") == ("UNet",)
    assert not networks_on("nobody's")
