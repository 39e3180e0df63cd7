"""Networks run by Keras, on whichever backend `KERAS_BACKEND` names: what a GPU is used by."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utilities.backbones import backbone_named, build_network, import_keras, weights_origin
from utilities.errors import InvalidArgument
from utilities.fingerprint import Fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What a driver puts there: NVIDIA, NVIDIA under WSL, AMD. Without any of them Keras need not be asked, which takes
#: seconds.
GPU_DEVICES = ("/dev/nvidia0", "/dev/dxg", "/dev/kfd")


class KerasEmbedder:
    """A network as Keras built it, compiled by its backend; safe to use from many threads."""

    def __init__(self, backbone: str, weights: str | os.PathLike[str], precision: str = "auto") -> None:
        """Build it, which takes seconds in every process.

        Args:
            backbone: a key of `utilities.backbones.BACKBONES`.
            weights: as `backbones.build_network` takes them.
            precision: `"f32"`; `"bf16"`, which is Keras's mixed bfloat16: variables, preprocessing and the vectors
                themselves stay in 32 bits; or `"auto"`, bf16 on a GPU.

        Raises:
            InvalidArgument: a precision that Keras has not.
            InvalidArgument, WeightsUnavailable, EmbedderMismatch: as `backbones.build_network` does.
        """
        if precision not in ("auto", "f32", "bf16"):
            raise InvalidArgument(f"The runtime keras does not compute in {precision}; take --runtime openvino.")
        on_gpu = gpu_is_present()
        self.precision = precision if precision != "auto" else "bf16" if on_gpu else "f32"
        self.batch_size = 128 if on_gpu else 32
        row = backbone_named(backbone)
        self.input_size = row.input_size
        self._model, digest = build_network(backbone, weights, mixed_bfloat16=self.precision == "bf16")
        self._model.compile()  # Without a loss: what compiles is its prediction, by XLA where the backend has it.
        self.fingerprint = Fingerprint(
            backbone, digest, row.preprocessing, row.dimension, weights=weights_origin(weights)
        )
        #: As `Embedder.runtime`.
        self.runtime = f"Keras on {import_keras().backend.backend()} in {self.precision}"
        self._one_at_a_time = threading.Lock()

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Embedder.embed`."""
        # A batch of another length would be compiled anew, so that a rest is filled up.
        missing = -len(pixels) % self.batch_size if len(pixels) > 1 else 0
        filled = np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), np.uint8)]) if missing else pixels
        with self._one_at_a_time:
            # `predict` in a loop is slow and leaks memory (keras#13118); this does neither.
            embeddings = self._model.predict_on_batch(filled)
        return np.asarray(embeddings, np.float32)[: len(pixels)]

    def embed_stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """As `Embedder.embed_stream`."""
        return map(self.embed, batches)


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
