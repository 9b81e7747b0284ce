"""Where a command's long work begins: the one place that says what the fuzz tests leave out.

All that a command does before (options, files, settings, manifests, models) is real. `Started`
is no `Exception`, so that no handler in the code takes it for a failure.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest

WORK = (
    # simulation of a subject, and of the trees that need several
    "nnunet_triad.phantom.population.make_subject",
    "nnunet_triad.phantom.writers.classification.icbm_t1",
    "nnunet_triad.phantom.writers.classification.make_subject",
    "nnunet_triad.phantom.writers.registration.icbm_t1",
    "nnunet_triad.phantom.writers.picture.icbm_t1",
    "nnunet_triad.phantom.writers.brats21.channels_of",
    "nnunet_triad.phantom.writers.nnunet_raw.channels_of",
    "nnunet_triad.phantom.population.acquire",
    "nnunet_triad.phantom.population.icbm_t1",
    "tests.layouts.write_layout",
    # the demo's and the quickstart's programs
    "nnunet_triad.demo.cli.run_steps",
    "nnunet_triad.quickstart.cli.run_steps",
    # an encoder's passes
    "nnunet_triad.features.commands.extract",
    "nnunet_triad.features.commands.run_probe",
    # programs and jobs of the benchmark
    "nnunet_triad.benchmark.progress.run_locally",
    "nnunet_triad.benchmark.progress.submit_to_slurm",
    # resampling of a whole tree, processes and schedulers, a table of 80 MB, the download
    "pretraining.curation.runner.curate",
    "pretraining.curation.workers._connect",
    "pretraining.curation.fetch.pd.read_parquet",
    # traced networks
    "nnunet_triad.export.networks.export_onnx",
    "nnunet_triad.export.networks.export_torchscript",
    "nnunet_triad.export.nnunet_zip.export_nnunet",
    # sentence models
    "pretraining.text_embeddings.SentenceModel.load",
    # trainings, their dry runs, and predictions
    "pretraining.loop.pretrain",
    "pretraining.dry_run.measure",
    "classification.commands.train",
    "classification.commands.measure",
    "classification.commands.predict_samples",
    "registration.loop.train",
    "registration.dry_run.measure",
    "registration.apply_command.register",
    "registration.evaluate_command.score_pairs",
    # the hub, other machines, other programs
    "huggingface_hub.snapshot_download",
    "huggingface_hub.hf_hub_download",
    "huggingface_hub.HfApi",
)


class Started(BaseException):  # nothing went wrong
    """The arguments were good: the command began its work."""


def _start(*_: Any, **__: Any) -> Any:
    raise Started


@contextmanager
def no_long_work() -> Iterator[None]:
    """Replace each of `WORK` by a function that says that it was reached."""
    with pytest.MonkeyPatch.context() as patch:
        for target in WORK:
            patch.setattr(target, _start)
        workers = import_module("pretraining.curation.workers")
        patch.setattr(workers.Workers, "_start", lambda self, number: None)
        patch.setattr(os, "fsync", lambda descriptor: None)  # nothing here is to survive a crash
        patch.setattr(subprocess, "Popen", _start)
        patch.setattr(socket.socket, "connect", _start)
        yield
