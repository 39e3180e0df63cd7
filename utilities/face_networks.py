"""Networks that tell faces apart, as Keras models without their preprocessing: dlib's, and those of DeepFace."""

from __future__ import annotations

import importlib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from utilities.errors import MissingPackage, WeightsUnavailable
from utilities.faces import models

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    Tensor: TypeAlias = Any

#: Filters of each stage of dlib's network, whether the stage begins by halving the image, and its further blocks.
_STAGES = [(32, False, 3), (64, True, 3), (128, True, 2), (256, True, 2), (256, True, 0)]


def dlib_network(keras: Any) -> keras.Model:
    """Dlib's residual network of 29 convolutions (`dnn_face_recognition_ex.cpp`), with the weights it was trained to.

    It runs some fifty times as fast as in dlib itself, whose Python packages are built without a library for matrices.

    Args:
        keras: the package.

    Returns:
        A model from (n, 150, 150, 3) float32, scaled as `backbones` does, to (n, 128).

    Raises:
        MissingPackage: the package that carries the weights is not installed.
        WeightsUnavailable: its file is not the one that is known.
    """
    file = models() / "dlib_face_recognition_resnet_model_v1.dat"
    try:
        return _dlib_network(keras, _arrays(file.read_bytes()))
    except (OSError, ValueError, IndexError, StopIteration) as error:
        raise WeightsUnavailable(f"dlib's weights {file} cannot be read ({error}); install them anew.") from error


def _dlib_network(keras: Any, arrays: Iterator[NDArray[np.float32]]) -> keras.Model:
    layers, ops = keras.layers, keras.ops

    def convolve(image: Tensor, filters: int, side: int, stride: int) -> Tensor:
        # As dlib pads: half the kernel, but nothing where the stride is more than one.
        layer = layers.Conv2D(filters, side, strides=stride, padding="same" if stride == 1 else "valid")
        convolved = layer(image)
        kernel, bias = np.split(next(arrays), [-filters])
        factor, shift = np.split(next(arrays), 2)  # of the batch normalisation, whose statistics are within
        kernel = kernel.reshape(filters, image.shape[-1], side, side).transpose(2, 3, 1, 0)
        layer.set_weights([kernel * factor, bias * factor + shift])
        return convolved

    def block(image: Tensor, filters: int, stride: int) -> Tensor:
        change = convolve(layers.ReLU()(convolve(image, filters, 3, stride)), filters, 3, 1)
        if stride > 1:
            image = layers.AveragePooling2D(2, 2)(image)
        # Where rows, columns or channels are missing on one side of the sum, dlib takes them as zeros.
        shape = [max(sides) for sides in zip(image.shape[1:], change.shape[1:], strict=True)]
        return layers.ReLU()(layers.add([_padded(ops, image, shape), _padded(ops, change, shape)]))

    pixels = keras.Input((150, 150, 3))
    image = layers.MaxPooling2D(3, 2)(layers.ReLU()(convolve(pixels, 32, 7, 2)))
    for filters, halves, blocks in _STAGES:
        for stride in [2] * halves + [1] * blocks:
            image = block(image, filters, stride)
    dense = layers.Dense(128, use_bias=False)
    features = dense(layers.GlobalAveragePooling2D()(image))
    dense.set_weights([next(arrays).reshape(256, 128)])
    return keras.Model(pixels, features)


def _padded(ops: Any, image: Tensor, shape: list[int]) -> Tensor:
    missing = [side - has for side, has in zip(shape, image.shape[1:], strict=True)]
    return ops.pad(image, [[0, 0], *([0, each] for each in missing)]) if any(missing) else image


def _arrays(content: bytes) -> Iterator[NDArray[np.float32]]:
    """The trained arrays of a network that dlib serialised, from its input to its output.

    Each lies behind its layer's name: a version, four sides, and the numbers as they are in memory (`tensor.cpp`); in
    a fully connected layer behind its numbers of outputs and inputs.
    """
    for layer in re.finditer(rb"con_4|affine_|fc_2", content):
        integers = _integers(content, layer.end())
        if layer[0] == b"fc_2":
            next(integers), next(integers)
        (version, _), *sides, (last, end) = itertools.islice(integers, 5)
        if version != 2:
            raise ValueError(f"version {version} of a tensor")
        yield np.frombuffer(content, "<f4", int(np.prod([side for side, _ in sides])) * last, end)


def _integers(content: bytes, position: int) -> Iterator[tuple[int, int]]:
    """Integers as dlib writes them, and where each ends: how many bytes, then these, the lowest first."""
    while True:
        start, position = position + 1, position + 1 + (content[position] & 0x0F)
        yield int.from_bytes(content[start:position], "little"), position


def deepface_network(keras: Any, name: str, size: int) -> keras.Model:
    """A network of DeepFace, with its weights, which DeepFace downloads at the first call.

    Args:
        keras: the package.
        name: as DeepFace has it, such as `Facenet512`.
        size: side of its input in pixels.

    Returns:
        A model from (n, size, size, 3) float32, scaled as `backbones` does, to (n, dimension).

    Raises:
        MissingPackage: DeepFace is not installed.
        WeightsUnavailable: the download failed, or the file is not of this network.
    """
    os.environ.setdefault("DEEPFACE_LOG_LEVEL", "40")  # What goes wrong is said below.
    try:
        modeling = importlib.import_module("deepface.modules.modeling")
    except ImportError as error:
        raise MissingPackage(
            f"{name} is a network of DeepFace, which cannot be imported ({error}): "
            "pip install -e '.[deepface]' in Lookalike's folder."
        ) from error
    # Whichever backend DeepFace would choose: of its networks those of TensorFlow are Keras models.
    module, _, client = modeling.AVAILABLE_MODELS["facial_recognition"][name]["tensorflow"].rpartition(".")
    build: Callable[[], Any] = getattr(importlib.import_module(module), client)
    try:
        network = build().model
    except Exception as error:  # DeepFace raises ValueError, and what its packages for downloads raise.
        reason = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        home = Path(os.environ.get("DEEPFACE_HOME", Path.home())) / ".deepface" / "weights"
        raise WeightsUnavailable(
            f"The weights of {name} could not be had ({reason}). Try again "
            f"with internet access, or copy DeepFace's file into {home}."
        ) from error
    pixels = keras.Input((size, size, 3))
    return keras.Model(pixels, network(pixels))
