"""Exported networks, run by OpenVINO on the processor."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.errors import InvalidArgument
from utilities.exported_networks import ExportedNetwork, import_openvino
from utilities.fingerprint import Fingerprint
from utilities.rounding import BEARABLE_SIMILARITY, similarity_when_rounded
from utilities.views import Sight, count_views

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OpenVINOEmbedder(Sight):
    """An exported network; safe to use from many threads."""

    #: From 4 to 32 images the speed is the same; the fewer, the sooner the first are done. Every view counts as one.
    batch_size = 8

    def __init__(self, network: ExportedNetwork, fingerprint: Fingerprint, precision: str = "auto") -> None:
        """Read and compile it.

        Args:
            network: from `utilities.exported_networks`.
            fingerprint: what it is.
            precision: `"f32"`; `"bf16"`, half the size and, where the processor has it, twice the speed; `"auto"`,
                bf16 where the processor has it and the network bears it (`BEARABLE_SIMILARITY`); or of a quantised
                network `"int8"`, which is then all that it can do.

        Raises:
            InvalidArgument: a precision that this processor or this network has not.
            RuntimeError: the network is damaged.
        """
        self.network = network
        self.precision = _choose_precision(network, fingerprint, precision)
        self._compiled, self._one_at_a_time = _compile_once(network.file, self.precision, "LATENCY")
        super().__init__(fingerprint, int(self._compiled.input(0).partial_shape[-2].get_length()))
        self.batch_size = max(1, self.batch_size // count_views(fingerprint.views))

    @property
    def runtime(self) -> str:
        """As `Embedder.runtime`."""
        return f"OpenVINO in {self.precision}"

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Embedder.embed`: all processors work on the one batch."""
        # A compiled network has one request of its own, which two threads must not share.
        with self._one_at_a_time:
            embeddings: NDArray[np.float32] = self._compiled(pixels)[0]
        return embeddings

    def embed_stream(self, batches: Iterable[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        """As `Embedder.embed_stream`: each processor works on a batch of its own, and none waits for the others."""
        compiled, _ = _compile_once(self.network.file, self.precision, "THROUGHPUT")
        # One more than can run, so that there is always one that waits to.
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1
        idle = [compiled.create_infer_request() for _ in range(count)]
        # The pixels are kept as long as the network reads them.
        running: deque[tuple[Any, NDArray[np.uint8]]] = deque()

        def finish_first() -> NDArray[np.float32]:
            request, _ = running[0]
            request.wait()
            embeddings: NDArray[np.float32] = request.get_output_tensor().data.copy()
            running.popleft()
            idle.append(request)
            return embeddings

        try:
            for pixels in batches:
                if not idle:
                    yield finish_first()
                request = idle.pop()
                running.append((request, pixels))
                request.start_async({0: pixels}, share_inputs=True)
            while running:
                yield finish_first()
        finally:
            for request, _ in running:
                request.wait()


def has_native_bf16() -> bool:
    """Whether this processor computes in bfloat16."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _choose_precision(network: ExportedNetwork, fingerprint: Fingerprint, precision: str) -> str:
    if fingerprint.quantization_digest:
        if precision not in ("auto", "int8"):
            raise InvalidArgument(f"A network that was quantised to int8 cannot run in {precision}.")
        return "int8"
    if precision == "int8":
        raise InvalidArgument("This network was not quantised to int8; `lookalike load --precision int8` does it.")
    if precision == "bf16" and not has_native_bf16():
        raise InvalidArgument("This processor does not compute in bfloat16; take --precision auto or f32.")
    if precision != "auto":
        return precision
    return "bf16" if has_native_bf16() and _bears_bf16(network) else "f32"


def _bears_bf16(network: ExportedNetwork) -> bool:
    """Whether rounding keeps the network's vectors; measured once, and noted beside it."""
    similarity = network.about().get("bf16_similarity")
    if similarity is None:
        exact, rounded = (_compile(network.file, precision, "LATENCY") for precision in ("f32", "bf16"))
        shape = tuple(each.get_length() for each in list(exact.input(0).partial_shape)[1:])
        similarity = similarity_when_rounded(lambda pixels: exact(pixels)[0], lambda pixels: rounded(pixels)[0], shape)
        with contextlib.suppress(OSError):  # Whoever may only read the networks measures again.
            network.note(bf16_similarity=similarity)
    return bool(similarity >= BEARABLE_SIMILARITY)


@functools.lru_cache(maxsize=4)
def _compile_once(network: Path, precision: str, aim: str) -> tuple[Any, threading.Lock]:
    """Compiled networks are kept, so that one query after another in a notebook does not load them again."""
    return _compile(network, precision, aim), threading.Lock()


def _compile(network: Path, precision: str, aim: str) -> Any:
    hint = "bf16" if precision == "bf16" else "f32"  # What int8 leaves in floating point needs all its bits.
    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": aim}
    return import_openvino().Core().compile_model(network, "CPU", options)
