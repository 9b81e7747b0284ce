"""Processes of a local Dask cluster: the same store, and a worker that dies costs one series."""

import itertools
import os
from dataclasses import dataclass

import pytest
from distributed import Client, LocalCluster

from nnunet_triad.errors import UserError
from pretraining.curation import workers
from pretraining.curation.runner import curate
from pretraining.curation.series import FoundSeries, LoadedSeries, Series
from pretraining.curation.source import find_all
from pretraining.curation.workers import WorkerDiedError, Workers, split_ever_smaller
from pretraining.store import VolumeStore, read_rejected

from .test_runner import content, source  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def two():
    """Two worker processes; a task is suspect when the first one dies."""
    with pytest.MonkeyPatch.context() as patch, Workers(2) as team:
        patch.setattr(workers, "_DEATHS", 0)
        assert sorted(result for _, result in team.run(abs, [-1, 2, -3])) == [1, 2, 3]
        yield team


def test_store_of_two_workers_equals_that_of_one(source, curate_tree, tmp_path, two):  # noqa: F811
    one, _ = curate_tree(source, tmp_path / "one")
    both, _ = curate_tree(source, tmp_path / "two", workers=two)
    assert content(both) == content(one)


def test_work_is_done_in_other_processes(two):
    pids = {pid for _, pid in two.run(lambda _: os.getpid(), list(range(40)))}
    assert os.getpid() not in pids
    assert len(pids) == 2


def test_scheduler_elsewhere_is_used_by_its_address(two):
    with Workers(scheduler=two._client.scheduler.address) as team:
        pids = {pid for _, pid in team.run(lambda _: os.getpid(), [1])}
    assert os.getpid() not in pids


def test_error_of_a_task_reaches_the_caller(two):
    def fail(item):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        list(two.run(fail, [1, 2]))


def test_series_whose_worker_dies_is_set_aside_and_the_rest_goes_on(source, tmp_path, two):  # noqa: F811
    @dataclass(frozen=True, kw_only=True)
    class Deadly(Series):
        def load(self, rules) -> LoadedSeries:
            os._exit(1)  # as when the system ends a process for its memory

    found = find_all(source, dataset="DATA", workers=Workers(1))
    names = {"dataset": "DATA", "subject": "sub-5x", "study": "study", "series": "deadly"}
    deadly = Deadly(**names, path=source, source="deadly", source_bytes=1)
    store = VolumeStore.create(tmp_path / "store", shape=(24, 30, 18), spacing_mm=6.0)
    everything = FoundSeries(series=[deadly, *found.series])
    summary = curate(everything, store, dataset="DATA", workers=two)
    assert summary.num_in_store == 8
    reasons = read_rejected(store.path).set_index("source")["reason"]
    assert reasons["deadly"] == (
        "it ends its worker process, also when it is alone: out of memory, or a defect of a library"
    )


def test_worker_death_is_a_result_of_its_own_item(two):
    results = dict(two.run(lambda item: os._exit(1) if item == 3 else item, [1, 2, 3, 4]))
    assert isinstance(results.pop(3), WorkerDiedError)
    assert results == {1: 1, 2: 2, 4: 4}


@pytest.mark.parametrize(("num_items", "num_workers"), [(1, 2), (24, 2), (1000, 3), (7, 64)])
def test_chunks_hold_each_item_once_and_end_with_single_ones(num_items, num_workers):
    items = list(range(num_items))
    chunks = list(split_ever_smaller(items, num_workers))
    assert list(itertools.chain.from_iterable(chunks)) == items
    sizes = [len(chunk) for chunk in chunks]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] <= 8
    assert all(size == 1 for size in sizes[-num_workers:])


def test_long_work_is_handed_out_in_fewer_tasks():
    assert len(list(split_ever_smaller(list(range(24)), 2))) <= 12
    assert len(list(split_ever_smaller(list(range(100_000)), 16))) < 100_000 / 7


def test_workers_are_not_profiled_by_dask(two):
    import dask

    names = ("distributed.worker.profile.enabled", "distributed.admin.tick.interval")
    ((_, found),) = two.run(lambda _: [dask.config.get(name) for name in names], [1])
    assert found == [False, "500ms"]


def test_small_work_stays_in_this_process():
    with Workers(0) as team:
        pids = {pid for _, pid in team.run(lambda _: os.getpid(), [1, 2, 3])}
    assert pids == {os.getpid()}


def test_cluster_that_lost_its_workers_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(workers, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(workers, "_LOOK_EVERY_S", 0.1)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
        pytest.raises(UserError, match="expected a cluster that stays, got one that went away"),
    ):
        list(workers._run_ahead(client, abs, [[1]], num_ahead=1))


def test_scheduler_that_is_not_there_is_an_error():
    with (
        pytest.raises(UserError, match="--scheduler: expected the address of a Dask scheduler"),
        Workers(scheduler="not an address"),
    ):
        pass


def test_negative_number_of_workers_is_an_error():
    with pytest.raises(UserError, match="--workers: expected 0 or more, got -1"):
        Workers(-1)
