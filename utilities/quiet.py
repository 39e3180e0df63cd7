"""Libraries that write to standard error from below Python are kept from it."""

from __future__ import annotations

import contextlib
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
