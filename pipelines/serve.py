"""Serve: a search page and an API over collections, until someone stops it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from utilities.errors import CollectionNotFound, InvalidArgument, LookalikeError, MissingPackage, Stopped
from utilities.milvus_connection import is_server
from utilities.milvus_utilities import connect, describe_collection, list_collections
from utilities.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

logger = logging.getLogger(__name__)

#: Seconds that requests in hand have to be answered once the server is to stop.
SECONDS_TO_STOP = 30
#: Where the processes of one server read what they are to serve.
_COLLECTION, _HOST = "LOOKALIKE_SERVED_COLLECTION", "LOOKALIKE_SERVED_HOST"
_MULTIPROCESS_METRICS = "PROMETHEUS_MULTIPROC_DIR"


def run(
    *,
    collection: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    settings: Settings | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is in hand and return.

    Args:
        collection: the only one to serve; all by default.
        host: address to listen at; the default lets this machine alone ask.
        port: where; 0 takes one that is free.
        workers: processes; more than one need a Milvus server.
        settings: limits and places; from the environment by default.

    Raises:
        MissingPackage: what a server needs is not installed.
        InvalidArgument: several processes over an embedded database, or an origin that is none.
        CollectionNotFound: no such collection.
        LookalikeError: the port is taken, or the address is not this machine's.
        DatabaseError: Milvus does not answer.
    """
    settings = settings or Settings.load()
    try:
        import uvicorn
        from uvicorn.config import STARTUP_FAILURE
        from uvicorn.supervisors import Multiprocess

        from utilities.web.guard import is_loopback, parse_origins
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"The server needs {error.name}, which is not installed; `.venv/bin/pip install -e '.[web]'` installs it."
        ) from error
    parse_origins(settings.cors_origins)
    if workers > 1 and not is_server(settings.database_uri):
        raise InvalidArgument(
            "The embedded database belongs to one process; leave out --workers, or set MILVUS_URI to a server."
        )
    _check(collection, settings)
    with _listen(host, port) as listener, _environment(settings, collection, host, workers):
        config = uvicorn.Config(
            f"{__name__}:app_of_environment",
            factory=True,
            workers=workers,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=SECONDS_TO_STOP,
            server_header=False,
        )
        if settings.api_token is None and not is_loopback(host):
            logger.warning("Whoever reaches %s may search and see every image; --token asks for one.", host)
        address = f"[{host}]" if ":" in host else host
        logger.info("Serving at http://%s:%d; Ctrl-C stops.", address, listener.getsockname()[1])
        failed = False
        with contextlib.suppress(Stopped):  # uvicorn has answered what was in hand, and passes the signal on.
            if workers > 1:
                with _signals_as_before():
                    supervisor = Multiprocess(config, sockets=[listener])
                    supervisor.run()
                failed = any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes)
            else:
                try:
                    uvicorn.Server(config).run(sockets=[listener])
                except SystemExit:
                    failed = True
        if failed:
            raise LookalikeError("The server did not start; what is said above is why.")


def app_of_environment() -> ASGIApp:
    """The application of one of the server's processes."""
    from utilities.web.app import create_app

    return create_app(Settings.load(), collection=os.environ.get(_COLLECTION), host=os.environ[_HOST])


def _check(collection: str | None, settings: Settings) -> None:
    """Say what is wrong before a process is started that could only say it in a traceback."""
    client = connect(settings=settings, must_exist=True)
    names = [collection] if collection else list_collections(client)
    if not names:
        raise CollectionNotFound(f"There is no collection in {settings.database} yet; `lookalike load DIR` makes one.")
    describe_collection(client, names[0])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise LookalikeError(
            f"Port {port} of {host} cannot be listened at: {reason}; say another --port or --host."
        ) from error


@contextlib.contextmanager
def _signals_as_before() -> Iterator[None]:
    """Put back what happens on signals, which uvicorn's supervisor leaves as it needs them."""
    usual = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for number, handler in usual.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextlib.contextmanager
def _environment(settings: Settings, collection: str | None, host: str, workers: int) -> Iterator[None]:
    """What the server's processes inherit: the settings, and where they add up their figures."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="lookalike-metrics-") as folder:
        os.environ.update(settings.environment())
        os.environ[_HOST] = host
        if collection:
            os.environ[_COLLECTION] = collection
        if workers > 1:
            os.environ[_MULTIPROCESS_METRICS] = folder
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
