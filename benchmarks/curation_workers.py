"""Curation by two processes and by one: a tree of volumes from the first byte to the index.

python -m benchmarks.curation_workers [VOLUMES]
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.side_by_side import format_table, run_in_turn
from benchmarks.volumes import write_source
from pretraining.curation.runner import curate
from pretraining.curation.settings import QualityRules
from pretraining.curation.source import find_all
from pretraining.curation.workers import Workers
from pretraining.store import VolumeStore

NUM_VOLUMES = 96


def main(num_volumes: int) -> None:
    """Print the table; the processes have been started before the clock."""
    with tempfile.TemporaryDirectory() as name, Workers(1) as one, Workers(2) as two:
        folder = Path(name)
        first = write_source(folder / "source")
        for number in range(2, num_volumes + 1):
            shutil.copy(first, first.with_name(f"sub-001_run-{number}_T1w.nii.gz"))
        alternatives = {"2 workers": _curate(folder, two), "1 worker": _curate(folder, one)}
        timings = run_in_turn(
            alternatives,
            num_rounds=5,
            num_warmups=1,
            before=lambda _: shutil.rmtree(folder / "store", ignore_errors=True),
        )
    print(format_table(timings, ours="2 workers", targets={"1 worker": 1.8}))


def _curate(folder: Path, workers: Workers) -> Callable[[], None]:
    rules = QualityRules(reject_duplicates=False)

    def run() -> None:
        found = find_all(folder / "source", dataset="BENCHMARK", workers=workers)
        store = VolumeStore.create(folder / "store")
        curate(found, store, dataset="BENCHMARK", rules=rules, workers=workers)

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("volumes", type=int, nargs="?", default=NUM_VOLUMES)
    main(parser.parse_args().volumes)
