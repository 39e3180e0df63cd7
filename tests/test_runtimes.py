"""What runs a network: in streams, in the precision it bears, by OpenVINO or by Keras on any of its backends."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.test_backbones import pixels
from utilities.embedder import embed_in_batches, embedder_of, load_embedder
from utilities.errors import InvalidArgument
from utilities.exported_networks import find_by_weights
from utilities.keras_runtime import KerasEmbedder
from utilities.openvino_runtime import OpenVINOEmbedder, has_native_bf16
from utilities.settings import Settings


@pytest.fixture
def settings(networks: Path, tmp_path: Path) -> Settings:
    """A copy of where the untrained MobileNetV2 lies, to write notes on."""
    shutil.copytree(networks, tmp_path / "networks")
    return Settings(home=tmp_path)


@pytest.fixture
def exact(settings: Settings) -> OpenVINOEmbedder:
    embedder = load_embedder("mobilenetv2", "random", settings, runtime="openvino", precision="f32")
    assert isinstance(embedder, OpenVINOEmbedder)
    return embedder


def test_a_stream_gives_what_single_batches_give_in_their_order(exact: OpenVINOEmbedder) -> None:
    images = pixels(224, 6)
    batches = [images[[row % 6] * (1 + row % 3)] for row in range(14)]
    streamed = list(exact.embed_stream(iter(batches)))
    assert [len(each) for each in streamed] == [len(each) for each in batches]
    for batch, embeddings in zip(batches, streamed, strict=True):
        np.testing.assert_allclose(embeddings, exact.embed(batch), atol=1e-5)
    assert list(exact.embed_stream([])) == []


def test_a_stream_asks_only_a_few_batches_ahead_and_may_be_left(exact: OpenVINOEmbedder) -> None:
    asked = 0

    def batches() -> Iterator[NDArray[np.uint8]]:
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield pixels(224, 2)

    stream = exact.embed_stream(batches())
    for _ in range(3):
        next(stream)
    assert asked <= 3 + (os.cpu_count() or 1) + 2
    stream.close()
    assert exact.embed(pixels(224, 1)).shape == (1, 1280)


def test_auto_rounds_only_a_network_that_bears_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_by_weights("mobilenetv2", "random", settings)
    assert found is not None
    network, _ = found
    for native, similarity, precision in [(True, 0.9995, "bf16"), (True, 0.9985, "f32"), (False, 0.9995, "f32")]:
        monkeypatch.setattr("utilities.openvino_runtime.has_native_bf16", lambda native=native: native)
        network.note(bf16_similarity=similarity)
        embedder = load_embedder("mobilenetv2", "random", settings)
        assert isinstance(embedder, OpenVINOEmbedder)
        assert (embedder.precision, embedder.runtime) == (precision, f"OpenVINO in {precision}")


def test_what_rounding_does_is_measured_once_and_noted(settings: Settings) -> None:
    if not has_native_bf16():
        pytest.skip("this processor does not compute in bfloat16")
    found = find_by_weights("mobilenetv2", "random", settings)
    assert found is not None
    network, fingerprint = found
    about = json.loads((network.directory / "about.json").read_text())
    about.pop("bf16_similarity", None)
    (network.directory / "about.json").write_text(json.dumps(about))
    OpenVINOEmbedder(network, fingerprint)
    assert 0.9 < network.about()["bf16_similarity"] <= 1.001
    rounded = load_embedder("mobilenetv2", "random", settings, precision="bf16")
    exact = load_embedder("mobilenetv2", "random", settings, precision="f32")
    assert rounded.fingerprint == exact.fingerprint  # Their vectors may meet.
    one, other = (each.embed(pixels(224, 4)) for each in (rounded, exact))
    assert not np.array_equal(one, other)
    assert np.sum(one * other, axis=1).min() > 0.99


def test_precisions_and_runtimes_that_cannot_be_had(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utilities.openvino_runtime.has_native_bf16", lambda: False)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"precision": "bf16"}, "does not compute in bfloat16; take --precision auto or f32"),
        ({"precision": "int8"}, "was not quantised to int8; `lookalike load --precision int8` does it"),
        ({"precision": "f16"}, "There is no precision 'f16'; choose one of auto, f32, bf16, int8"),
        ({"runtime": "cuda"}, "There is no runtime 'cuda'; choose one of auto, openvino, keras"),
        ({"runtime": "keras", "precision": "int8"}, "keras does not compute in int8"),
    ]
    for options, message in cases:
        with pytest.raises(InvalidArgument, match=message):
            load_embedder("mobilenetv2", "random", settings, **options)


def test_keras_gives_the_vectors_and_the_fingerprint_of_openvino(exact: OpenVINOEmbedder, settings: Settings) -> None:
    keras = load_embedder("mobilenetv2", "random", settings, runtime="keras")
    assert isinstance(keras, KerasEmbedder)
    assert keras.runtime == "Keras on tensorflow in f32"
    assert keras.fingerprint == exact.fingerprint
    assert keras.input_size == exact.input_size
    images = pixels(224, 5)[np.arange(keras.batch_size + 5) % 5]  # A whole batch, and a rest that is filled up.
    np.testing.assert_allclose(embed_in_batches(keras, images), embed_in_batches(exact, images), atol=1e-5)
    np.testing.assert_allclose(keras.embed(images[:1]), exact.embed(images[:1]), atol=1e-5)
    again = embedder_of(exact.fingerprint, settings, runtime="keras")
    assert isinstance(again, KerasEmbedder)


def test_keras_in_bfloat16_gives_float32_of_length_1(exact: OpenVINOEmbedder, settings: Settings) -> None:
    import keras

    embedder = load_embedder("mobilenetv2", "random", settings, runtime="keras", precision="bf16")
    assert keras.config.dtype_policy().name == "float32"  # The caller's own policy is as it was.
    embeddings, expected = (each.embed(pixels(224, 3)) for each in (embedder, exact))
    assert embeddings.dtype == np.float32
    assert not np.array_equal(embeddings, expected)
    assert np.sum(embeddings * expected, axis=1).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_without_a_gpu_nobody_asks_keras(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utilities.keras_runtime.GPU_DEVICES", ())
    monkeypatch.setattr("utilities.keras_runtime.import_keras", lambda: pytest.fail("imported"))
    assert isinstance(load_embedder("mobilenetv2", "random", settings), OpenVINOEmbedder)


def test_a_gpu_that_keras_cannot_use_is_none(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    monkeypatch.setattr("utilities.keras_runtime.GPU_DEVICES", ("/dev/null",))
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: [])
    assert isinstance(load_embedder("mobilenetv2", "random", settings), OpenVINOEmbedder)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: [f"{kind}:0"])
    for bearable, precision in [(0.9, "bf16"), (1.1, "f32")]:
        monkeypatch.setattr("utilities.keras_runtime.BEARABLE_SIMILARITY", bearable)
        embedder = load_embedder("mobilenetv2", "random", settings)
        assert isinstance(embedder, KerasEmbedder)
        assert (embedder.precision, embedder.batch_size) == (precision, 128)


def test_a_network_that_keras_runs_is_exported_for_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path)
    embedder = load_embedder("mobilenetv2", "random", settings, runtime="keras")
    monkeypatch.setattr("utilities.exported_networks.build_network", lambda *_: pytest.fail("built again"))
    query = embedder_of(embedder.fingerprint, settings, precision="f32")
    np.testing.assert_allclose(query.embed(pixels(224, 2)), embedder.embed(pixels(224, 2)), atol=1e-5)


def test_who_may_only_read_the_networks_may_still_query(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_by_weights("mobilenetv2", "random", settings)
    assert found is not None
    network, fingerprint = found
    assert (network.directory / "about.json").stat().st_mode & 0o044 == 0o044  # for everybody to read
    monkeypatch.setattr("utilities.openvino_runtime.has_native_bf16", lambda: True)
    monkeypatch.setattr(type(network), "about", lambda self: {})
    monkeypatch.setattr(type(network), "note", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    assert OpenVINOEmbedder(network, fingerprint).embed(pixels(224, 1)).shape == (1, 1280)


BY_ANOTHER_BACKEND = """
import sys
from pathlib import Path
import numpy as np
from utilities.embedder import load_embedder
from utilities.settings import Settings
weights, home, images, out = sys.argv[1:]
settings, pixels = Settings(home=Path(home)), np.load(images)
keras = load_embedder("mobilenetv2", weights, settings, runtime="keras")
exported = load_embedder("mobilenetv2", weights, settings, runtime="openvino", precision="f32")
assert keras.fingerprint == exported.fingerprint
np.savez(out, keras=keras.embed(pixels), exported=exported.embed(pixels), digest=keras.fingerprint.weights_digest)
print(keras.runtime)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_same_network_runs_and_is_exported_under_every_backend(
    backend: str, exact: OpenVINOEmbedder, tmp_path: Path
) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed; the tests install jax, and torch is gigabytes")
    import keras

    from utilities.backbones import build_network

    network, _ = build_network("mobilenetv2", "random")  # Random weights differ between backends; a file's do not.
    inner = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    inner.save_weights(str(tmp_path / "w.weights.h5"))
    np.save(tmp_path / "images.npy", pixels(224, 3))
    result = subprocess.run(
        [sys.executable, "-c", BY_ANOTHER_BACKEND]
        + [str(tmp_path / name) for name in ("w.weights.h5", "home", "images.npy", "out.npz")],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == f"Keras on {backend} in f32"
    out = np.load(tmp_path / "out.npz")
    assert str(out["digest"]) == exact.fingerprint.weights_digest
    for way in ("keras", "exported"):
        np.testing.assert_allclose(out[way], exact.embed(pixels(224, 3)), atol=1e-4)
