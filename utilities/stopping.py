"""Ctrl-C and SIGTERM: at once where nothing is under way, after the work in hand where something is."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from utilities.errors import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def raise_stopped_on_signals() -> None:
    """From now on both signals raise `Stopped` in the main thread, wherever it is."""
    for number in _SIGNALS:
        signal.signal(number, _raise_stopped)


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped("Stopped.", number)


class PutOff:
    """A block that the first of either signal does not interrupt, but only notes, for the block to look at.

    Whoever sends a second one does not want to wait: it has its usual effect. In any other thread than the main one,
    which alone receives signals, the block is a block.

    Example:
        >>> with PutOff() as stop:
        ...     for chunk in chunks:
        ...         insert(chunk)
        ...         if stop.signal:
        ...             break
    """

    def __init__(self) -> None:
        #: The signal that came; None as long as none did.
        self.signal: int | None = None
        #: Set as soon as one came, for threads that wait for something else.
        self.requested = threading.Event()
        self._usual: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> PutOff:
        if threading.current_thread() is threading.main_thread():
            self._usual = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.requested.set()
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)
        self._usual = {}
