"""Batches that are read ahead, and what goes wrong in the processes that read them."""

import contextlib
import functools

import pytest
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.training.loader import batches, collate, make_loader, on_device

CPU = torch.device("cpu")


def read(key: int) -> dict[str, object]:
    """Make a batch of a key; 3 is a bad one."""
    if key == 3:
        raise UserError("case_3: expected a volume, got UserError: none; curate again")
    return {"image": torch.full((2, 1), float(key)), "name": f"case_{key}"}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_the_order_of_their_keys(workers: int):
    found = list(batches(make_loader(read, [5, 0, 4, 1], workers=workers, device=CPU)))

    assert [batch["name"] for batch in found] == ["case_5", "case_0", "case_4", "case_1"]
    assert torch.equal(found[0]["image"], torch.full((2, 1), 5.0))


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_a_user_stays_one_line_in_whichever_process(workers: int):
    loader = make_loader(read, [1, 3, 2], workers=workers, device=CPU)
    found = batches(loader)
    assert next(found)["name"] == "case_1"

    with pytest.raises(UserError) as error:
        next(found)

    assert str(error.value) == "case_3: expected a volume, got UserError: none; curate again"


def test_workers_are_not_forked_from_a_process_that_may_hold_cuda():
    loader = make_loader(read, [1], workers=1, device=CPU)

    assert loader.multiprocessing_context.get_start_method() == "spawn"


def test_samples_become_one_batch():
    samples = [{"image": torch.full((1, 2), float(number))} for number in range(3)]
    read_all = functools.partial(collate, samples)

    (batch,) = batches(make_loader(read_all, [[2, 0]], workers=0, device=CPU))

    assert batch["image"].tolist() == [[[2.0, 2.0]], [[0.0, 0.0]]]


class _Stream:
    """Stands for a CUDA stream; keeps what was asked of it in the order of `calls`."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def wait_stream(self, other: "_Stream") -> None:
        self.calls.append(f"{self.name} waits for {other.name}")


class _Pinned(torch.Tensor):
    """A tensor that tells when it is copied, and for which stream it is kept."""

    calls: list[str]

    def to(self, device: torch.device, *, non_blocking: bool) -> "_Pinned":
        self.calls.append(f"copy to {device}, {non_blocking}")
        return self

    def record_stream(self, stream: _Stream) -> None:
        self.calls.append(f"kept for {stream.name}")


def test_batches_are_copied_in_a_stream_of_their_own_while_a_gpu_computes(monkeypatch):
    calls: list[str] = []
    compute = _Stream("compute", calls)

    @contextlib.contextmanager
    def entered(stream: _Stream):
        calls.append(f"in {stream.name}")
        yield
        calls.append("out")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: _Stream("copy", calls))
    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: compute)
    image = torch.ones(2).as_subclass(_Pinned)
    image.calls = calls
    item = {"image": image, "volume": torch.ones(1), "name": "case"}

    (found,) = on_device([item], torch.device("cuda:0"), on_cpu=("volume",))

    assert found == item
    expected = ["in copy", "copy to cuda:0, True", "out"]
    assert calls == [*expected, "compute waits for copy", "kept for compute"]


def test_batches_pass_as_they_are_where_there_is_no_gpu():
    items = [{"image": torch.ones(2)}, {"image": torch.zeros(2)}]
    assert all(a is b for a, b in zip(on_device(items, CPU), items, strict=True))
