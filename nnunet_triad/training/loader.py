"""One way to read batches ahead: processes that hold no CUDA, and errors that stay one line."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from nnunet_triad.errors import UserError
from nnunet_triad.processes import end_with_parent
from nnunet_triad.training.stop_signal import leave_signals_to_parent


def make_loader(
    read: Callable[[Any], Any], keys: Iterable[Any], *, workers: int, device: torch.device
) -> DataLoader:
    """Return a loader of one batch a key, in the order of the keys; see `batches`.

    Args:
        read: makes a batch of a key; workers get a copy of it.
        keys: one a batch, such as the places of its samples.
        workers: processes that read ahead; 0 reads in this one.
        device: where the batches go.
    """
    return DataLoader(
        _Batches(read),
        batch_size=None,  # `read` makes whole batches
        sampler=keys,
        num_workers=workers,
        # Not fork: the training process may hold CUDA and threads, which a fork cannot copy.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_begin_worker,
        pin_memory=device.type == "cuda",
    )


def batches(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield what a loader of `make_loader` reads.

    Raises:
        UserError: `read` raised it, in whichever process.
    """
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def on_device(
    items: Iterable[dict[str, Any]], device: torch.device, *, on_cpu: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield batches whose tensors are on a GPU, each copied while it computes the one before.

    The copy, from pinned memory, has a stream of its own; the host, which hands work to the GPU
    and does not wait for it, comes here while the GPU computes. For other devices batches pass as
    they are.

    Args:
        items: from `batches`.
        device: where they go.
        on_cpu: names of what stays.
    """
    if device.type != "cuda":
        yield from items
        return
    stream = torch.cuda.Stream(device)
    for item in items:
        with torch.cuda.stream(stream):
            moved = {
                name: value.to(device, non_blocking=True)
                for name, value in item.items()
                if isinstance(value, torch.Tensor) and name not in on_cpu
            }
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        for value in moved.values():  # else its memory could be the next copy's too early
            value.record_stream(current)
        yield {**item, **moved}


def collate(dataset: Dataset, keys: Sequence[Any]) -> Any:
    """Return the samples of a dataset as one batch."""
    return default_collate([dataset[key] for key in keys])


def _begin_worker(number: int) -> None:
    leave_signals_to_parent()
    end_with_parent()


class _Batches(Dataset):
    """Batches, or the UserError in place of one: PyTorch would bury it in a worker's traceback."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read = read

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.read(key)
        except UserError as error:
            return error
