"""Which of several processes this one is, as torchrun or Slurm's srun say it in the environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nnunet_triad.errors import UserError

_FIRST_PORT, _NUM_PORTS = 10_000, 20_000  # below those that systems give to outgoing connections


@dataclass(frozen=True, kw_only=True)
class Place:
    """One process among those that were started together."""

    rank: int
    size: int
    local_rank: int  # among those on this machine
    address: str  # of the machine of rank 0
    port: int  # there
    is_slurm: bool = False


def find_place(environment: Mapping[str, str]) -> Place | None:
    """Return this process's place; None when it is alone.

    WORLD_SIZE, as torchrun sets it, goes before what Slurm says, so that `WORLD_SIZE=1` trains in
    one process whatever Slurm has started.

    Source: torchrun's environment variables; the output variables of srun and sbatch.

    Args:
        environment: the variables, such as `os.environ`.

    Raises:
        UserError: a variable is missing or no number, or Slurm was asked for several tasks and
            `srun` was forgotten.
    """
    if "WORLD_SIZE" in environment:
        return _place_of_torchrun(environment)
    if _number(environment, "SLURM_STEP_NUM_TASKS", default=1) > 1:
        return _place_of_slurm(environment)
    # In a batch script the job's variables are there, and those of a step are not.
    num_tasks = _number(environment, "SLURM_NTASKS", default=1)
    is_step = "SLURM_STEP_NUM_TASKS" in environment
    if num_tasks > 1 and "SLURM_PROCID" in environment and not is_step:
        raise UserError(
            f"SLURM_NTASKS: expected srun to start each of the job's {num_tasks} tasks, got one "
            "process without it; put srun before the command, or set WORLD_SIZE=1 to train in one"
        )
    return None


def num_local(environment: Mapping[str, str]) -> int:
    """Return how many processes were started together on this machine; 1 where one is alone.

    Source: torchrun's LOCAL_WORLD_SIZE; srun's SLURM_STEP_TASKS_PER_NODE, such as "4(x2),3", of
    which the largest counts.

    Raises:
        UserError: LOCAL_WORLD_SIZE is no number.
    """
    if environment.get("LOCAL_WORLD_SIZE") or "WORLD_SIZE" in environment:
        return max(1, _number(environment, "LOCAL_WORLD_SIZE", default=1))
    counts = re.sub(r"\(x\d+\)", "", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return max([1, *map(int, re.findall(r"\d{1,12}", counts))])


def first_host(nodes: str) -> str:
    """Return the first name of Slurm's list, such as gpu-07 of "gpu-[07-09,12],login1"."""
    match = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    assert match is not None  # it may be empty
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", match[0])


def _place_of_torchrun(environment: Mapping[str, str]) -> Place | None:
    size = _number(environment, "WORLD_SIZE")
    if size == 1:
        return None
    return Place(
        rank=_number(environment, "RANK"),
        size=size,
        local_rank=_number(environment, "LOCAL_RANK"),
        address=_value(environment, "MASTER_ADDR"),
        port=_number(environment, "MASTER_PORT"),
    )


def _place_of_slurm(environment: Mapping[str, str]) -> Place:
    # Two steps of one machine need two ports.
    job = _number(environment, "SLURM_JOB_ID") + _number(environment, "SLURM_STEP_ID", default=0)
    address = environment.get("MASTER_ADDR") or first_host(
        _value(environment, "SLURM_STEP_NODELIST")
    )
    return Place(
        rank=_number(environment, "SLURM_PROCID"),
        size=_number(environment, "SLURM_STEP_NUM_TASKS"),
        local_rank=_number(environment, "SLURM_LOCALID"),
        address=address,
        port=_number(environment, "MASTER_PORT", default=_FIRST_PORT + job % _NUM_PORTS),
        is_slurm=True,
    )


def _value(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise UserError(
            f"{name}: expected a value, as torchrun and srun set it, got none; start the processes "
            "with one of them, or unset WORLD_SIZE"
        )
    return value


def _number(environment: Mapping[str, str], name: str, *, default: int | None = None) -> int:
    if default is not None and not environment.get(name):
        return default
    value = _value(environment, name)
    if not re.fullmatch(r"\d{1,12}", value):
        raise UserError(
            f"{name}: expected a whole number, as torchrun and srun set it, got {value}; unset it"
        )
    return int(value)
