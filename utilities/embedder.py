"""Load an embedder and run it: pixels in, unit vectors out."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from utilities.backbones import NAMED_WEIGHTS, backbone_named, backbone_of, check_variant, check_weights
from utilities.errors import EmbedderMismatch, InvalidArgument, WeightsUnavailable
from utilities.exported_networks import ExportedNetwork, export, find_by_fingerprint, find_by_weights, fold
from utilities.fingerprint import Fingerprint
from utilities.keras_runtime import KerasEmbedder, gpu_is_present
from utilities.openvino_runtime import OpenVINOEmbedder
from utilities.settings import Settings
from utilities.variants import PLAIN, Variant

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from utilities.reduction import Projection

logger = logging.getLogger(__name__)

#: What must be said of every result of an embedder with random weights.
UNTRAINED = "the network is untrained (--weights random): results see colour and texture only"
#: What executes a network; `auto` is keras where there is a GPU that it can use, and openvino elsewhere.
RUNTIMES = ("auto", "openvino", "keras")
#: What a network computes in; `auto` is the fastest that keeps its vectors.
PRECISIONS = ("auto", "f32", "bf16", "int8")


class Embedder(Protocol):
    """What turns pixels into vectors."""

    #: Identity; vectors of embedders with equal fingerprints may meet.
    fingerprint: Fingerprint
    #: Length of a vector.
    dimension: int
    #: Height and width in pixels of the face that it is shown, or of an image that will do for all it is shown of it.
    input_size: int
    #: Of what it is shown of one item: of most networks (input_size, input_size, 3).
    input_shape: tuple[int, ...]
    #: Images of a batch that the embedder is fast with.
    batch_size: int

    @property
    def runtime(self) -> str:
        """What executes it and how, such as `OpenVINO in bf16`."""
        ...

    def see(self, image: Image.Image) -> NDArray[np.uint8]:
        """What it is to be shown of an upright RGB image, unless it sees faces: `input_shape` uint8."""
        ...

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed one batch, as soon as can be.

        Args:
            pixels: (n, *input_shape) uint8 RGB, n at least 1.

        Returns:
            (n, dimension) float32, each row of length 1 if the fingerprint does not say that it is kept.
        """
        ...

    def embed_stream(self, batches: Iterable[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        """Embed many batches, as fast as can be; several may be under way at once, and they come back in order.

        Args:
            batches: each as `embed` takes it, at best of `batch_size`. They are asked for a few ahead of what is
                yielded, never more.

        Yields:
            As `embed` returns them, one for each batch.
        """
        ...


def check_runtime(runtime: str, precision: str) -> None:
    """Refuse what there is not.

    Raises:
        InvalidArgument: not one of `RUNTIMES`, or not one of `PRECISIONS`.
    """
    for what, value, known in (("runtime", runtime, RUNTIMES), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise InvalidArgument(f"There is no {what} {value!r}; choose one of {', '.join(known)}.")


def load_embedder(
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    *,
    variant: Variant = PLAIN,
    runtime: str = "auto",
    precision: str = "auto",
) -> Embedder:
    """The embedder of a backbone.

    The network is exported for OpenVINO at the first call, and read from `settings.networks` after that, without
    importing Keras. The runtime keras builds it in every process; it is exported all the same, for queries.

    Args:
        backbone: a key of `utilities.backbones.BACKBONES`; by default the one that the weights were fine-tuned from,
            else `"resnet50"`.
        weights: as `backbones.build_network` takes them; by default what the backbone is trained to, which is
            `"imagenet"` for networks of images.
        settings: where exported networks lie; from the environment by default.
        variant: how it sees, pools, and how long vectors are, if not as the plain network does.
        runtime: one of `RUNTIMES`.
        precision: one of `PRECISIONS`, but int8, which needs images: `utilities.quantization.quantize` makes that.

    Raises:
        InvalidArgument: a runtime, a precision or a variant that cannot be had here.
        InvalidArgument, WeightsUnavailable, EmbedderMismatch: as `backbones.build_network` does.
    """
    settings = settings or Settings.load()
    backbone = (backbone or backbone_of(weights)).lower()
    weights = weights or backbone_named(backbone).weights
    check_runtime(runtime, precision)
    check_weights(backbone, os.fspath(weights))
    check_variant(backbone, variant)
    if weights == "random":
        _note_untrained(backbone)
    found = find_by_weights(backbone, weights, settings, variant)
    if _chosen(runtime) == "keras":
        if not found:
            export(backbone, weights, settings, variant)
        return KerasEmbedder(backbone, weights, precision, variant=variant)
    if found:
        exported = _open(*found, precision)
        if exported:
            return exported
    return OpenVINOEmbedder(*export(backbone, weights, settings, variant), precision)


def embedder_of(
    fingerprint: Fingerprint,
    settings: Settings | None = None,
    *,
    runtime: str = "openvino",
    precision: str = "auto",
) -> Embedder:
    """The embedder that a collection was loaded with.

    Args:
        fingerprint: the collection's. A network that was not exported here is built from the weights it names.
        settings: where exported networks lie; from the environment by default.
        runtime: one of `RUNTIMES`. The default starts soonest, which is what a query needs.
        precision: one of `PRECISIONS`.

    Raises:
        EmbedderMismatch: the weights found there today are not those of the collection.
        InvalidArgument, WeightsUnavailable: as `load_embedder` does.
    """
    settings = settings or Settings.load()
    check_runtime(runtime, precision)
    weights = fingerprint.weights
    gone = weights not in NAMED_WEIGHTS and not Path(weights).is_file()
    if fingerprint.quantization_digest or (gone and runtime == "auto"):
        runtime = "openvino"
    runtime = _chosen(runtime)
    network = find_by_fingerprint(fingerprint, settings)
    if runtime == "openvino":
        exported = _open(network, fingerprint, precision) if network else None
        if exported:
            if weights == "random":
                _note_untrained(fingerprint.backbone)
            return exported
    projection = network.projection() if network else None
    if fingerprint.depends_on_images and not (projection and runtime == "keras"):
        raise WeightsUnavailable(
            f"The collection was embedded by {fingerprint}, a network that was fitted to images where it was loaded; "
            f"copy {fingerprint.name} from that LOOKALIKE_HOME's networks into {settings.networks}, or load it anew."
        )
    if gone:
        raise WeightsUnavailable(
            f"The collection was embedded by {fingerprint} from {weights!r}; that file is gone, and so is the network "
            f"that was exported to {settings.networks}. Put either back."
            if runtime == "openvino"
            else f"The runtime keras needs {weights!r}, which is gone; put it back, or leave out --runtime."
        )
    if projection:
        embedder: Embedder = KerasEmbedder(fingerprint.backbone, weights, precision, projection, fingerprint.variant)
    else:
        embedder = load_embedder(
            fingerprint.backbone, weights, settings, variant=fingerprint.variant, runtime=runtime, precision=precision
        )
    if not fingerprint.matches(embedder.fingerprint):
        raise EmbedderMismatch(
            f"The collection was embedded by {fingerprint}, but the weights {weights!r} give {embedder.fingerprint}; "
            "query it with the weights it was loaded with, or load it anew."
        )
    return embedder


def reduce_embedder(
    embedder: Embedder,
    projection: Projection,
    settings: Settings | None = None,
    *,
    runtime: str = "auto",
    precision: str = "auto",
) -> Embedder:
    """An embedder whose vectors are projected to fewer dimensions, in the network itself.

    Args:
        embedder: from `load_embedder`, `embedder_of` or `quantize`.
        projection: from `utilities.reduction`, fitted to its vectors.
        settings: where exported networks lie; from the environment by default.
        runtime: one of `RUNTIMES`.
        precision: one of `PRECISIONS`.

    Raises:
        InvalidArgument: an embedder that is no exported network or keeps its vectors' length, or a runtime or precision
            that it has not.
    """
    settings = settings or Settings.load()
    if embedder.fingerprint.keep_length:
        raise InvalidArgument(f"PCA is fitted to unit vectors, not to those of {embedder.fingerprint}.")
    network = find_by_fingerprint(embedder.fingerprint, settings)
    if network is None:
        raise InvalidArgument(f"There is no network of {embedder.fingerprint} in {settings.networks} to reduce.")
    _, fingerprint = fold(network, embedder.fingerprint, projection, settings)
    return embedder_of(fingerprint, settings, runtime=runtime, precision=precision)


def embed_in_batches(embedder: Embedder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed any number of images.

    Args:
        embedder: what embeds.
        pixels: (n, *input_shape) uint8 RGB; n may be 0.

    Returns:
        (n, dimension) float32.
    """
    size = embedder.batch_size
    if 0 < len(pixels) <= size:
        return embedder.embed(pixels)
    batches = (pixels[start : start + size] for start in range(0, len(pixels), size))
    nothing = np.empty((0, embedder.dimension), np.float32)
    return np.concatenate([nothing, *embedder.embed_stream(batches)])


def _chosen(runtime: str) -> str:
    if runtime != "auto":
        return runtime
    return "keras" if gpu_is_present() else "openvino"


def _open(network: ExportedNetwork, fingerprint: Fingerprint, precision: str) -> OpenVINOEmbedder | None:
    """An exported network, opened; a damaged one is removed, and None says that it must be exported again."""
    try:
        return OpenVINOEmbedder(network, fingerprint, precision)
    except RuntimeError as error:
        if fingerprint.depends_on_images:  # This one could not be made again.
            raise WeightsUnavailable(
                f"The network {network.directory}, which was fitted to a collection, cannot be read: {error}"
            ) from error
        logger.warning("The exported network %s is damaged and will be made again: %s", network.directory, error)
        network.remove()
        return None


@functools.cache
def _note_untrained(backbone: str) -> None:
    """Say it loudly, once."""
    logger.warning("NOTE: %s is untrained (--weights random): it sees colour and texture only.", backbone)
