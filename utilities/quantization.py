"""Quantise an embedder's network to int8, calibrated on the images that it will see, and measure what that costs."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.embedder import Embedder, embed_in_batches
from utilities.errors import InvalidArgument, MissingPackage
from utilities.exported_networks import import_openvino, write
from utilities.openvino_runtime import OpenVINOEmbedder
from utilities.reduction import unit_length
from utilities.retrieval_metrics import exact_neighbours, overlap_at_k
from utilities.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: Images that calibrate, and as many others that judge: what NNCF takes by default.
SAMPLE = 300
#: The fewest images of either that say anything.
SMALLEST_SAMPLE = 32
#: A quantised network that keeps this part of each top 20 is taken as it is.
GOOD_OVERLAP = 0.95
#: Below this mean cosine with the network's own vectors, int8 is refused.
LEAST_SIMILARITY = 0.9
#: Convolutions that are left in floating point when all of them in int8 are not good enough: the first ones see the
#: pixels, have the fewest channels, and lose the most.
STEM = 3


@dataclass(frozen=True)
class QuantizationQuality:
    """What int8 costs and gains against 32-bit floating point, on images that did not calibrate it."""

    #: How many they were.
    images: int
    #: Mean cosine between an image's two vectors.
    similarity: float
    #: Mean part of an image's 20 nearest neighbours among them that stay the same.
    overlap: float
    #: Images a second, as a multiple.
    speedup: float

    def __str__(self) -> str:
        return (
            f"int8 against f32 on {self.images} of these images: mean cosine {self.similarity:.4f}, "
            f"{100 * self.overlap:.1f} % of each top 20 kept, {self.speedup:.1f} times as fast"
        )


def quantize(
    embedder: Embedder, pixels: NDArray[np.uint8], settings: Settings
) -> tuple[OpenVINOEmbedder, QuantizationQuality]:
    """Quantise weights and activations after training, by NNCF, and keep the network under its own fingerprint.

    Half of the images calibrate, the other half judge. If all convolutions in int8 keep less than `GOOD_OVERLAP`, the
    first `STEM` are left in floating point, and the better of the two networks is taken.

    Args:
        embedder: of an exported network, in `"f32"`.
        pixels: (n, *input_shape) uint8 RGB, a sample of the images to be embedded; n at least
            2 * `SMALLEST_SAMPLE`, and 2 * `SAMPLE` are enough.
        settings: where exported networks lie.

    Returns:
        The quantised embedder and its quality.

    Raises:
        InvalidArgument: too few images, an embedder that is not OpenVINO's in f32, or a network that int8 spoils.
        MissingPackage: NNCF is not installed.
    """
    if not isinstance(embedder, OpenVINOEmbedder) or embedder.precision != "f32":
        raise InvalidArgument("Only a network that OpenVINO runs in f32 can be quantised.")
    if len(pixels) < 2 * SMALLEST_SAMPLE:
        raise InvalidArgument(
            f"int8 must be calibrated on at least {2 * SMALLEST_SAMPLE} images that can be read, and here are "
            f"{len(pixels)}; take --precision auto."
        )
    calibration, judging = pixels[::2], pixels[1::2]
    exact, seconds = _embed_timed(embedder, judging)
    candidates = []
    for stem in (0, STEM):
        candidate = _quantized(embedder, calibration, stem, settings)
        embeddings, its_seconds = _embed_timed(candidate, judging)
        quality = _compare(embeddings, exact, seconds / its_seconds)
        candidates.append((candidate, quality))
        if quality.overlap >= GOOD_OVERLAP:
            break
    best, quality = max(candidates, key=lambda candidate: candidate[1].overlap)
    for candidate, _ in candidates:
        if candidate is not best:
            candidate.network.remove()
    if quality.similarity < LEAST_SIMILARITY:
        best.network.remove()
        raise InvalidArgument(f"int8 does not suit this network ({quality}); take --precision auto.")
    best.network.note(quality=asdict(quality))
    return best, quality


def _compare(embeddings: NDArray[np.float32], exact: NDArray[np.float32], speedup: float) -> QuantizationQuality:
    embeddings, exact = unit_length(embeddings), unit_length(exact)
    ranked, expected = (exact_neighbours(each, each, 21) for each in (embeddings, exact))
    similarity = float(np.sum(embeddings * exact, axis=1).mean())
    return QuantizationQuality(len(exact), similarity, _overlap_of_others(ranked, expected), speedup)


def _overlap_of_others(ranked: NDArray[np.int64], expected: NDArray[np.int64]) -> float:
    """The overlap without each image itself, which every network finds first."""
    own = np.arange(len(ranked))[:, None]
    # Whoever is not among its own neighbours, for its equals crowd it out, gives up the last of them instead.
    without = [
        np.stack([row[row != number][: ranked.shape[1] - 1] for number, row in zip(own, rows, strict=True)])
        for rows in (ranked, expected)
    ]
    return overlap_at_k(*without)


def _embed_timed(embedder: Embedder, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    embed_in_batches(embedder, pixels[: 2 * embedder.batch_size])  # The first batches are slower than the rest.
    start = time.perf_counter()
    embeddings = embed_in_batches(embedder, pixels)
    return embeddings, time.perf_counter() - start


def _quantized(
    embedder: OpenVINOEmbedder, pixels: NDArray[np.uint8], stem: int, settings: Settings
) -> OpenVINOEmbedder:
    nncf = import_nncf()
    model = import_openvino().Core().read_model(embedder.network.file)
    with _report_on_standard_error():
        quantized = nncf.quantize(
            model,
            nncf.Dataset([pixels[row : row + 1] for row in range(len(pixels))]),
            subset_size=len(pixels),
            ignored_scope=nncf.IgnoredScope(names=_in_floating_point(model, stem), validate=False),
        )
    fingerprint = replace(embedder.fingerprint, quantization_digest=_digest(quantized))
    return OpenVINOEmbedder(write(quantized, fingerprint, settings, sources=[]), fingerprint)


def _in_floating_point(model: Any, stem: int) -> list[str]:
    """Names of the operations around the backbone, which scale pixels and normalise vectors, and of its stem."""
    operations = [each for each in model.get_ordered_ops() if each.get_type_name() not in ("Constant", "Result")]
    convolutions = [row for row, each in enumerate(operations) if "Convolution" in each.get_type_name()]
    before, after = operations[: convolutions[0]], operations[convolutions[-1] + 1 :]
    names = [*before, *after, *(operations[row] for row in convolutions[:stem])]
    return [each.get_friendly_name() for each in names if each.get_type_name() not in ("Parameter", "Relu", "Clamp")]


def _digest(model: Any) -> str:
    """Over what distinguishes two quantisations: the constants, weights and ranges alike."""
    digest = hashlib.blake2b(digest_size=16)
    for operation in model.get_ordered_ops():
        if operation.get_type_name() == "Constant":
            digest.update(np.ascontiguousarray(operation.data).tobytes())
    return digest.hexdigest()


def import_nncf() -> Any:
    """NNCF, which is an optional package.

    Raises:
        MissingPackage: it is not installed.
    """
    import_openvino()  # which keeps the telemetry out
    try:
        import nncf
    except ImportError as error:
        raise MissingPackage(
            "--precision int8 needs NNCF, which is not installed: pip install -e '.[int8]' in Lookalike's folder."
        ) from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


@contextlib.contextmanager
def _report_on_standard_error() -> Iterator[None]:
    """NNCF draws its progress on standard output, which is kept for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
