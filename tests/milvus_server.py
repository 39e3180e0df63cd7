"""The real Milvus server, without Docker: what PyPI's package `milvus` carries."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from utilities.errors import DatabaseUnreachable
from utilities.milvus_connection import connect

#: The server's etcd takes this port, whatever the others are.
ETCD_PORT = 2380
SECONDS_TO_START = 180


@dataclass(frozen=True)
class Server:
    """One that runs."""

    uri: str
    #: Of a wrapper, whose children are the server.
    pid: int


@contextlib.contextmanager
def running_server(data: Path) -> Iterator[Server]:
    """Start a server, and end it with all its processes."""
    with socket.socket() as listener:
        if listener.connect_ex(("127.0.0.1", ETCD_PORT)) == 0:
            raise RuntimeError(f"port {ETCD_PORT} is taken, perhaps by another Milvus server; end that one first")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    data.mkdir(parents=True, exist_ok=True)
    with (data / "output.txt").open("w") as output:
        # milvus-server is a wrapper: a process group of its own lets us end the server that it starts, too.
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("milvus-server")), "--data", str(data), "--proxy-port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(uri, process)
        yield Server(uri, process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_up(uri: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        if process.poll() is not None:
            raise RuntimeError("milvus-server ended at its start")
        try:
            connect(uri).close()
            return
        except DatabaseUnreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
