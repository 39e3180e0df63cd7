"""Libraries that talk of their own accord are kept from it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def silent_standard_error() -> Iterator[None]:
    """Nothing that is written inside, by whatever code of this process, reaches standard error.

    One thread at a time: of two that overlapped, the last would put back what the first had put there.
    """
    with _one_at_a_time:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def warnings_and_worse() -> Iterator[None]:
    """Of what is logged inside, by whatever code, only warnings and errors are heard."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
