"""One process at a time changes a collection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from utilities.errors import CollectionBusy, LookalikeError
from utilities.settings import Settings


@contextlib.contextmanager
def only_writer(settings: Settings, collection: str) -> Iterator[None]:
    """Keep every other process with the same `LOOKALIKE_HOME` from changing a collection meanwhile.

    The operating system gives the lock back when the process ends, however it ends; the empty file that remains means
    nothing. Readers are not kept out.

    Raises:
        CollectionBusy: another process holds it.
        LookalikeError: the home cannot be written.
    """
    import filelock  # which a query, that changes nothing, starts without

    path = settings.lock_path(collection)
    lock = filelock.FileLock(path, blocking=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise CollectionBusy(
            f"Another process is loading into the collection {collection!r}, or deleting from it; wait until it ends "
            f"(it holds {path})."
        ) from error
    except OSError as error:
        raise LookalikeError(f"{settings.home} cannot be written: {error.strerror}; say another --home.") from error
    try:
        yield
    finally:
        lock.release()
