"""Loads that are killed, and a server that is: whatever the moment, nothing is lost and nothing doubles."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests import soak
from tests.milvus_server import Server, running_server
from utilities.id_map import IdMap
from utilities.milvus_utilities import connect, count_items, create_collection, drop_collection, insert_embeddings
from utilities.settings import Settings

ROUNDS = 15
ONE_MEBIBYTE_A_SECOND = {
    "QUOTAANDLIMITS_DML_ENABLED": "true",
    "QUOTAANDLIMITS_DML_UPSERTRATE_MAX": "1",
    "QUOTAANDLIMITS_DML_UPSERTRATE_COLLECTION_MAX": "1",
}


def test_loads_that_are_killed_with_the_embedded_database(tmp_path: Path, networks: Path) -> None:
    outcome = soak.killed_loads(tmp_path, networks, None, ROUNDS, seed=11)
    assert outcome.kills >= ROUNDS // 2
    assert outcome.halfway >= 2
    assert (outcome.lost, outcome.doubled, outcome.ahead, outcome.other_bytes) == (0, 0, 0, 0)


@pytest.mark.usefixtures("server")
def test_loads_that_are_killed_beside_a_server(tmp_path: Path, networks: Path, milvus_server: str) -> None:
    outcome = soak.killed_loads(tmp_path, networks, milvus_server, ROUNDS, seed=12)
    assert outcome.kills >= ROUNDS // 2
    assert outcome.halfway >= 2
    assert (outcome.lost, outcome.doubled, outcome.ahead, outcome.other_bytes) == (0, 0, 0, 0)


@pytest.mark.usefixtures("server")
def test_a_server_that_is_killed_in_mid_load_is_waited_for(
    tmp_path: Path, networks: Path, milvus_server_process: Server
) -> None:
    outcome, said = soak.killed_server(tmp_path, networks, milvus_server_process, kills=1, seed=13)
    assert outcome.kills == 1
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert said.count("Waiting up to 300 seconds for it.") == 1
    assert said.count("Milvus answers again.") == 1


@pytest.mark.usefixtures("server")
def test_a_server_that_is_gone_for_good_ends_the_load_and_keeps_what_was_done(
    tmp_path: Path, networks: Path, milvus_server_process: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_SERVER_PATIENCE", "3")
    tree, settings = tmp_path / "tree", Settings(home=tmp_path / "home", milvus_uri=milvus_server_process.uri)
    process = _begin(tree, settings, networks)
    done = _rows(settings)
    milvus_server_process.kill()
    try:
        _, said = process.communicate(timeout=120)
    finally:
        milvus_server_process.start()
    assert process.returncode == 1
    assert "seconds; what was inserted stays, and the same command goes on from there" in said
    assert "Traceback" not in said
    assert _rows(settings) >= done > 0
    _ends_whole(tree, settings)


def test_a_server_that_limits_the_rate_is_obeyed(
    tmp_path: Path, milvus_server_process: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second message, of 4 MiB, has to wait until the first one's 8 MiB are paid off at 1 MiB a second."""
    paths = [str(tmp_path / f"{number}.jpg") for number in range(1_500)]
    milvus_server_process.kill()  # There can be one server only.
    try:
        with running_server(tmp_path / "server", ONE_MEBIBYTE_A_SECOND) as server:
            settings = Settings(home=tmp_path / "home", milvus_uri=server.uri, server_patience_seconds=60)
            client = connect(settings=settings)
            create_collection(client, "limited", dimension=2048)
            vectors = np.eye(2048, dtype=np.float32)[: len(paths)]
            ids = insert_embeddings(client, "limited", vectors, paths, settings=settings)
            assert count_items(client, "limited") == len(set(ids)) == len(paths)
            client.close()
    finally:
        milvus_server_process.start()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_finish_the_chunk_in_hand(
    tmp_path: Path, networks: Path, number: signal.Signals, status: int
) -> None:
    tree, settings = tmp_path / "tree", Settings(home=tmp_path / "home")
    process = _begin(tree, settings, networks)
    process.send_signal(number)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    done = _rows(settings)
    left = soak.IMAGES_OF_A_LONG_LOAD - done
    assert left > 0
    assert f"{done:,} inserted, 0 unchanged, 0 failed, {left:,} left; tree holds {done:,} items" in printed
    _ends_whole(tree, settings)


@pytest.mark.usefixtures("server")
def test_a_second_load_at_once_is_refused(tmp_path: Path, networks: Path, milvus_server: str) -> None:
    tree, settings = tmp_path / "tree", Settings(home=tmp_path / "home", milvus_uri=milvus_server)
    first = _begin(tree, settings, networks)
    second = subprocess.run(soak.load_command(tree), env=soak.environment(settings), capture_output=True, text=True)
    assert second.returncode == 1
    assert "Another process is loading into the collection 'tree'" in second.stderr
    # A dead process holds nothing.
    first.kill()
    first.wait()
    _ends_whole(tree, settings)


def _begin(tree: Path, settings: Settings, networks: Path) -> subprocess.Popen[str]:
    """A load that has inserted something, and has far to go."""
    soak.paths_of(tree, soak.LONG_LOAD)
    settings.home.mkdir()
    settings.networks.symlink_to(networks)
    process = subprocess.Popen(
        soak.load_command(tree),
        env=soak.environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not _rows(settings):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def _rows(settings: Settings) -> int:
    return len(IdMap(settings.id_map_path("tree")).read())


def _ends_whole(tree: Path, settings: Settings) -> None:
    """Another load ends as if nothing had happened."""
    found = subprocess.run(
        soak.load_command(tree), env=soak.environment(settings), capture_output=True, text=True, check=True
    )
    assert f"tree holds {soak.IMAGES_OF_A_LONG_LOAD:,} items" in found.stdout
    assert _rows(settings) == soak.IMAGES_OF_A_LONG_LOAD
    if settings.milvus_uri:
        client = connect(settings=settings)
        drop_collection(client, "tree")
        client.close()
