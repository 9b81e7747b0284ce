"""Who does the work: this process, processes of this machine, or a cluster's.

Dask's scheduler hands out tasks, and starts a worker anew that died. A small job runs in this
process, because a local cluster takes seconds to start.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nnunet_triad.errors import UserError

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")

# Tasks a worker; fewer are not worth the start of another one.
_LEAST_TASKS = 8
_AHEAD = 4  # tasks a worker that are handed out at once, so that none waits for the next
_DEATHS = 1  # of workers that a task may be with, until it is suspect


class WorkerDiedError(Exception):
    """The process that worked on an item ended, again and again."""


class Workers:
    """Runs a function on many items; nothing is started before it pays.

    Args:
        num_workers: processes on this machine; 1: this one; 0: one a core, as far as it pays.
        scheduler: address of a Dask scheduler, which has workers of its own.
    """

    def __init__(self, num_workers: int = 0, *, scheduler: str | None = None) -> None:
        if num_workers < 0:
            raise UserError(f"--workers: expected 0 or more, got {num_workers}")
        self.num_workers = num_workers
        self.scheduler = scheduler
        self._client: Client | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Workers":
        """Return itself; processes that it starts end with the block."""
        if self.scheduler:
            self._client = self._stack.enter_context(_connect(self.scheduler))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._client = None

    def run(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | WorkerDiedError]]:
        """Yield each item with its result, in the order in which they are done.

        Args:
            function: picklable unless it runs in this process.
            items: picklable too.

        Raises:
            Exception: whatever `function` raises.
        """
        client = self._client or self._start(len(items))
        if client is None:
            with _one_thread():
                for item in items:
                    yield item, function(item)
        else:
            yield from _run_on(client, function, items)

    def _start(self, num_tasks: int) -> "Client | None":
        """Start processes if they pay; None: work in this one."""
        if self.num_workers:
            wanted = min(self.num_workers, num_tasks)
        else:
            wanted = min(os.cpu_count() or 1, num_tasks // _LEAST_TASKS)
        if wanted < 2:
            return None
        import dask
        from distributed import Client, LocalCluster

        dask.config.set({"distributed.scheduler.allowed-failures": _DEATHS})
        cluster = LocalCluster(
            n_workers=wanted,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        )
        self._stack.enter_context(cluster)
        self._client = self._stack.enter_context(Client(cluster))
        return self._client


def _connect(address: str) -> "Client":
    from distributed import Client

    try:
        client = Client(address, timeout="10s")
        client.wait_for_workers(1, timeout=60)
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(
            f"--scheduler: expected the address of a Dask scheduler with workers, such as "
            f"tcp://node1:8786, got {address} ({type(error).__name__}); start one with "
            "dask-scheduler and dask-worker"
        ) from None
    return client


def _run_on(
    client: "Client", function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[Item, Result | WorkerDiedError]]:
    """Run items; those that were with a worker when it died are suspect, and run alone at last."""
    num_workers = len(client.scheduler_info(n_workers=-1)["workers"])
    suspects = []
    for item, result in _run_ahead(client, function, items, num_ahead=_AHEAD * max(1, num_workers)):
        if isinstance(result, WorkerDiedError):
            suspects.append(item)
        else:
            yield item, result
    yield from _run_ahead(client, function, suspects, num_ahead=1)


def _run_ahead(
    client: "Client",
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    num_ahead: int,
) -> Iterator[tuple[Item, Result | WorkerDiedError]]:
    """Hand out a few tasks ahead, so that the scheduler never holds a hundred thousand."""
    from distributed import CancelledError, as_completed
    from distributed.scheduler import KilledWorker

    waiting = iter(items)
    item_of: dict[Any, Item] = {}

    def hand_out(number: int) -> list[Any]:
        futures = []
        for item in itertools.islice(waiting, number):
            future = client.submit(function, item, pure=False)
            item_of[future.key] = item
            futures.append(future)
        return futures

    done = as_completed(hand_out(num_ahead))
    for future in done:
        item = item_of.pop(future.key)
        try:
            result: Result | WorkerDiedError = future.result()
        except KilledWorker:
            result = WorkerDiedError("it ends its worker process, also when it is alone")
        except CancelledError:
            raise UserError(
                "--scheduler: expected a cluster that stays, got one that went away; run the same "
                "command again, finished series are kept"
            ) from None
        for following in hand_out(1):
            done.add(following)
        yield item, result


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Keep the linear algebra library to one thread, as in a worker: the same sums, no contest."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
