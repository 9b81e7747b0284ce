"""SIGTERM, SIGUSR2 and Ctrl-C are remembered, and the handlers that were there come back."""

import os
import signal

import pytest

from nnunet_triad.training.stop_signal import EXIT_STOPPED, StopSignal


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_signal_is_remembered(number: signal.Signals):
    before = signal.getsignal(number)

    with StopSignal() as stop:
        assert not stop.is_requested
        send(number)
        assert stop.is_requested

    assert signal.getsignal(number) is before


def test_second_interrupt_is_one():
    with StopSignal(), pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
        send(signal.SIGINT)


def test_exit_code_asks_to_try_again():
    assert os.EX_TEMPFAIL == EXIT_STOPPED
