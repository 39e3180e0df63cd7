"""Embedders: exported once, equal to Keras, found again without TensorFlow, and never mistaken for another."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.test_backbones import pixels
from utilities.backbones import build_network
from utilities.embedder import embed_in_batches, embedder_of, load_embedder
from utilities.errors import EmbedderMismatch, WeightsUnavailable
from utilities.fingerprint import Fingerprint
from utilities.openvino_runtime import OpenVINOEmbedder
from utilities.settings import Settings


@pytest.fixture
def settings(networks: Path) -> Settings:
    """Where the untrained MobileNetV2 lies."""
    return Settings(home=networks.parent)


def test_the_export_equals_keras(settings: Settings) -> None:
    embedder = load_embedder("mobilenetv2", "random", settings, precision="f32")
    network, digest = build_network("mobilenetv2", "random")
    images = pixels(224, 5)
    embeddings = embedder.embed(images)
    assert embeddings.dtype == np.float32
    assert embedder.input_size == 224
    np.testing.assert_allclose(embeddings, np.asarray(network(images)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert embedder.fingerprint == Fingerprint("mobilenetv2", digest, "squashed to 224x224 bilinearly, tf", 1280)


def test_a_second_process_neither_builds_nor_imports_tensorflow(settings: Settings) -> None:
    script = (
        "import sys; from pathlib import Path; from utilities.embedder import load_embedder;"
        "from utilities.settings import Settings;"
        "load_embedder('mobilenetv2', 'random', Settings(home=Path(sys.argv[1])));"
        "print(sorted({'tensorflow', 'keras', 'openvino_telemetry'} & {n for n, m in sys.modules.items() if m}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(settings.home)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_same_weights_from_another_file_are_the_same_embedder(settings: Settings, tmp_path: Path) -> None:
    import keras

    network, _ = build_network("mobilenetv2", "random")
    inner = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    inner.save_weights(str(tmp_path / "copy.weights.h5"))
    file = tmp_path / "copy.weights.h5"
    copy = load_embedder("mobilenetv2", file, settings)
    assert copy.fingerprint == load_embedder("mobilenetv2", "random", settings).fingerprint
    assert copy.fingerprint.weights == str(file)
    assert len(list(settings.networks.glob("*/about.json"))) == 1
    with pytest.MonkeyPatch.context() as patch:  # The second time the file is known, and nothing is built.
        patch.setattr("utilities.exported_networks.build_network", lambda *_: pytest.fail("built again"))
        assert load_embedder("mobilenetv2", file, settings).fingerprint == copy.fingerprint


@pytest.mark.parametrize("damage", ["network.bin", "about.json"])
def test_a_damaged_network_is_exported_again(settings: Settings, tmp_path: Path, damage: str) -> None:
    home = Settings(home=tmp_path)
    shutil.copytree(settings.networks, home.networks)
    (directory,) = home.networks.iterdir()
    (directory / damage).write_bytes(b"{")
    embedder = load_embedder("mobilenetv2", "random", home)
    assert embedder.embed(pixels(224, 1)).shape == (1, 1280)
    assert [path.name for path in home.networks.iterdir()] == [directory.name]
    assert json.loads((directory / "about.json").read_text())


def test_many_threads_may_share_an_embedder(settings: Settings) -> None:
    embedder = load_embedder("mobilenetv2", "random", settings)
    images = pixels(224, 4)
    expected = [embedder.embed(images[each : each + 1]) for each in range(4)]
    wrong: list[object] = []

    def embed(each: int) -> None:
        try:
            for _ in range(20):
                np.testing.assert_allclose(embedder.embed(images[each : each + 1]), expected[each], atol=1e-6)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=embed, args=[each]) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nothing_unfinished_is_left_or_taken(settings: Settings) -> None:
    assert [path.name for path in settings.networks.iterdir() if path.name.startswith(".")] == []
    about = json.loads(next(settings.networks.glob("*/about.json")).read_text())
    assert "mobilenetv2, squashed to 224x224 bilinearly, tf, random" in about["sources"]


def test_a_collections_embedder_is_found_by_its_fingerprint(settings: Settings, tmp_path: Path) -> None:
    fingerprint = replace(load_embedder("mobilenetv2", "random", settings).fingerprint, weights="/gone.weights.h5")
    # Found although the weights file is gone: the exported network is enough.
    assert embedder_of(fingerprint, settings).fingerprint == fingerprint
    with pytest.raises(WeightsUnavailable, match=r"'/gone\.weights\.h5'; that file is gone, .* Put either back"):
        embedder_of(fingerprint, Settings(home=tmp_path))


def test_other_weights_than_the_collections_are_refused(settings: Settings) -> None:
    other = Fingerprint("mobilenetv2", "f" * 32, "squashed to 224x224 bilinearly, tf", 1280, weights="random")
    with pytest.raises(EmbedderMismatch, match="embedded by mobilenetv2, 1280 dimensions, weights ffffffff, but"):
        embedder_of(other, settings)


def test_a_collection_that_knows_no_digest_takes_the_weights_it_names(settings: Settings) -> None:
    unstated = Fingerprint("mobilenetv2", "", "squashed to 224x224 bilinearly, tf", 1280, weights="random")
    assert embedder_of(unstated, settings).fingerprint.weights_digest


@pytest.mark.parametrize("count", [0, 1, OpenVINOEmbedder.batch_size, OpenVINOEmbedder.batch_size + 1])
def test_embed_in_batches(settings: Settings, count: int) -> None:
    embedder = load_embedder("mobilenetv2", "random", settings)
    images = pixels(224, 3)[np.arange(count) % 3]
    embeddings = embed_in_batches(embedder, images)
    assert embeddings.shape == (count, 1280)
    if count:
        np.testing.assert_allclose(embeddings[-1], embedder.embed(images[-1:])[0], atol=1e-5)
