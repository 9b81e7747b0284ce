"""Which process this is, from the variables that torchrun and Slurm set."""

import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.training.launcher import find_place, first_host, num_local

TORCHRUN = {
    **{"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1"},
    **{"MASTER_ADDR": "node1", "MASTER_PORT": "29500"},
}
JOB = {"SLURM_JOB_ID": "1234567", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = {
    **JOB,
    **{"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NODELIST": "gpu-[07-08]"},
    **{"SLURM_PROCID": "5", "SLURM_LOCALID": "1"},
}


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({}, 1),
        ({"LOCAL_WORLD_SIZE": ""}, 1),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "4"}, 4),
        (JOB, 1),  # without srun
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, 4),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "2,3(x12)"}, 3),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "4(x2)", "WORLD_SIZE": "1"}, 1),
    ],
)
def test_processes_of_one_machine_are_those_that_the_launcher_counts(variables, count):
    assert num_local(variables) == count


@pytest.mark.parametrize(
    ("nodes", "first"),
    [  # as `scontrol show hostnames` expands them
        ("gpu-[07-09,12],login1", "gpu-07"),
        ("gpu-[3,5-6]", "gpu-3"),
        ("alpha,beta", "alpha"),
        ("rack[1-2]node[01-04],x", "rack1node01"),
        ("n[12-13]-ib0", "n12-ib0"),
        ("single", "single"),
    ],
)
def test_first_host_of_a_compressed_list(nodes: str, first: str):
    assert first_host(nodes) == first


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1"}, {**STEP, "WORLD_SIZE": "1"}])
def test_process_alone_has_no_place(environment: dict[str, str]):
    assert find_place(environment) is None


def test_place_among_those_of_torchrun():
    place = find_place({**STEP, **TORCHRUN})  # torchrun within a task of Slurm goes before it

    assert place is not None
    assert (place.rank, place.size, place.local_rank) == (5, 8, 1)
    assert (place.address, place.port, place.is_slurm) == ("node1", 29500, False)


def test_place_among_the_tasks_of_a_step():
    place = find_place(STEP)

    assert place is not None
    assert (place.rank, place.size, place.local_rank) == (5, 8, 1)
    assert (place.address, place.is_slurm) == ("gpu-07", True)
    assert 10_000 <= place.port < 30_000


def test_ports_are_the_same_in_a_step_and_others_in_another():
    places = [
        find_place({**STEP, **changes})
        for changes in ({}, {"SLURM_PROCID": "2"}, {"SLURM_STEP_ID": "1"}, {"SLURM_JOB_ID": "8"})
    ]
    ports = [place.port for place in places if place]
    assert ports[0] == ports[1]
    assert len(set(ports)) == 3


def test_address_and_port_may_be_given():
    place = find_place({**STEP, "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "4000"})
    assert place is not None
    assert (place.address, place.port) == ("10.0.0.7", 4000)


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_NTASKS": "8", "SLURM_JOB_ID": "1"},  # a shell of salloc
        {**JOB, "SLURM_NTASKS": "1"},  # a batch script of one task
        {**JOB, "SLURM_STEP_NUM_TASKS": "1"},  # one task of a larger job
    ],
)
def test_one_task_of_slurm_is_alone(environment: dict[str, str]):
    assert find_place(environment) is None


def test_batch_script_without_srun_is_refused():
    with pytest.raises(UserError, match="SLURM_NTASKS: expected srun to start each of the job's 8"):
        find_place(JOB)


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_missing_variable_is_named(name: str):
    environment = {key: value for key, value in TORCHRUN.items() if key != name}
    with pytest.raises(UserError, match=rf"^{name}: expected a value, as torchrun and srun set it"):
        find_place(environment)


@pytest.mark.parametrize("value", ["two", "-1", "1.5", " "])
def test_variable_that_is_no_number_is_named(value: str):
    with pytest.raises(UserError, match=r"^WORLD_SIZE: expected a whole number"):
        find_place({**TORCHRUN, "WORLD_SIZE": value})
