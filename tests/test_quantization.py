"""int8: calibrated on the user's own images, judged on others, and an embedder of its own."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import load
from utilities import openvino_runtime
from utilities.backbones import build_network
from utilities.directory_trees import find_images
from utilities.drawn_images import draw_tree
from utilities.embedder import embed_in_batches, embedder_of, load_embedder
from utilities.errors import EmbedderMismatch, InvalidArgument, MissingPackage, WeightsUnavailable
from utilities.fingerprint import Fingerprint
from utilities.image_files import open_image
from utilities.item_streams import sample_pixels
from utilities.milvus_utilities import connect, describe_collection
from utilities.openvino_runtime import OpenVINOEmbedder
from utilities.quantization import SMALLEST_SAMPLE, QuantizationQuality, quantize
from utilities.settings import Settings
from utilities.similar_images import similar_images
from utilities.views import squashed


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with an untrained MobileNetV2 that has seen images: without that, its signals vanish on their way.

    Each batch normalisation has taken over the mean and the variance of one batch.
    """
    import keras

    home = tmp_path_factory.mktemp("prepared")
    draw_tree(home / "images", per_category=2)
    images = [squashed(open_image(home / "images" / path), 224) for path in find_images(home / "images")]
    network, _ = build_network("mobilenetv2", "random")
    inner = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    for layer in inner.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    inner(np.stack(images) / np.float32(127.5) - 1, training=True)
    inner.save_weights(str(home / "seen.weights.h5"))
    settings = Settings(home=home)
    load_embedder("mobilenetv2", home / "seen.weights.h5", settings, runtime="openvino")
    return settings


@pytest.fixture
def settings(prepared: Settings, tmp_path: Path) -> Settings:
    shutil.copytree(prepared.networks, tmp_path / "home/networks")
    shutil.copy(prepared.home / "seen.weights.h5", tmp_path / "seen.weights.h5")
    return Settings(home=tmp_path / "home")


@pytest.fixture
def weights(tmp_path: Path) -> str:
    return str(tmp_path / "seen.weights.h5")


@pytest.fixture
def exact(settings: Settings, weights: str) -> OpenVINOEmbedder:
    embedder = load_embedder("mobilenetv2", weights, settings, runtime="openvino", precision="f32")
    assert isinstance(embedder, OpenVINOEmbedder)
    return embedder


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_tree(folder, per_category=6)
    return folder


@pytest.fixture
def sample(tree: Path, exact: OpenVINOEmbedder, settings: Settings) -> NDArray[np.uint8]:
    return sample_pixels(tree, find_images(tree), 80, exact, settings)


def test_a_quantised_network_is_close_to_its_own_and_is_another_embedder(
    exact: OpenVINOEmbedder, sample: NDArray[np.uint8], settings: Settings
) -> None:
    embedder, quality = quantize(exact, sample, settings)
    assert (embedder.precision, embedder.runtime) == ("int8", "OpenVINO in int8")
    assert embedder.fingerprint != exact.fingerprint
    assert embedder.fingerprint == replace(
        exact.fingerprint, quantization_digest=embedder.fingerprint.quantization_digest
    )
    embeddings, expected = (embed_in_batches(each, sample) for each in (embedder, exact))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert not np.allclose(embeddings, expected, atol=1e-4)
    assert quality.images == 40
    judged = np.sum(embeddings[1::2] * expected[1::2], axis=1).mean()
    assert quality.similarity == pytest.approx(judged, abs=1e-3)
    assert quality.similarity > 0.9
    assert 0.5 < quality.overlap <= 1
    # Exactly one network was kept, and it is found again without calibration.
    assert len(list(settings.networks.iterdir())) == 2
    again = embedder_of(embedder.fingerprint, settings)
    np.testing.assert_allclose(again.embed(sample[:3]), embedder.embed(sample[:3]), atol=1e-6)
    with pytest.raises(InvalidArgument, match="quantised to int8 cannot run in f32"):
        embedder_of(embedder.fingerprint, settings, precision="f32")
    (embedder.network.directory / "network.bin").unlink()
    (embedder.network.directory / "network.bin").write_bytes(b"")
    openvino_runtime._compile_once.cache_clear()
    with pytest.raises(WeightsUnavailable, match="which was fitted to a collection, cannot be read"):
        embedder_of(embedder.fingerprint, settings)
    assert embedder.network.directory.exists()  # Nobody could make it again.
    embedder.network.remove()
    with pytest.raises(WeightsUnavailable, match="was fitted to images where it was loaded; copy mobilenetv2-1280-"):
        embedder_of(embedder.fingerprint, settings)


def test_the_quality_leaves_out_each_image_itself() -> None:
    from utilities.quantization import _compare

    around = np.radians(np.arange(0, 120, 5))  # 24 directions; each one's neighbours are those beside it.
    exact = np.stack([np.cos(around), np.sin(around)], axis=1).astype(np.float32)
    same = _compare(exact, exact, 2.0)
    assert same == QuantizationQuality(24, same.similarity, 1.0, 2.0)
    assert same.similarity == pytest.approx(1)
    random = np.random.default_rng(0).permutation(24)
    assert _compare(exact[random], exact, 2.0).overlap < 1


def test_what_cannot_be_quantised(
    exact: OpenVINOEmbedder,
    sample: NDArray[np.uint8],
    settings: Settings,
    weights: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InvalidArgument, match=f"at least {2 * SMALLEST_SAMPLE} images .* here are 63"):
        quantize(exact, sample[:63], settings)
    keras = load_embedder("mobilenetv2", weights, settings, runtime="keras")
    with pytest.raises(InvalidArgument, match="Only a network that OpenVINO runs in f32"):
        quantize(keras, sample, settings)
    monkeypatch.setattr("utilities.quantization.LEAST_SIMILARITY", 1.1)
    with pytest.raises(InvalidArgument, match=r"int8 does not suit this network .*; take --precision auto"):
        quantize(exact, sample, settings)
    assert len(list(settings.networks.iterdir())) == 1
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingPackage, match=r"needs NNCF, which is not installed: pip install -e '\.\[int8\]'"):
        quantize(exact, sample, settings)


def test_a_collection_in_int8_from_load_to_query(
    tree: Path,
    settings: Settings,
    weights: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def run(**options: str) -> load.LoadSummary:
        return load.run(tree, collection="drawn", settings=settings, progress=False, **options)  # type: ignore[arg-type]

    with caplog.at_level("INFO"):
        assert run(backbone="mobilenetv2", weights=weights, precision="int8").inserted == 84
    assert "Quantised mobilenetv2: int8 against f32 on 42 of these images: mean cosine" in caplog.text
    assert "on OpenVINO in int8" in caplog.text
    client = connect(settings=settings)
    fingerprint = describe_collection(client, "drawn").fingerprint
    assert isinstance(fingerprint, Fingerprint)
    assert fingerprint.quantization_digest
    # The same call again, and the same without its options, find the network instead of calibrating another.
    networks = sorted(settings.networks.iterdir())
    assert run(backbone="mobilenetv2", weights=weights, precision="int8").unchanged == 84
    assert run().unchanged == 84
    assert sorted(settings.networks.iterdir()) == networks
    image = tree / find_images(tree)[5]
    assert similar_images(image, "drawn", settings=settings, client=client)[0].file == image
    with pytest.raises(InvalidArgument, match="cannot run in f32"):
        run(precision="f32")


def test_several_views_and_the_generalised_mean_in_int8(tree: Path, settings: Settings, weights: str) -> None:
    arguments = {"collection": "drawn", "settings": settings, "progress": False}
    chosen = {"backbone": "mobilenetv2", "weights": weights, "pooling": "gem", "views": "squash,mirror"}
    assert load.run(tree, precision="int8", **arguments, **chosen).inserted == 84  # type: ignore[arg-type]
    fingerprint = describe_collection(connect(settings=settings), "drawn").fingerprint
    assert fingerprint.quantization_digest
    assert (fingerprint.pooling, fingerprint.views) == ("gem", "squash,mirror")
    assert load.run(tree, **arguments).unchanged == 84  # type: ignore[arg-type]
    match = similar_images(min(tree.rglob("*.jpg")), "drawn", 1, settings=settings)[0]
    assert match.similarity == pytest.approx(1, abs=1e-3)


def test_an_untrained_network_whose_signals_vanish_is_refused(tree: Path, networks: Path, tmp_path: Path) -> None:
    shutil.copytree(networks, tmp_path / "networks")
    settings = Settings(home=tmp_path)
    with pytest.raises(InvalidArgument, match="int8 does not suit this network"):
        load.run(tree, backbone="mobilenetv2", weights="random", precision="int8", settings=settings, progress=False)
    assert len(list(settings.networks.iterdir())) == 1


def test_a_collection_in_floating_point_stays_so(tree: Path, settings: Settings, weights: str) -> None:
    load.run(tree, collection="drawn", backbone="mobilenetv2", weights=weights, settings=settings, progress=False)
    with pytest.raises(EmbedderMismatch, match="not of a network in int8; load into another --collection"):
        load.run(tree, collection="drawn", precision="int8", settings=settings, progress=False)


def test_keras_has_no_int8(tree: Path, settings: Settings) -> None:
    with pytest.raises(InvalidArgument, match="The runtime keras does not compute in int8"):
        load.run(tree, precision="int8", runtime="keras", settings=settings, progress=False)
