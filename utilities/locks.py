"""One process at a time changes a collection, or writes a file that takes hours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from utilities.errors import CollectionBusy, LookalikeError
from utilities.settings import Settings


@contextlib.contextmanager
def only_writer(settings: Settings, collection: str) -> Iterator[None]:
    """Keep every other process with the same `LOOKALIKE_HOME` from changing a collection meanwhile.

    Readers are not kept out.

    Raises:
        CollectionBusy: another process holds it.
        LookalikeError: the home cannot be written.
    """
    path = settings.lock_path(collection)
    busy = f"Another process is loading into the collection {collection!r}, or deleting from it"
    with only_holder(path, busy, f"{settings.home} cannot be written", "say another --home"):
        yield


@contextlib.contextmanager
def only_holder(path: Path, busy: str, unwritable: str, instead: str) -> Iterator[None]:
    """Hold a lock; every other process that asks for it is refused meanwhile.

    The operating system gives the lock back when the process ends, however it ends; the empty file that remains means
    nothing.

    Args:
        path: of the lock; its directory is made.
        busy: what to say if another process holds it.
        unwritable: what to say if it cannot be made.
        instead: what to do then.

    Raises:
        CollectionBusy: another process holds it.
        LookalikeError: it cannot be made.
    """
    import filelock  # which a query, that changes nothing, starts without

    lock = filelock.FileLock(path, blocking=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise CollectionBusy(f"{busy}; wait until it ends (it holds {path}).") from error
    except OSError as error:
        raise LookalikeError(f"{unwritable}: {error.strerror}; {instead}.") from error
    try:
        yield
    finally:
        lock.release()
