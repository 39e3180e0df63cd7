"""Signals: at once, or after the work in hand."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from utilities.errors import Stopped
from utilities.stopping import PutOff, raise_stopped_on_signals


@pytest.fixture(autouse=True)
def _usual_handlers() -> Iterator[None]:
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in usual.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_once(number: signal.Signals, status: int) -> None:
    raise_stopped_on_signals()
    with pytest.raises(Stopped) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.exit_status == status
    assert not isinstance(stopped.value, Exception), "what expects failures must not catch it"


def test_the_first_signal_is_noted_and_the_second_obeyed() -> None:
    raise_stopped_on_signals()
    with PutOff() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        assert stop.requested.is_set()
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGINT)


def test_afterwards_signals_do_what_they_did_before() -> None:
    with PutOff():
        pass
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_another_thread_than_the_main_one_receives_no_signals() -> None:
    def enter() -> None:
        with PutOff() as stop:
            assert stop.signal is None
        entered.set()

    entered = threading.Event()
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered.is_set()
