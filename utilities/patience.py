"""A database that goes away for a while, starts anew or asks to slow down is waited for, and not in silence."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import tenacity

from utilities.errors import DatabaseNotReady, DatabaseUnreachable

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

#: Seconds before the second attempt, which double until they are `LONGEST_PAUSE`.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0


def patiently(call: Callable[[], Result], seconds: float, give_up: threading.Event | None = None) -> Result:
    """The result of a call, which is repeated for as long as Milvus is away, or not ready.

    That it is away is logged once, and that it is back.

    Args:
        call: something that may be done twice.
        seconds: how long, at the most.
        give_up: once it is set, no more waiting.

    Raises:
        DatabaseUnreachable, DatabaseNotReady: it still did not serve after that time.
        Exception: whatever else the call raises, at once.
    """
    give_up = give_up or threading.Event()

    away = False

    def say_once(state: tenacity.RetryCallState) -> None:
        nonlocal away
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, DatabaseUnreachable) and not away:
            away = True
            logger.warning("%s Waiting up to %g seconds for it.", error, seconds)

    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((DatabaseUnreachable, DatabaseNotReady)),
        wait=tenacity.wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
        stop=tenacity.stop_after_delay(seconds) | tenacity.stop_when_event_set(give_up),
        sleep=tenacity.sleep_using_event(give_up),
        before_sleep=say_once,
    )
    try:
        result = attempts(call)
    except tenacity.RetryError as failed:
        error = failed.last_attempt.exception()
        kind = DatabaseNotReady if isinstance(error, DatabaseNotReady) else DatabaseUnreachable
        raise kind(
            f"{error} It did not serve within {seconds:g} seconds; what was inserted stays, and the same command goes "
            "on from there."
        ) from error
    if away:
        logger.info("Milvus answers again.")
    return result
