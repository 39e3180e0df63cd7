"""`make soak`: loads that are killed, hundreds of times, and files that are broken, thousands of them, in figures.

The same rounds, fewer of them, are tests: `tests/test_crashes.py` and `tests/test_bad_input.py`.
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pymilvus import MilvusClient

from tests.bad_files import draw_bad_files
from tests.milvus_server import Server, running_server
from utilities.drawn_images import CATEGORIES, draw_tree
from utilities.embedder import load_embedder
from utilities.id_map import IdMap
from utilities.items import item_id
from utilities.milvus_utilities import connect, count_items, drop_collection, find_collection, read_items
from utilities.settings import Settings

ROUNDS, BAD_FILES = 200, 3_000
#: Images of each of the drawn categories, for loads that take a second or two, and for those that take long enough for
#: something to happen to them.
SHORT_LOAD, LONG_LOAD = 15, 100
IMAGES_OF_A_LONG_LOAD = len(CATEGORIES) * LONG_LOAD
#: Kills of one round, after which the load may end.
KILLS = 3


@dataclass
class Outcome:
    """What became of the loads of several rounds."""

    kills: int = 0
    #: Rows of the tree that Milvus or the id map lacked at a round's end.
    lost: int = 0
    #: Rows that were there more than once, or that the tree does not have.
    doubled: int = 0
    #: Rounds after which the id map was not, to the byte, that of a load which nobody killed.
    other_bytes: int = 0
    #: Kills that came when some images were in, and others not.
    halfway: int = 0
    #: Rows that the id map named after a kill, although Milvus did not hold them.
    ahead: int = 0


def killed_loads(scratch: Path, networks: Path, milvus_uri: str | None, rounds: int, seed: int) -> Outcome:
    """Load a tree again and again, each time killed at random moments and begun anew until it ends.

    Args:
        scratch: a directory.
        networks: exported networks, MobileNetV2 with random weights among them.
        milvus_uri: of a server; None for an embedded database of each round's own.
        rounds: how many loads that end.
        seed: of the moments.
    """
    chance = random.Random(seed)
    tree = scratch / "tree"
    paths = paths_of(tree, SHORT_LOAD)
    settings = _home(scratch / "undisturbed", networks, milvus_uri)
    durations = []
    for _ in range(2):
        start = time.monotonic()
        assert _load(tree, settings).wait() == 0
        durations.append(time.monotonic() - start)
    written = settings.id_map_path("tree").read_bytes()
    outcome = Outcome()
    for number in range(rounds):
        if milvus_uri:
            _drop(settings)
        settings = _home(scratch / f"round_{number}", networks, milvus_uri)
        for _ in range(chance.randint(1, KILLS)):
            process = _load(tree, settings)
            if chance.random() < 0.5:
                after, rows = chance.uniform(0.5 * min(durations), max(durations)), len(paths)
            else:
                after, rows = 60.0, chance.randint(0, len(paths) - 1)
            if _killed(process, settings, after, rows):
                outcome.kills += 1
                _look(outcome, len(paths), settings)
        assert _load(tree, settings).wait() == 0
        client = connect(settings=settings)
        try:
            _count(outcome, paths, settings, client)
        finally:
            client.close()
        outcome.other_bytes += settings.id_map_path("tree").read_bytes() != written
    if milvus_uri:
        _drop(settings)
    return outcome


def _killed(process: subprocess.Popen[bytes], settings: Settings, after: float, rows: int) -> bool:
    """Kill a load after some seconds, or as soon as it has more than some rows; False if it ended before."""
    deadline = time.monotonic() + after
    id_map = settings.id_map_path("tree")
    while process.poll() is None:
        if time.monotonic() > deadline or _lines(id_map) - 1 > rows:
            process.kill()
            process.wait()
            return True
        time.sleep(0.005)
    return False


def killed_server(scratch: Path, networks: Path, server: Server, kills: int, seed: int) -> tuple[Outcome, str]:
    """Load a tree while the server is killed and started again; returns what became of it, and what the load said."""
    chance = random.Random(seed)
    tree = scratch / "tree"
    paths = paths_of(tree, LONG_LOAD)
    settings = _home(scratch / "home", networks, server.uri)
    process = _load(tree, settings, stderr=subprocess.PIPE)
    outcome = Outcome()
    id_map = settings.id_map_path("tree")
    deadline = time.monotonic() + 600
    for _ in range(kills):
        wanted = _lines(id_map) + chance.randint(1, len(paths) // (kills + 1))
        while process.poll() is None and time.monotonic() < deadline and _lines(id_map) <= wanted:
            time.sleep(0.02)
        if process.poll() is not None:
            break
        server.kill()
        server.start()
        outcome.kills += 1
    _, said = process.communicate()
    assert process.returncode == 0, said
    client = connect(settings=settings)
    _count(outcome, paths, settings, client)
    drop_collection(client, "tree")
    client.close()
    return outcome, said.decode()


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _look(outcome: Outcome, images: int, settings: Settings) -> None:
    """What a kill has left behind; the embedded database is left alone, since this process would go on holding it."""
    rows = IdMap(settings.id_map_path("tree")).read()
    outcome.halfway += 0 < len(rows) < images
    if settings.milvus_uri and len(rows):
        client = connect(settings=settings)
        outcome.ahead += len(set(rows["id"]).difference(read_items(client, "tree")["id"]))
        client.close()


def _count(outcome: Outcome, paths: list[str], settings: Settings, client: MilvusClient) -> None:
    rows = IdMap(settings.id_map_path("tree")).read()
    stored = read_items(client, "tree")
    for found in (stored, rows):
        there = set(zip(found["id"], found["path"], strict=True))
        outcome.lost += len({(item_id(path), path) for path in paths}.difference(there))
        outcome.doubled += len(found) - len(set(found["path"]).intersection(paths))
    outcome.doubled += max(0, count_items(client, "tree") - len(paths))


def paths_of(tree: Path, per_category: int) -> list[str]:
    """The paths of a tree that is drawn unless it is there."""
    assert draw_tree(tree, per_category=per_category) == len(CATEGORIES) * per_category
    return sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.jpg"))


def _home(home: Path, networks: Path, milvus_uri: str | None) -> Settings:
    home.mkdir(parents=True)
    (home / "networks").symlink_to(networks)
    return Settings(home=home, milvus_uri=milvus_uri)


def _drop(settings: Settings) -> None:
    client = connect(settings=settings)
    if find_collection(client, "tree"):
        drop_collection(client, "tree")
    client.close()


def load_command(tree: Path) -> list[str]:
    """What loads a tree, with a network that is small and at hand."""
    program = str(Path(sys.executable).with_name("lookalike"))
    return [program, "load", str(tree), "--backbone", "mobilenetv2", "--weights", "random"]


def environment(settings: Settings) -> dict[str, str]:
    """What tells a process of these settings."""
    found = {**os.environ, "LOOKALIKE_HOME": str(settings.home)}
    return {**found, "MILVUS_URI": settings.milvus_uri} if settings.milvus_uri else found


def _load(tree: Path, settings: Settings, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(load_command(tree), env=environment(settings), stdout=subprocess.DEVNULL, stderr=stderr)


def load_bad_files(scratch: Path, networks: Path, count: int, seed: int = 0) -> tuple[int, int, int]:
    """Load a tree of broken files in a process of its own.

    Returns:
        Its exit status, how many files were inserted, and how many are listed as failed.
    """
    tree = scratch / "bad"
    draw_bad_files(tree, count, seed)
    settings = _home(scratch / "bad_home", networks, None)
    status = _load(tree, settings).wait()
    inserted = len(IdMap(settings.id_map_path("bad")).read())
    failures = settings.failures_path("bad")
    failed = len(_rows(failures)) if failures.exists() else 0
    return status, inserted, failed


def _rows(file: Path) -> list[list[str]]:
    with file.open(newline="") as opened:
        return list(csv.reader(opened))[1:]


def main(rounds: int = ROUNDS, bad_files: int = BAD_FILES) -> None:
    """Run everything, and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        load_embedder("mobilenetv2", "random", Settings(home=scratch / "networks_home"))
        networks = scratch / "networks_home" / "networks"
        lines: list[tuple[str, Outcome]] = [
            ("load killed, Milvus Lite", killed_loads(scratch / "lite", networks, None, rounds, seed=1))
        ]
        with running_server(scratch / "server_data") as server:
            lines.append(
                ("load killed, Milvus server", killed_loads(scratch / "server", networks, server.uri, rounds, seed=2))
            )
            outcome, _ = killed_server(scratch / "fault", networks, server, kills=5, seed=3)
            lines.append(("server killed", outcome))
        status, inserted, failed = load_bad_files(scratch, networks, bad_files)
    for name, each in lines:
        print(
            f"{name + ':':<28} {each.kills:>5,} kills survived ({each.halfway:,} halfway), {each.lost} rows lost,",
            f"{each.doubled} rows doubled, {each.ahead} ahead of Milvus, {each.other_bytes} id maps with other bytes",
        )
    print(
        f"{'broken files:':<28} {bad_files:>5,} tried, {inserted:,} inserted, {failed:,} listed as failed, "
        f"{bad_files - inserted - failed} unaccounted for, {int(status not in (0, 1))} crashes"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
