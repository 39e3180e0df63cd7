"""Fixtures: real Milvus, embedded and server; an embedder whose vectors a person can compute; small trees."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from pymilvus import MilvusClient

from pipelines import load
from tests.face_pictures import album
from tests.milvus_server import Server, running_server
from tests.serving import run_lookalike
from utilities.embedder import load_embedder
from utilities.fingerprint import Fingerprint
from utilities.milvus_utilities import connect
from utilities.settings import ENVIRONMENT_VARIABLES, Settings
from utilities.views import Sight

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "grey": (90, 90, 90),
}


class MeanColour(Sight):
    """Embeds an image as its mean red, green and blue, made a unit vector: pure red is (1, 0, 0)."""

    batch_size = 4
    runtime = "numpy"
    fingerprint = Fingerprint("mean_colour", "0" * 32, "squashed to 8x8 bilinearly", 3)

    def __init__(self) -> None:
        super().__init__(self.fingerprint, 8)

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        means: NDArray[np.float32] = pixels.mean(axis=(1, 2), dtype=np.float32) + np.float32(1e-6)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        return means

    def embed_stream(self, batches: Iterable[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        yield from map(self.embed, batches)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need the server, whichever fixture they have it from."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        asked = [*getattr(item, "fixturenames", ()), *(callspec.params.values() if callspec else ())]
        if {"milvus_server_process", "server", "server_site"}.intersection(
            each for each in asked if isinstance(each, str)
        ):
            item.add_marker("server")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ENVIRONMENT_VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def embedder() -> MeanColour:
    return MeanColour()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def colour_tree(tmp_path: Path) -> Path:
    """Folders red, green, blue, yellow and grey with three images each, every one a little darker than the last."""
    return draw_colours(tmp_path / "colours")


def draw_colours(root: Path) -> Path:
    """As `colour_tree`, anywhere."""
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(3):
            shade = tuple(max(0, channel - 20 * number) for channel in colour)
            Image.new("RGB", (20 + number, 16), shade).save(root / name / f"{name}_{number}.png")
    return root


@pytest.fixture(scope="session")
def milvus_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real Milvus server, started once."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("PyPI's milvus==2.3.5 carries a server for Linux on x86-64 only")
    with running_server(tmp_path_factory.mktemp("milvus")) as server:
        yield server


@pytest.fixture(scope="session")
def milvus_server(milvus_server_process: Server) -> str:
    """Its address."""
    return milvus_server_process.uri


@pytest.fixture
def lite(settings: Settings) -> Iterator[MilvusClient]:
    """The embedded database under `settings.home`."""
    client = connect(settings=settings)
    yield client
    client.close()


@pytest.fixture
def server(milvus_server: str) -> Iterator[MilvusClient]:
    """The server, emptied afterwards."""
    client = connect(milvus_server)
    yield client
    for name in client.list_collections():
        client.drop_collection(name)
    client.close()


@pytest.fixture(params=["lite", "server"])
def client(request: pytest.FixtureRequest) -> MilvusClient:
    """Milvus, once embedded and once as a server."""
    found: MilvusClient = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client_settings(client: MilvusClient, settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Settings that lead to the Milvus of `client`."""
    if "server" in request.node.callspec.params.values():
        return replace(settings, milvus_uri=request.getfixturevalue("milvus_server"))
    return settings


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of exported networks that holds an untrained MobileNetV2."""
    home = tmp_path_factory.mktemp("networks")
    load_embedder("mobilenetv2", "random", Settings(home=home))
    return home / "networks"


@pytest.fixture(scope="session")
def face_networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of exported networks that holds dlib's."""
    home = tmp_path_factory.mktemp("face_networks")
    load_embedder("dlib", settings=Settings(home=home))
    return home / "networks"


@pytest.fixture
def lookalike(settings: Settings, networks: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command in a process of its own, with the untrained MobileNetV2 at hand."""
    settings.home.mkdir()
    settings.networks.symlink_to(networks)
    return partial(run_lookalike, settings.home)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images and real weights that LOOKALIKE_TEST_DATA names."""
    folder = os.environ.get("LOOKALIKE_TEST_DATA")
    if not folder:
        pytest.skip("LOOKALIKE_TEST_DATA does not name a folder with data/caltech101 and weights")
    path = Path(folder).resolve()
    assert (path / "data" / "caltech101").is_dir(), f"LOOKALIKE_TEST_DATA={folder} holds no data/caltech101"
    return path


@pytest.fixture(scope="session")
def lfw(test_data: Path) -> Path:
    """Photographs of people, a folder for each."""
    folder = test_data / "data" / "lfw"
    assert folder.is_dir(), f"{test_data} holds no data/lfw"
    return folder


@pytest.fixture(scope="session")
def album_home(lfw: Path, face_networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home with `face_pictures.album` as the collection `album`, which nobody changes."""
    folder = tmp_path_factory.mktemp("album")
    settings = Settings(home=folder / "home")
    settings.home.mkdir()
    settings.networks.symlink_to(face_networks)
    load.run(album(lfw, folder / "album"), what="faces", settings=settings, progress=False)
    return settings
