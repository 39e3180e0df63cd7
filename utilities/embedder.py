"""Load an embedder and run it: pixels in, unit vectors out.

A network is built by Keras once, exported to OpenVINO and kept under `LOOKALIKE_HOME/networks` by its fingerprint. From
then on TensorFlow is not imported: OpenVINO runs the export.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from utilities.backbones import DEFAULT_BACKBONE, backbone_named, build_network, check_weights
from utilities.errors import EmbedderMismatch, WeightsUnavailable
from utilities.fingerprint import Fingerprint
from utilities.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: What must be said of every result of an embedder with random weights.
UNTRAINED = "the network is untrained (--weights random): results see colour and texture only"
#: Images that go through the network together.
BATCH_SIZE = 32


class Embedder(Protocol):
    """What turns pixels into vectors."""

    #: Identity; vectors of embedders with equal fingerprints may meet.
    fingerprint: Fingerprint
    #: Height and width of the input in pixels.
    input_size: int

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed a batch.

        Args:
            pixels: (n, input_size, input_size, 3) uint8 RGB.

        Returns:
            (n, fingerprint.dimension) float32, each row of length 1.
        """
        ...


class OpenVINOEmbedder:
    """An exported network, run by OpenVINO on the processor in 32-bit floating point; safe to use from many threads."""

    def __init__(self, network: Path, fingerprint: Fingerprint) -> None:
        self.fingerprint = fingerprint
        self._compiled, self._one_at_a_time = _compile(network)
        self.input_size = int(self._compiled.input(0).partial_shape[1].get_length())

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Embedder.embed`."""
        # A compiled network has one request of its own, which two threads must not share.
        with self._one_at_a_time:
            embeddings: NDArray[np.float32] = self._compiled(pixels)[0]
        return embeddings


@functools.lru_cache(maxsize=4)
def _compile(network: Path) -> tuple[Any, threading.Lock]:
    """Compiled networks are kept, so that one query after another in a notebook does not load them again."""
    compiled = (
        _import_openvino()
        .Core()
        .compile_model(
            network,
            "CPU",
            # Unless told otherwise OpenVINO rounds to bfloat16 where the processor has it.
            {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
        )
    )
    return compiled, threading.Lock()


def load_embedder(
    backbone: str = DEFAULT_BACKBONE, weights: str | os.PathLike[str] = "imagenet", settings: Settings | None = None
) -> Embedder:
    """The embedder of a backbone, exported at the first call and read from `settings.networks` after that.

    Args:
        backbone: a key of `utilities.backbones.BACKBONES`.
        weights: `"imagenet"`, `"random"`, or the path of a weights file, as `backbones.build_network` takes them.
        settings: where exported networks lie; from the environment by default.

    Raises:
        InvalidArgument, WeightsUnavailable, EmbedderMismatch: as `backbones.build_network` does.
    """
    settings = settings or Settings.load()
    backbone = backbone.lower()
    source = _source(backbone, weights)
    if weights == "random":
        _note_untrained()
    for directory in sorted(settings.networks.glob("[!.]*")):
        about = _read_about(directory)
        if about is not None and source in about["sources"]:
            network = _open_network(directory, _stated(Fingerprint(**about["fingerprint"]), weights))
            if network is not None:
                return network
    fingerprint = _stated(_export(backbone, weights, source, settings), weights)
    network = _open_network(settings.networks / fingerprint.name, fingerprint)
    assert network is not None, "a network that was just written can be opened"
    return network


def embedder_of(fingerprint: Fingerprint, settings: Settings | None = None) -> Embedder:
    """The embedder that a collection was loaded with.

    Args:
        fingerprint: the collection's. A network that was not exported here is built from the weights it names.
        settings: where exported networks lie; from the environment by default.

    Raises:
        EmbedderMismatch: the weights found there today are not those of the collection.
        InvalidArgument, WeightsUnavailable: as `backbones.build_network` does.
    """
    settings = settings or Settings.load()
    weights = fingerprint.weights
    network = _open_network(settings.networks / fingerprint.name, fingerprint)
    if network is not None:
        if weights == "random":
            _note_untrained()
        return network
    if weights not in ("imagenet", "random") and not Path(weights).is_file():
        raise WeightsUnavailable(
            f"The collection was embedded by {fingerprint} from {weights!r}; that file is gone, and so is the network "
            f"that was exported to {settings.networks}. Put either back."
        )
    embedder = load_embedder(fingerprint.backbone, weights, settings)
    if not fingerprint.matches(embedder.fingerprint):
        raise EmbedderMismatch(
            f"The collection was embedded by {fingerprint}, but the weights {weights!r} give {embedder.fingerprint}; "
            "query it with the weights it was loaded with, or load it anew."
        )
    return embedder


def embed_in_batches(embedder: Embedder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed any number of images, `BATCH_SIZE` at a time.

    Args:
        embedder: what embeds.
        pixels: (n, input_size, input_size, 3) uint8 RGB; n may be 0.

    Returns:
        (n, dimension) float32.
    """
    embeddings = np.empty((len(pixels), embedder.fingerprint.dimension), np.float32)
    for start in range(0, len(pixels), BATCH_SIZE):
        embeddings[start : start + BATCH_SIZE] = embedder.embed(pixels[start : start + BATCH_SIZE])
    return embeddings


def _source(backbone: str, weights: str | os.PathLike[str]) -> str:
    """Names backbone, preprocessing and the origin of the weights, without building the network."""
    row = backbone_named(backbone)
    origin = os.fspath(weights)
    check_weights(origin)
    if origin not in ("imagenet", "random"):
        with Path(origin).open("rb") as file:
            digest = hashlib.blake2b(digest_size=16)
            while block := file.read(1 << 20):
                digest.update(block)
        origin = digest.hexdigest()
    return f"{backbone}, {row.preprocessing}, {origin}"


def _export(backbone: str, weights: str | os.PathLike[str], source: str, settings: Settings) -> Fingerprint:
    """Build a network, write it to `settings.networks / fingerprint.name`, and return its fingerprint."""
    logger.info("Building %s and exporting it to %s; this happens once.", backbone, settings.networks)
    openvino = _import_openvino()
    row = backbone_named(backbone)
    model, weights_digest = build_network(backbone, weights)
    fingerprint = Fingerprint(backbone, weights_digest, row.preprocessing, row.dimension)
    settings.networks.mkdir(parents=True, exist_ok=True)
    finished = settings.networks / fingerprint.name
    with tempfile.TemporaryDirectory(dir=settings.networks, prefix=".unfinished-") as folder:
        saved_model, unfinished = Path(folder) / "saved_model", Path(folder) / "network"
        # Keras's own export to OpenVINO fails on Python 3.13; by way of a SavedModel it works on every version.
        model.export(str(saved_model), format="tf_saved_model", verbose=False)
        unfinished.mkdir()
        openvino.save_model(openvino.convert_model(saved_model), unfinished / "network.xml", compress_to_fp16=False)
        _write_about(unfinished, fingerprint, [source])
        try:
            unfinished.rename(finished)
        except OSError:  # Another process, or another file with the same weights, came first.
            about = _read_about(finished) or {"sources": []}
            _write_about(finished, fingerprint, sorted({source, *about["sources"]}))
    return fingerprint


def _write_about(directory: Path, fingerprint: Fingerprint, sources: list[str]) -> None:
    """What an exported network is, and which weights it may be found by."""
    about = {"fingerprint": json.loads(fingerprint.to_json()), "sources": sources}
    (directory / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def _read_about(directory: Path) -> dict[str, Any] | None:
    try:
        about: dict[str, Any] = json.loads((directory / "about.json").read_text())
    except (OSError, ValueError):
        return None  # not a network, or a damaged one
    return about


def _stated(fingerprint: Fingerprint, weights: str | os.PathLike[str]) -> Fingerprint:
    """The fingerprint with the origin of the weights; a file's whole path, since a query may come from elsewhere."""
    origin = os.fspath(weights)
    return replace(fingerprint, weights=origin if origin in ("imagenet", "random") else str(Path(origin).resolve()))


@functools.cache
def _note_untrained() -> None:
    """Say it loudly, once."""
    logger.warning("NOTE: %s.", UNTRAINED)


def _import_openvino() -> Any:
    """OpenVINO without its telemetry, which reports to its makers when it is imported and when it converts."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _open_network(directory: Path, fingerprint: Fingerprint) -> OpenVINOEmbedder | None:
    """An exported network; None if it was not exported. A damaged one is removed, to be exported again."""
    if not directory.is_dir():
        return None
    try:
        return OpenVINOEmbedder(directory / "network.xml", fingerprint)
    except RuntimeError as error:
        logger.warning("The exported network %s is damaged and will be made again: %s", directory, error)
        shutil.rmtree(directory)
        return None
