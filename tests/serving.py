"""A real `lookalike serve`, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

SECONDS_TO_START = 60


class Site:
    """A server, and a client that asks it."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log
        self.client = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def search(self, file: Path | bytes, collection: str = "colours", **options: Any) -> httpx.Response:
        content = file if isinstance(file, bytes) else file.read_bytes()
        name = "bytes" if isinstance(file, bytes) else file.name
        return self.client.post(f"/collections/{collection}/search", files={"file": (name, content)}, data=options)

    def ask(self, body: Mapping[str, Any], collection: str = "colours") -> httpx.Response:
        return self.client.post(f"/collections/{collection}/search", json=body)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextlib.contextmanager
def serving(home: Path, *options: str, **environment: str) -> Iterator[Site]:
    """A server over what lies in a home, at a port that was free."""
    command = [str(Path(sys.executable).with_name("lookalike")), "serve", "--port", "0", *options]
    log = home / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "LOOKALIKE_HOME": str(home), **environment},
        )
    try:
        site = Site(process, _address(process, log), log)
        with contextlib.closing(site.client):
            _wait_until_healthy(site)
            yield site
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        found = re.search(r"Serving at (http://\S+);", log.read_text())
        if found:
            return found[1].replace("0.0.0.0", "127.0.0.1")
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise TimeoutError(log.read_text())


def _wait_until_healthy(site: Site) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if site.client.get("/health").status_code == 200:
                return
        assert site.process.poll() is None, site.log.read_text()
        time.sleep(0.05)
    raise TimeoutError(site.log.read_text())


def run_lookalike(home: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, over a home."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("lookalike")), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "LOOKALIKE_HOME": str(home), **environment},
    )


#: How a tree is loaded: by an untrained MobileNetV2, or the faces in it by dlib's network.
COLOURS = ("--collection", "colours", "--backbone", "mobilenetv2", "--weights", "random")
FACES = ("--collection", "people", "--what", "faces")


def loaded_home(folder: Path, networks: Path, tree: Path, options: Sequence[str] = COLOURS, **environment: str) -> Path:
    """A home with a collection of a tree."""
    home = folder / "home"
    home.mkdir()
    (home / "networks").symlink_to(networks)
    result = run_lookalike(home, "load", tree, *options, **environment)
    assert result.returncode == 0, result.stderr
    return home


def id_of(home: Path, path: str) -> str:
    """The id that the id map has for a path."""
    rows = (home / "colours.csv").read_text().splitlines()
    return next(row.split(",")[0] for row in rows if f'"{path}"' in row)
