"""Who does the work: this process, processes of this machine, or a cluster's.

Dask's scheduler hands out tasks, and starts a worker anew that died. A small job runs in this
process, because a local cluster takes seconds to start.
"""

import contextlib
import functools
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nnunet_triad.errors import UserError

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")
Result = TypeVar("Result")

# Tasks a worker; fewer are not worth the start of another one.
_LEAST_TASKS = 8
_AHEAD = 2  # tasks a worker that are handed out at once, so that none waits for the next
_MOST_AT_ONCE = 8  # items of a task; what a dying worker makes suspect
_LATER_CHUNKS = 2  # of what is left, a worker, when the next chunk is cut
_DEATHS = 1  # of workers that a task may be with, until it is suspect
_PATIENCE_S = 120.0  # without any worker: a batch system may start others
_LOOK_EVERY_S = 5.0

# Dask looks at itself every few milliseconds: sampled stacks, ticks, memory. With two workers that
# takes 8 % of a core, and 2 % with these.
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.worker.memory.monitor-interval": "1s",
}


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

        dask.config.set({"distributed.scheduler.allowed-failures": _DEATHS, **_QUIET})
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

    for name in ("distributed", "distributed.client"):  # what they meet is told in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
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
    num_workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    suspects: list[Item] = []
    chunks = split_ever_smaller(items, num_workers)
    for chunk, results in _run_ahead(client, function, chunks, num_ahead=_AHEAD * num_workers):
        if isinstance(results, WorkerDiedError):
            suspects.extend(chunk)
        else:
            yield from zip(chunk, results, strict=True)
    alone = ([item] for item in suspects)
    for (item,), results in _run_ahead(client, function, alone, num_ahead=1):
        yield item, results if isinstance(results, WorkerDiedError) else results[0]


def split_ever_smaller(items: Sequence[Item], num_workers: int) -> Iterator[list[Item]]:
    """Yield chunks of at most `_MOST_AT_ONCE` items, the last ones of one item.

    To hand out a task and to fetch its result costs Dask 7 ms, a twentieth of a volume's time; and
    small ones at the end let all workers end at once.
    """
    start = 0
    while start < len(items):
        share = (len(items) - start) // (_LATER_CHUNKS * num_workers)
        end = start + min(max(share, 1), _MOST_AT_ONCE)
        yield list(items[start:end])
        start = end


def _each(items: list[Item], *, function: Callable[[Item], Result]) -> list[Result]:
    return [function(item) for item in items]


def _run_ahead(
    client: "Client",
    function: Callable[[Item], Result],
    chunks: Iterable[list[Item]],
    *,
    num_ahead: int,
) -> Iterator[tuple[list[Item], list[Result] | WorkerDiedError]]:
    """Hand out a few tasks ahead, so that the scheduler never holds a hundred thousand."""
    from distributed import CancelledError, as_completed
    from distributed.scheduler import KilledWorker

    waiting = iter(chunks)
    chunk_of: dict[Any, list[Item]] = {}
    handed_out: dict[Any, Future] = {}
    task = functools.partial(_each, function=function)

    def hand_out(number: int) -> list[Any]:
        futures = []
        for chunk in itertools.islice(waiting, number):
            future = client.submit(task, chunk, pure=False)
            chunk_of[future.key] = chunk
            handed_out[future.key] = future
            futures.append(future)
        return futures

    with _never_without_workers(client, handed_out):
        done = as_completed(hand_out(num_ahead))
        for future in done:
            chunk = chunk_of.pop(future.key)
            del handed_out[future.key]
            try:
                results: list[Result] | WorkerDiedError = future.result()
            except KilledWorker:
                results = WorkerDiedError("it ends its worker process, also when it is alone")
            except CancelledError:
                raise UserError(
                    "--scheduler: expected a cluster that stays, got one that went away; run the "
                    "same command again, finished series are kept"
                ) from None
            for following in hand_out(1):
                done.add(following)
            yield chunk, results


@contextlib.contextmanager
def _never_without_workers(client: "Client", handed_out: dict[Any, "Future"]) -> Iterator[None]:
    """Cancel tasks when there was no worker for a while, for which Dask would wait for ever."""
    is_over = threading.Event()

    def watch() -> None:
        seen_s = time.monotonic()
        while not is_over.wait(_LOOK_EVERY_S):
            try:
                has_workers = bool(client.scheduler_info(n_workers=1)["workers"])
            except Exception:  # the scheduler is gone, which the tasks tell themselves
                return
            seen_s = time.monotonic() if has_workers else seen_s
            if time.monotonic() - seen_s > _PATIENCE_S:
                client.cancel(list(handed_out.values()))
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(_LOOK_EVERY_S)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Keep the linear algebra library to one thread, as in a worker: the same sums, no contest."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
