"""Networks run by Keras, on whichever backend `KERAS_BACKEND` names: what a GPU is used by."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utilities.backbones import backbone_named, build_network, import_keras, weights_origin
from utilities.errors import InvalidArgument
from utilities.fingerprint import Fingerprint
from utilities.rounding import BEARABLE_SIMILARITY, similarity_when_rounded
from utilities.variants import PLAIN, Variant
from utilities.views import Sight, count_views, shape_of_views

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from utilities.reduction import Projection

#: What a driver puts there: NVIDIA, NVIDIA under WSL, AMD. Without any of them Keras need not be asked, which takes
#: seconds.
GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


class KerasEmbedder(Sight):
    """A network as Keras built it, compiled by its backend; safe to use from many threads."""

    def __init__(
        self,
        backbone: str,
        weights: str | os.PathLike[str],
        precision: str = "auto",
        projection: Projection | None = None,
        variant: Variant = PLAIN,
    ) -> None:
        """Build it, which takes seconds in every process.

        Args:
            backbone: a key of `utilities.backbones.BACKBONES`.
            weights: as `backbones.build_network` takes them.
            precision: `"f32"`; `"bf16"`, which is Keras's mixed bfloat16: variables, preprocessing and the vectors
                themselves stay in 32 bits; or `"auto"`, bf16 on a GPU if the network bears it, as
                `utilities.rounding` finds out.
            projection: to fewer dimensions, folded into the network.
            variant: as `backbones.build_network` takes it.

        Raises:
            InvalidArgument: a precision that Keras has not.
            InvalidArgument, WeightsUnavailable, EmbedderMismatch: as `backbones.build_network` does.
        """
        if precision not in ("auto", "f32", "bf16"):
            raise InvalidArgument(f"The runtime keras does not compute in {precision}; take --runtime openvino.")
        on_gpu = gpu_is_present()
        self.batch_size = max(1, (128 if on_gpu else 32) // count_views(variant.views))
        row = backbone_named(backbone)
        wanted = precision if precision != "auto" else "bf16" if on_gpu else "f32"
        build = partial(_build, backbone, weights, variant, projection)
        self._model, digest = build(wanted)
        if precision == "auto" and wanted == "bf16":
            exact, _ = build("f32")
            similarity = similarity_when_rounded(
                exact.predict_on_batch, self._model.predict_on_batch, shape_of_views(variant.views, row.input_size)
            )
            if similarity < BEARABLE_SIMILARITY:
                self._model, wanted = exact, "f32"
        self.precision = wanted
        #: As `Embedder.runtime`.
        self.runtime = f"Keras on {import_keras().backend.backend()} in {wanted}"
        whole = Fingerprint(
            backbone, digest, row.preprocessing, row.dimension, **asdict(variant), weights=weights_origin(weights)
        )
        super().__init__(projection.fingerprint(whole) if projection else whole, row.input_size)
        self._one_at_a_time = threading.Lock()

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Embedder.embed`."""
        return self._run(pixels) if len(pixels) == 1 else self._run_filled(pixels)

    def embed_stream(self, batches: Iterable[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        """As `Embedder.embed_stream`; the backend's own parallelism is enough, one batch is under way."""
        for pixels in batches:
            yield self._run_filled(pixels)

    def _run_filled(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A batch of another length would be compiled anew, so that a rest is filled up."""
        missing = -len(pixels) % self.batch_size
        filling = np.zeros((missing, *pixels.shape[1:]), np.uint8)
        return self._run(np.concatenate([pixels, filling]) if missing else pixels)[: len(pixels)]

    def _run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._one_at_a_time:
            # `predict` in a loop is slow and leaks memory (keras#13118); this does neither.
            return np.asarray(self._model.predict_on_batch(pixels), np.float32)


def _build(
    backbone: str, weights: str | os.PathLike[str], variant: Variant, projection: Projection | None, precision: str
) -> tuple[keras.Model, str]:
    bfloat16 = precision == "bf16"
    model, digest = build_network(backbone, weights, variant=variant, projection=projection, mixed_bfloat16=bfloat16)
    model.compile()  # Without a loss: what compiles is its prediction, by XLA where the backend has it.
    return model, digest


def gpu_is_present() -> bool:
    """Whether Keras's backend can use a GPU."""
    if not any(Path(device).exists() for device in GPU_DEVICES):
        return False
    keras = import_keras()
    if keras.backend.backend() == "torch":
        import torch

        return bool(torch.cuda.is_available())
    try:
        return bool(keras.distribution.list_devices("gpu"))
    except RuntimeError:  # JAX says so where there is none.
        return False
