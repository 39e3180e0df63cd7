"""A database that goes away for a while, starts anew or asks to slow down is waited for, and not in silence."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from utilities.errors import DatabaseNotReady, DatabaseUnreachable

if TYPE_CHECKING:
    import tenacity

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

#: Seconds before the second attempt, which double until they are `LONGEST_PAUSE`.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
#: How long someone who wants to stop waits for a Milvus that is there.
SECONDS_IN_HURRY = 10


def patiently(call: Callable[[], Result], seconds: float, hurry: threading.Event | None = None) -> Result:
    """The result of a call, which is repeated for as long as Milvus is away, or not ready.

    That it is away is logged once, and that it is back.

    Args:
        call: something that may be done twice.
        seconds: how long, at the most.
        hurry: once it is set, a Milvus that is away is not waited for, one that is not ready for `SECONDS_IN_HURRY`.

    Raises:
        DatabaseUnreachable, DatabaseNotReady: it still did not serve after that time.
        Exception: whatever else the call raises, at once.
    """
    import tenacity  # which a query, that waits for nobody, starts without

    away = False

    def say_once(state: tenacity.RetryCallState) -> None:
        nonlocal away
        error = _error(state)
        if isinstance(error, DatabaseUnreachable) and not away:
            away = True
            logger.warning("%s Waiting up to %g seconds for it.", error, seconds)

    def time_is_up(state: tenacity.RetryCallState) -> bool:
        most = seconds
        if hurry is not None and hurry.is_set():
            most = 0 if isinstance(_error(state), DatabaseUnreachable) else min(seconds, SECONDS_IN_HURRY)
        return (state.seconds_since_start or 0) >= most

    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((DatabaseUnreachable, DatabaseNotReady)),
        wait=tenacity.wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
        stop=time_is_up,
        before_sleep=say_once,
    )
    start = time.monotonic()
    try:
        result = attempts(call)
    except tenacity.RetryError as failed:
        error = failed.last_attempt.exception()
        kind = DatabaseNotReady if isinstance(error, DatabaseNotReady) else DatabaseUnreachable
        raise kind(
            f"{error} It was waited for {time.monotonic() - start:.0f} seconds; what was inserted stays, and the same "
            "command goes on from there."
        ) from error
    if away:
        logger.info("Milvus answers again.")
    return result


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
