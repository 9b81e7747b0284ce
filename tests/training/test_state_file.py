import errno
from pathlib import Path

import pytest
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.training import state_file
from nnunet_triad.training.state_file import load_state, restore_optimizer, save_state


def test_state_comes_back_to_the_bit(tmp_path: Path):
    weights = torch.randn(3, 5)
    save_state(tmp_path / "run.pt", {"model": {"weight": weights}, "name": "a"}, step=7)
    state = load_state(tmp_path / "run.pt", command="triad-pretrain")
    assert state["step"] == 7
    assert state["name"] == "a"
    assert torch.equal(state["model"]["weight"], weights)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip", b"no checkpoint at all"])
def test_damaged_state_is_a_clear_error(tmp_path: Path, content: bytes):
    (tmp_path / "run.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"run\.pt: expected a checkpoint of triad-pretrain"):
        load_state(tmp_path / "run.pt", command="triad-pretrain")


def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path):
    class Malicious:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"format_version": 1, "model": Malicious()}, tmp_path / "run.pt")
    with pytest.raises(UserError, match="expected a checkpoint"):
        load_state(tmp_path / "run.pt", command="triad-pretrain")
    assert not (tmp_path / "executed").exists()


def test_other_format_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(state_file, "FORMAT_VERSION", 99)
    save_state(tmp_path / "run.pt", {}, step=0)
    monkeypatch.undo()
    with pytest.raises(UserError, match="expected format version 1, got 99"):
        load_state(tmp_path / "run.pt", command="triad-pretrain")


def test_full_disk_keeps_the_state_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_state(tmp_path / "run.pt", {"a": 1}, step=1)

    def fail(content, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(UserError, match=r"checkpoint of step 2, got 'No space left on device"):
        save_state(tmp_path / "run.pt", {"a": 2}, step=2)
    monkeypatch.undo()
    assert load_state(tmp_path / "run.pt", command="triad-pretrain")["a"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts memory as Linux does")
def test_reading_a_state_takes_no_memory_for_it(tmp_path: Path):
    save_state(tmp_path / "run.pt", {"weight": torch.ones(16, 2**20)}, step=1)  # 64 MiB
    before = own_memory()
    state = load_state(tmp_path / "run.pt", command="triad-pretrain")
    assert state["weight"].sum() == 2**24
    assert own_memory() - before < 2**24


def own_memory() -> int:
    """Bytes of this process that lie in no file."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def test_restored_optimizer_keeps_nothing_in_the_file(tmp_path: Path):
    weight = torch.nn.Parameter(torch.ones(5))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    save_state(tmp_path / "run.pt", optimizer.state_dict(), step=1)
    state = load_state(tmp_path / "run.pt", command="triad-pretrain")

    restored = torch.optim.AdamW([weight])
    restore_optimizer(restored, {name: state[name] for name in ("state", "param_groups")})
    with (tmp_path / "run.pt").open("r+b") as file:
        file.write(bytes((tmp_path / "run.pt").stat().st_size))

    assert state["state"][0]["exp_avg"].tolist() == [0] * 5  # it does lie there
    for name, value in optimizer.state[weight].items():
        assert torch.equal(restored.state[weight][name], value)
