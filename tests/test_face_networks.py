"""Face networks are what dlib and DeepFace make of them, with their preprocessing inside."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines import evaluate, load
from tests.face_pictures import album, photographs
from utilities import face_networks as networks_of_faces
from utilities.backbones import BACKBONES, build_network, sees_faces
from utilities.embedder import load_embedder
from utilities.errors import InvalidArgument, MissingPackage, WeightsUnavailable
from utilities.faces import find_faces, models
from utilities.settings import Settings

DEEPFACE = [name for name in BACKBONES if sees_faces(name) and name != "dlib"]


@pytest.fixture
def chips(lfw: Path) -> NDArray[np.uint8]:
    """(8, 150, 150, 3): faces of eight people."""
    files = [photographs(lfw, folder.name)[1] for folder in sorted(lfw.iterdir())[:8]]
    return np.stack([find_faces(Image.open(file).convert("RGB"), 150)[1][0] for file in files])


def test_dlibs_network_is_dlibs(chips: NDArray[np.uint8], face_networks: Path) -> None:
    import dlib

    network = dlib.face_recognition_model_v1(str(models() / "dlib_face_recognition_resnet_model_v1.dat"))
    expected = np.array(network.compute_face_descriptor(list(chips)))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    settings = Settings(home=face_networks.parent)
    exact = load_embedder("dlib", settings=settings, runtime="openvino", precision="f32")
    np.testing.assert_allclose(exact.embed(chips), expected, atol=1e-5)
    model, digest = build_network("dlib", "faces")
    np.testing.assert_allclose(model.predict_on_batch(chips), expected, atol=1e-5)
    assert exact.fingerprint.weights_digest == digest == "aee7aaa8b0c39c5235189d2c1b044d2b"


def test_dlibs_weights_that_are_cut_off_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = "dlib_face_recognition_resnet_model_v1.dat"
    content = (models() / name).read_bytes()
    for cut in (b"", content[:1_000_000], content.replace(b"con_4\x01\x02", b"con_4\x01\x03", 1)):
        (tmp_path / name).write_bytes(cut)
        monkeypatch.setattr(networks_of_faces, "models", lambda: tmp_path)
        with pytest.raises(WeightsUnavailable, match=r"model_v1.dat cannot be read .*; install them anew"):
            build_network("dlib", "faces")


@pytest.fixture
def deepface_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where DeepFace looks for weights before it downloads them."""
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    folder = tmp_path / ".deepface" / "weights"
    folder.mkdir(parents=True)
    return folder


def write_as_keras_2(model: Any, file: Path) -> None:
    """The form of the files that DeepFace downloads."""
    with h5py.File(file, "w") as content:
        content.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        content.attrs["backend"], content.attrs["keras_version"] = b"tensorflow", b"2.4.0"
        for layer in model.layers:
            group = content.create_group(layer.name)
            group.attrs["weight_names"] = [f"{number}".encode() for number in range(len(layer.weights))]
            for number, array in enumerate(layer.get_weights()):
                group.create_dataset(f"{number}", data=array)


def test_facenet_is_deepfaces(tmp_path: Path, deepface_home: Path) -> None:
    """DeepFace's own code builds the network and reads the file; only the numbers in it are drawn at random."""
    from deepface.models.facial_recognition.tf import Facenet

    write_as_keras_2(Facenet.InceptionResNetV1(dimension=512), deepface_home / "facenet512_weights.h5")
    settings = Settings(home=tmp_path / "home")
    embedder = load_embedder("facenet512", settings=settings, runtime="openvino", precision="f32")
    assert (embedder.fingerprint.dimension, embedder.input_size) == (512, 160)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), dtype=np.uint8)
    # As DeepFace feeds its networks: blue, green, red, from 0 to 1.
    expected = np.array(Facenet.FaceNet512dClient().forward(pixels[..., ::-1] / np.float32(255)))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder.embed(pixels), expected, atol=1e-4)


@pytest.mark.parametrize("name", DEEPFACE)
def test_the_table_says_what_deepface_has(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepface.commons import weight_utils
    from deepface.modules import modeling

    monkeypatch.setattr(weight_utils, "download_weights_if_necessary", lambda **_: "")
    monkeypatch.setattr(weight_utils, "load_model_weights", lambda model, weight_file: model)
    row = BACKBONES[name]
    module, _, client = modeling.AVAILABLE_MODELS["facial_recognition"][row.constructor]["tensorflow"].rpartition(".")
    theirs = getattr(importlib.import_module(module), client)()
    assert (row.dimension, (row.input_size, row.input_size)) == (theirs.output_shape, theirs.input_shape)
    model, _ = build_network(name, "faces")
    assert model.output_shape == (None, row.dimension)


def test_weights_that_cannot_be_downloaded_are_said(monkeypatch: pytest.MonkeyPatch, deepface_home: Path) -> None:
    from deepface.commons import weight_utils

    def unreachable(_: str) -> None:
        raise ValueError("the host is not reachable")

    monkeypatch.setattr(weight_utils, "ensure_source_is_reachable", unreachable)
    with pytest.raises(
        WeightsUnavailable, match=rf"Facenet could not be had .* copy DeepFace's file into {deepface_home}"
    ):
        build_network("facenet", "faces")


def test_a_file_of_another_network_is_refused(deepface_home: Path) -> None:
    from deepface.models.facial_recognition.tf import Facenet

    write_as_keras_2(Facenet.InceptionResNetV1(dimension=512), deepface_home / "facenet_weights.h5")
    with pytest.raises(WeightsUnavailable, match="Facenet could not be had"):
        build_network("facenet", "faces")


def test_without_deepface_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepface.modules.modeling", None)
    with pytest.raises(MissingPackage, match=r"Facenet is a network of DeepFace, .*pip install -e '.\[deepface\]'"):
        build_network("facenet", "faces")


def test_other_weights_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="the face network dlib has its own weights; leave it out"):
        build_network("dlib", "random")


def test_real_facenet_finds_people(lfw: Path, tmp_path: Path) -> None:
    """End to end, where DeepFace has downloaded its weights before."""
    if not (Path.home() / ".deepface/weights/facenet512_weights.h5").is_file():
        pytest.skip(
            "facenet512_weights.h5 is not in ~/.deepface/weights; DeepFace downloads it where there is internet"
        )
    settings = Settings(home=tmp_path / "home")
    load.run(album(lfw, tmp_path / "album"), what="faces", backbone="facenet512", settings=settings, progress=False)
    evaluation = evaluate.run("album", top_k=4, out=tmp_path, settings=settings, progress=False)
    assert evaluation.figures["precision@1"].mean > 0.9
