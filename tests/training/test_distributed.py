"""One process alone: the operations of many leave its values as they are."""

import pytest
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.training.distributed import (
    average,
    gather_with_gradient,
    is_any,
    is_same,
    join_process_group,
    wait_for_all,
)


def test_one_process_is_a_group_of_its_own():
    with join_process_group("cpu") as group:
        assert (group.rank, group.size, group.is_main) == (0, 1, True)
        values = torch.tensor([1.0, 2.0], requires_grad=True)
        assert gather_with_gradient(values) is values
        assert torch.equal(average(values), values)
        assert not average(values).requires_grad
        assert is_any(True, group.device) and not is_any(False, group.device)
        assert is_same(3, group.device)
        wait_for_all()


@pytest.mark.parametrize("device", ["tpu", "mps"])
def test_device_that_is_not_there_is_a_clear_error(device: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    with (
        pytest.raises(UserError, match=f"device: expected one that .*cpu.* got {device}; choose"),
        join_process_group(device),
    ):
        pass
