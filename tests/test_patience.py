"""Waiting for a database: as long as was said, not in silence, and not for what waiting does not mend."""

from __future__ import annotations

import logging
import threading

import pytest

from utilities.errors import DatabaseError, DatabaseNotReady, DatabaseUnreachable
from utilities.patience import patiently


class Away:
    """Fails a number of times, then answers."""

    def __init__(self, times: int, error: type[DatabaseError] = DatabaseUnreachable) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error("It is away.")
        return "here"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utilities.patience.FIRST_PAUSE", 0.001)


def test_what_comes_back_is_waited_for_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert patiently(Away(5), 60) == "here"
    assert caplog.messages == ["It is away. Waiting up to 60 seconds for it.", "Milvus answers again."]


def test_a_server_that_is_not_ready_is_waited_for_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert patiently(Away(5, DatabaseNotReady), 60) == "here"
    assert caplog.messages == []


def test_patience_ends() -> None:
    with pytest.raises(DatabaseUnreachable, match=r"It is away\. It was waited for 0 seconds; what was"):
        patiently(Away(10**9), 0.05)


def test_other_errors_are_not_waited_for() -> None:
    call = Away(1, DatabaseError)
    with pytest.raises(DatabaseError, match=r"^It is away\.$"):
        patiently(call, 60)
    assert call.calls == 1


def test_who_is_in_a_hurry_does_not_wait_for_what_is_away() -> None:
    hurry = threading.Event()
    threading.Timer(0.1, hurry.set).start()
    with pytest.raises(DatabaseUnreachable):
        patiently(Away(10**9), 600, hurry)


def test_who_is_in_a_hurry_waits_a_little_for_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry = threading.Event()
    hurry.set()
    assert patiently(Away(5, DatabaseNotReady), 600, hurry) == "here"
    monkeypatch.setattr("utilities.patience.SECONDS_IN_HURRY", 0.01)
    with pytest.raises(DatabaseNotReady):
        patiently(Away(10**9, DatabaseNotReady), 600, hurry)
