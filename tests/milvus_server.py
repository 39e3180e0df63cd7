"""The real Milvus server, without Docker: what PyPI's package `milvus` carries."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from utilities.errors import DatabaseError
from utilities.milvus_collections import list_collections
from utilities.milvus_connection import connect

#: The server's etcd takes this port, whatever the others are.
ETCD_PORT = 2380
SECONDS_TO_START = 180


class Server:
    """One that can be killed, and started again on what it left behind.

    Args:
        data: its directory.
        limits: settings of the server, by their names in the environment.
    """

    def __init__(self, data: Path, limits: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.limits = dict(limits or {})
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of a wrapper, whose children are the server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # The port of a server that was killed is free again when the last of its connections is forgotten, in a minute;
        # until then milvus-server takes another port, and does not say so.
        _wait(lambda: _can_be_bound(self.port), f"port {self.port} is not free")
        if _is_taken(ETCD_PORT):
            raise RuntimeError(f"port {ETCD_PORT} is taken, perhaps by another Milvus server; end that one first")
        self.data.mkdir(parents=True, exist_ok=True)
        program = [str(Path(sys.executable).with_name("milvus-server")), "--data", str(self.data)]
        with (self.data / "output.txt").open("a") as output:
            # milvus-server is a wrapper: a process group of its own lets us end the server that it starts, too.
            self._process = subprocess.Popen(
                [*program, "--proxy-port", str(self.port)],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.limits},
            )
        _wait(self._answers, "milvus-server does not answer")

    def kill(self) -> None:
        """End it with all its processes, as a power cut would."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # The wrapper has ended; what it had started takes a moment longer.
        _wait(lambda: not _is_taken(ETCD_PORT), "the server that was killed still runs")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError("milvus-server ended at its start")
        try:
            # pymilvus keeps a connection, so that only a question shows whether someone is there.
            list_collections(connect(self.uri))
        except DatabaseError:
            return False
        return True


def _wait(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.2)


def _can_be_bound(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _is_taken(port: int) -> bool:
    with socket.socket() as listener:
        return listener.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running_server(data: Path, limits: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server, which is ended with all its processes."""
    server = Server(data, limits)
    try:
        server.start()
        yield server
    finally:
        server.kill()
