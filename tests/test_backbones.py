"""Every backbone is what `keras.applications` makes of it, with its preprocessing inside."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utilities.backbones import BACKBONES, build_network, sees_faces
from utilities.errors import EmbedderMismatch, InvalidArgument, WeightsUnavailable

#: Module of `keras.applications` that holds a backbone's `preprocess_input`.
MODULES = {
    "resnet50": "resnet",
    "resnet101": "resnet",
    "resnet152": "resnet",
    "inceptionv3": "inception_v3",
    "mobilenetv2": "mobilenet_v2",
    "mobilenetv3large": "mobilenet_v3",
    "efficientnetb0": "efficientnet",
    "efficientnetv2s": "efficientnet_v2",
    "densenet121": "densenet",
    "convnexttiny": "convnext",
}


def pixels(size: int, count: int = 2) -> np.ndarray[Any, np.dtype[np.uint8]]:
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    # Unequal channels, so that a swap of red and blue cannot go unseen.
    coarse[..., 0] //= 3
    repeats = -(-size // 8)
    return coarse.repeat(repeats, axis=1).repeat(repeats, axis=2)[:, :size, :size]


@pytest.mark.parametrize("name", [name for name in BACKBONES if not sees_faces(name)])
def test_network_equals_preprocess_input_and_the_plain_model(name: str) -> None:
    import keras

    backbone = BACKBONES[name]
    size = backbone.input_size
    network, _ = build_network(name, "random")
    plain = getattr(keras.applications, backbone.constructor)(
        include_top=False, pooling="avg", weights=None, input_shape=(size, size, 3)
    )
    inner = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    plain.set_weights(inner.get_weights())
    images = pixels(size)
    preprocess = getattr(keras.applications, MODULES.get(name, name)).preprocess_input
    features = np.asarray(plain(preprocess(images.astype(np.float32)), training=False))
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    embeddings = np.asarray(network(images))
    assert embeddings.shape == (2, backbone.dimension)
    np.testing.assert_allclose(embeddings, expected, atol=1e-4)
    # The comparison would not see wrong preprocessing in features that do not depend on the image.
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


def test_random_weights_are_the_same_every_time_and_leave_other_generators_alone() -> None:
    build_network("mobilenetv2", "random")  # The first import of Keras draws numbers of its own.
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    digests = {build_network("mobilenetv2", "random")[1] for _ in range(2)}
    assert len(digests) == 1
    assert (random.random(), np.random.random()) == expected


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    import keras

    keras.utils.set_random_seed(7)
    saved = keras.applications.MobileNetV2(
        include_top=suffix == ".keras", pooling="avg", weights=None, input_shape=(224, 224, 3)
    )
    file = tmp_path / f"mine{suffix}"
    (saved.save if suffix == ".keras" else saved.save_weights)(str(file))
    network, digest = build_network("mobilenetv2", str(file))
    inner = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    for mine, theirs in zip(inner.get_weights(), saved.get_weights(), strict=False):
        np.testing.assert_array_equal(mine, theirs)
    assert digest != build_network("mobilenetv2", "random")[1]


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    import keras

    file = tmp_path / "mobilenet.weights.h5"
    keras.applications.MobileNet(include_top=False, weights=None).save_weights(str(file))
    with pytest.raises(EmbedderMismatch, match=r"does not hold the weights of a headless mobilenetv2"):
        build_network("mobilenetv2", str(file))
    model = tmp_path / "mobilenet.keras"
    keras.applications.MobileNet(include_top=False, weights=None).save(str(model))
    with pytest.raises(EmbedderMismatch, match=r"does not hold the weights of a headless mobilenetv2"):
        build_network("mobilenetv2", str(model))


def test_a_file_that_carries_code_is_refused_and_the_code_not_run(tmp_path: Path) -> None:
    import keras

    ran, file = tmp_path / "ran", tmp_path / "trap.keras"
    pixels = keras.Input((224, 224, 3))

    def leave_a_mark(x: Any, place: str = str(ran)) -> Any:
        Path(place).touch()
        return x

    trap = keras.layers.Lambda(leave_a_mark)
    keras.Model(pixels, trap(pixels)).save(str(file))
    ran.unlink()
    with pytest.raises(EmbedderMismatch, match="does not hold the weights of a headless mobilenetv2"):
        build_network("mobilenetv2", str(file))
    assert not ran.exists()


def test_weights_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("broken.h5", "broken.weights.h5", "broken.keras"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises((WeightsUnavailable, EmbedderMismatch), match=rf"{name}"):
            build_network("mobilenetv2", str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "weights", "sentence"),
    [
        ("resnet51", "random", "no backbone 'resnet51'; choose one of resnet50, "),
        ("resnet50", "nothing.h5", r"no weights file 'nothing\.h5'"),
        ("resnet50", "imagnet", "'imagnet' is neither 'imagenet' nor 'random' nor a file"),
    ],
)
def test_calls_that_cannot_work(name: str, weights: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        build_network(name, weights)


def test_a_download_that_fails_says_what_to_do_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy that refuses at once stands for a machine without internet.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(WeightsUnavailable, match=r"could not be downloaded .*--weights FILE.*--weights random"):
        build_network("mobilenetv2", "imagenet")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
