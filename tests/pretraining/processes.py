"""`triad-pretrain` in processes of its own, forked from a server that has imported it before."""

import functools
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch import Tensor

_CONTEXT = multiprocessing.get_context("forkserver")
_MODULES = ["pretraining.pretrain_cli", "pretraining.dry_run", "pretraining.loop"]


def start_command(
    arguments: Sequence[str],
    printed: Path,
    *,
    variables: Mapping[str, str] | None = None,
    die_at_sync: int | None = None,
) -> BaseProcess:
    """Start triad-pretrain.

    Args:
        arguments: of the command.
        printed: receives what it prints.
        variables: of its environment.
        die_at_sync: the process kills itself in that atomic write, counted from 1, when all is
            written and not yet renamed.
    """
    _CONTEXT.set_forkserver_preload(_MODULES)
    process = _CONTEXT.Process(
        target=_run_command, args=(list(arguments), printed, dict(variables or {}), die_at_sync)
    )
    process.start()
    return process


def run_command(arguments: Sequence[str], printed: Path, **options: int) -> int:
    """Run triad-pretrain to its end; return its exit code, negative for a signal."""
    process = start_command(arguments, printed, **options)
    return wait(process)


def wait(process: BaseProcess) -> int:
    """Wait for the end of a process; return its exit code."""
    process.join(timeout=600)
    assert process.exitcode is not None
    return process.exitcode


def run_in_two_processes(arguments: Sequence[str], printed: Path) -> tuple[int, int]:
    """Run triad-pretrain as torchrun does it, with two processes; return their exit codes."""
    ranks = [
        start_command(arguments, printed.with_suffix(f".{rank}"), variables=variables)
        for rank, variables in enumerate(_variables_of_two_ranks())
    ]
    return wait(ranks[0]), wait(ranks[1])


def gather_in_two_processes(visual: Tensor, text: Tensor, folder: Path) -> list[dict[str, Tensor]]:
    """Compute the log-ratio loss with half of the rows in each of two processes.

    Returns:
        For each process the loss, and the gradient of its rows of `visual`.
    """
    _CONTEXT.set_forkserver_preload(_MODULES)
    ranks = []
    for rank, variables in enumerate(_variables_of_two_ranks()):
        rows = slice(rank * len(visual) // 2, (rank + 1) * len(visual) // 2)
        path = folder / f"rank{rank}.pt"
        arguments = (visual[rows].tolist(), text[rows].tolist(), path, variables)
        ranks.append(_CONTEXT.Process(target=_gather, args=arguments))
        ranks[-1].start()
    assert [wait(rank) for rank in ranks] == [0, 0]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def _variables_of_two_ranks() -> list[dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    return [
        {**address, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
        for rank in (0, 1)
    ]


def wait_for_rows(log: Path, number: int, process: BaseProcess) -> None:
    """Wait until a log has that many rows, or its process has ended."""
    while process.is_alive():
        if log.exists() and log.read_text(encoding="utf-8").count("\n") > number:
            return
        time.sleep(0.005)


def _run_command(
    arguments: list[str], printed: Path, variables: dict[str, str], die_at_sync: int | None
) -> None:
    from pretraining import pretrain_cli

    os.environ.update(variables)
    torch.set_num_threads(1)
    torch.compile = functools.partial(torch.compile, backend="aot_eager")  # soon done
    with printed.open("w", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        if die_at_sync is not None:
            _die_at_sync(die_at_sync)
        sys.argv = ["triad-pretrain", *arguments]
        pretrain_cli.main()


def _gather(
    visual: list[list[float]], text: list[list[float]], path: Path, variables: dict[str, str]
) -> None:
    from nnunet_triad.training.distributed import gather_with_gradient, join_process_group
    from pretraining.objectives.parts.log_ratio_loss import log_ratio_loss

    os.environ.update(variables)
    with join_process_group("cpu"):
        own = torch.tensor(visual, requires_grad=True)
        loss = log_ratio_loss(gather_with_gradient(own), gather_with_gradient(torch.tensor(text)))
        loss.backward()
        torch.save({"loss": loss.detach(), "gradient": own.grad}, path)


def _die_at_sync(number: int) -> None:
    from nnunet_triad import files

    num_calls = 0

    def count(path: Path) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == number:
            os.kill(os.getpid(), signal.SIGKILL)

    files._sync = count
