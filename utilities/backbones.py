"""The table of networks, and each of them as one Keras model: uint8 pixels in, unit vectors out.

Headless classification networks of `keras.applications` with global average pooling, and networks that tell faces
apart. Preprocessing is part of the network, so that no caller can preprocess differently and every runtime gets one
byte a channel.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.errors import EmbedderMismatch, InvalidArgument, MissingPackage, WeightsUnavailable
from utilities.face_networks import deepface_network, dlib_network
from utilities.quiet import silent_standard_error
from utilities.tuned_weights import TunedWeights
from utilities.variants import PLAIN, Variant
from utilities.views import count_views, shape_of_views

if TYPE_CHECKING:
    import keras

    from utilities.reduction import Projection


@dataclass(frozen=True)
class Backbone:
    """One row of the table."""

    #: Name of the function in `keras.applications`, or of a face network.
    constructor: str
    #: Length of a vector.
    dimension: int
    #: How pixels are scaled; a key of `_SCALINGS`.
    scaling: str
    #: Height and width of the input in pixels.
    input_size: int = 224
    #: What it is trained to: `imagenet`, or `faces` if it tells people apart.
    weights: str = "imagenet"

    @property
    def preprocessing(self) -> str:
        """One line that changes whenever the same file would give other numbers to the network."""
        size = f"{self.input_size}x{self.input_size}"
        if self.weights == "faces":
            return f"faces found and aligned by dlib, cut to {size}, {self.scaling}"
        return f"squashed to {size} bilinearly, {self.scaling}"


def _faces(constructor: str, dimension: int, scaling: str, input_size: int) -> Backbone:
    return Backbone(constructor, dimension, scaling, input_size, "faces")


#: Names are those of `keras.applications` in lower case. Input sizes are the ones that the weights were trained at.
BACKBONES = {
    "resnet50": Backbone("ResNet50", 2048, "caffe"),
    "resnet101": Backbone("ResNet101", 2048, "caffe"),
    "resnet152": Backbone("ResNet152", 2048, "caffe"),
    "vgg16": Backbone("VGG16", 512, "caffe"),
    "vgg19": Backbone("VGG19", 512, "caffe"),
    "inceptionv3": Backbone("InceptionV3", 2048, "tf", input_size=299),
    "mobilenet": Backbone("MobileNet", 1024, "tf"),
    "mobilenetv2": Backbone("MobileNetV2", 1280, "tf"),
    "mobilenetv3large": Backbone("MobileNetV3Large", 960, "inside"),
    "efficientnetb0": Backbone("EfficientNetB0", 1280, "inside"),
    "efficientnetv2s": Backbone("EfficientNetV2S", 1280, "inside", input_size=384),
    "densenet121": Backbone("DenseNet121", 1024, "torch"),
    "convnexttiny": Backbone("ConvNeXtTiny", 768, "inside"),
    "xception": Backbone("Xception", 2048, "tf", input_size=299),
    # Of faces. All but the first are DeepFace's: those of its networks whose files Keras 3 reads rightly. It would give
    # the weights of GhostFaceNet to other layers than theirs, without an error.
    "dlib": _faces("dlib", 128, "dlib", 150),
    "facenet": _faces("Facenet", 128, "deepface", 160),
    "facenet512": _faces("Facenet512", 512, "deepface", 160),
    "arcface": _faces("ArcFace", 512, "deepface", 112),
    "openface": _faces("OpenFace", 128, "deepface", 96),
    "vggface": _faces("VGG-Face", 4096, "deepface", 224),
}

DEFAULT_BACKBONE, DEFAULT_FACE_BACKBONE = "resnet50", "dlib"
#: Weights that are no file.
NAMED_WEIGHTS = ("imagenet", "faces", "random")
#: Of the generalised mean: the power, and the part of an image's strongest activation that any less is taken for.
_GEM_POWER, _LEAST_ACTIVATION = 3.0, 1e-6
#: Extensions of files that hold weights.
WEIGHTS_FILES = (".h5", ".keras")


def backbone_named(name: str) -> Backbone:
    """The row of a name.

    Raises:
        InvalidArgument: no such backbone; the message lists them.
    """
    try:
        return BACKBONES[name.lower()]
    except KeyError:
        raise InvalidArgument(f"There is no backbone {name!r}; choose one of {', '.join(BACKBONES)}.") from None


def backbone_and_weights(said: str) -> tuple[str, str]:
    """What `NAME` or `NAME=WEIGHTS` says: the name in small letters, and the weights, empty if there are none.

    Raises:
        InvalidArgument: no such backbone.
    """
    name, _, weights = said.partition("=")
    backbone_named(name)
    return name.lower(), weights and str(Path(weights).expanduser())


def sees_faces(backbone: str) -> bool:
    """Whether what a network is shown are faces, not whole images."""
    return backbone in BACKBONES and BACKBONES[backbone].weights == "faces"


def backbone_of(weights: str | os.PathLike[str] | None, default: str = DEFAULT_BACKBONE) -> str:
    """The backbone that fine-tuned weights say they are of; the default for all others."""
    tuned = TunedWeights.of(weights) if weights else None
    return tuned.backbone if tuned else default


def check_weights(backbone: str, weights: str) -> None:
    """Refuse what cannot be weights of a backbone, before anything is built.

    Raises:
        InvalidArgument: an unknown backbone; or neither what it is trained to nor `"random"` nor a file with an
            extension of weights. Of a face network only what it is trained to is known.
        EmbedderMismatch: weights that were fine-tuned from another backbone, or with another preprocessing.
    """
    row = backbone_named(backbone)
    if weights == row.weights:
        return
    if row.weights == "faces":
        raise InvalidArgument(f"--weights {weights!r}: the face network {backbone} has its own weights; leave it out.")
    if weights == "random":
        return
    if not weights.endswith(WEIGHTS_FILES):
        raise InvalidArgument(
            f"--weights {weights!r} is neither 'imagenet' nor 'random' nor a file that ends in .h5 or .keras."
        )
    if not Path(weights).is_file():
        raise InvalidArgument(f"There is no weights file {weights!r}; --weights takes imagenet, random or a file.")
    tuned = TunedWeights.of(weights)
    if tuned and tuned.backbone != backbone.lower():
        raise EmbedderMismatch(f"{weights!r} holds a {tuned.backbone} that was fine-tuned, not a {backbone}.")
    if tuned and tuned.preprocessing != row.preprocessing:
        raise EmbedderMismatch(
            f"{weights!r} was fine-tuned on pixels that were {tuned.preprocessing}; here they are {row.preprocessing}. "
            "Fine-tune it anew."
        )


def check_variant(backbone: str, variant: Variant) -> None:
    """Refuse what a network has not.

    Raises:
        InvalidArgument: an unknown backbone, or another variant than the plain one of a face network.
    """
    if backbone_named(backbone).weights == "faces" and variant != PLAIN:
        raise InvalidArgument(
            f"--pooling, --views and --keep-length are for networks that are shown whole images; {backbone} is shown "
            "faces. Leave them out."
        )


def weights_origin(weights: str | os.PathLike[str]) -> str:
    """Where weights come from: one of `NAMED_WEIGHTS`, or a file's whole path, for a query from another folder."""
    origin = os.fspath(weights)
    return origin if origin in NAMED_WEIGHTS else str(Path(origin).resolve())


def build_network(
    name: str,
    weights: str | os.PathLike[str],
    *,
    variant: Variant = PLAIN,
    projection: Projection | None = None,
    mixed_bfloat16: bool = False,
) -> tuple[keras.Model, str]:
    """Build a backbone with its preprocessing and its normalisation around it.

    Args:
        name: a key of `BACKBONES`.
        weights: `"imagenet"` (downloaded once by Keras, checked against its hash, kept in `~/.keras/models`),
            `"random"` (seeded: the same at every call), or the path of a `.h5`, `.weights.h5` or `.keras` file; of a
            face network `"faces"`.
        variant: how it sees, pools, and how long vectors are.
        projection: to fewer dimensions, at the end.
        mixed_bfloat16: whether the backbone computes in bfloat16; its variables, and what is around it, never do.

    Returns:
        The model, which maps (n, size, size, 3) uint8 RGB, or of several views (n, views, size, size, 3), to
        (n, dimension) float32 of length 1 if that is not kept, where the dimension is the backbone's or the
        projection's; and the hexadecimal BLAKE2b of the backbone's weight arrays.

    Raises:
        InvalidArgument: an unknown backbone, a weights file that does not exist, or a variant that it has not.
        MissingPackage: a face network needs one that is not installed.
        WeightsUnavailable: the download failed, or the file cannot be read.
        EmbedderMismatch: the file holds the weights of another network.
    """
    backbone = backbone_named(name)
    check_weights(name, os.fspath(weights))
    check_variant(name, variant)
    keras = import_keras()
    with _dtype_policy(keras, "mixed_bfloat16" if mixed_bfloat16 else "float32"):
        headless = _headless(keras, name, backbone, os.fspath(weights))
        if variant.pooling == "gem":
            headless = _pooled_by_generalised_mean(keras, headless)
    size, views = backbone.input_size, count_views(variant.views)
    pixels = keras.Input(shape_of_views(variant.views, size), dtype="uint8", name="pixels")
    seen = pixels if views == 1 else keras.ops.reshape(pixels, (-1, size, size, 3))  # (n * views, size, size, 3)
    scaled = _SCALINGS[backbone.scaling](keras, keras.ops.cast(seen, "float32"))
    features = keras.ops.cast(headless(scaled), "float32")  # (n * views, dimension)
    if variant.keep_length:
        return keras.Model(pixels, features, name=name), _digest(headless)
    # Some untrained networks give features so small that their squares vanish in the normalisation's own epsilon.
    peaks = keras.ops.max(keras.ops.abs(features), axis=-1, keepdims=True)  # (n, 1)
    embedding = keras.layers.UnitNormalization(name="embedding", dtype="float32")(
        features / keras.ops.maximum(peaks, 1e-30)
    )
    if views > 1:
        mean = keras.ops.mean(keras.ops.reshape(embedding, (-1, views, backbone.dimension)), axis=1)  # (n, dimension)
        embedding = keras.layers.UnitNormalization(name="mean_of_views", dtype="float32")(mean)
    if projection:
        projected = keras.ops.matmul(embedding - projection.mean, projection.axes.T)  # (n, reduced)
        embedding = keras.layers.UnitNormalization(name="projected", dtype="float32")(projected)
    return keras.Model(pixels, embedding, name=name), _digest(headless)


# The scalings of `keras.applications.imagenet_utils.preprocess_input`, by the names it gives them. The channel means
# are ImageNet's: in "caffe" order BGR and on the scale 0 to 255, in "torch" order RGB and on the scale 0 to 1.


def _scale_caffe(keras: Any, pixels: Any) -> Any:
    return keras.ops.flip(pixels, axis=-1) - np.array([103.939, 116.779, 123.68], np.float32)


def _scale_tf(keras: Any, pixels: Any) -> Any:
    return pixels / 127.5 - 1.0


def _scale_torch(keras: Any, pixels: Any) -> Any:
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
    return (pixels / 255.0 - mean) / deviation


def _scale_inside(keras: Any, pixels: Any) -> Any:
    return pixels  # The network of `keras.applications` begins with its own scaling layers.


# Those of face networks: dlib's own (`input_rgb_image_sized`), and DeepFace's, which reads images as OpenCV does.


def _scale_dlib(keras: Any, pixels: Any) -> Any:
    return (pixels - np.array([122.782, 117.001, 104.298], np.float32)) / 256.0


def _scale_deepface(keras: Any, pixels: Any) -> Any:
    return keras.ops.flip(pixels, axis=-1) / 255.0


_SCALINGS = {
    "caffe": _scale_caffe,
    "tf": _scale_tf,
    "torch": _scale_torch,
    "inside": _scale_inside,
    "dlib": _scale_dlib,
    "deepface": _scale_deepface,
}


def _headless(keras: Any, name: str, backbone: Backbone, weights: str) -> keras.Model:
    if name == "dlib":
        return dlib_network(keras)
    if weights == "faces":
        return deepface_network(keras, backbone.constructor, backbone.input_size)
    if weights == "imagenet":
        return _construct_imagenet(keras, name, backbone)
    if weights == "random":
        with _seeded(keras):
            return _construct(keras, backbone, None)
    try:
        if weights.endswith(".keras"):
            headless = _construct(keras, backbone, None)
            # safe_mode refuses files that carry code.
            arrays = keras.saving.load_model(weights, compile=False, safe_mode=True).get_weights()
            headless.set_weights(arrays[: len(headless.weights)])
            return headless
        with warnings.catch_warnings():
            # Keras warns of every layer that does not fit before it refuses them all.
            warnings.simplefilter("ignore")
            return _construct(keras, backbone, weights)
    except (OSError, KeyError) as error:
        raise WeightsUnavailable(f"The weights file {weights!r} cannot be read: {_first_line(error)}.") from error
    except (ValueError, TypeError) as error:
        raise EmbedderMismatch(
            f"{weights!r} does not hold the weights of a headless {name}; give a file of that network, saved by Keras."
        ) from error


def _pooled_by_generalised_mean(keras: Any, averaging: keras.Model) -> keras.Model:
    """A headless network with another pooling of its last feature maps; what follows it, as in ConvNeXt, still does.

    Radenović, Tolias and Chum, Fine-tuning CNN image retrieval with no human annotation (TPAMI 2019), equation 3, with
    their first p.
    """
    pools = [isinstance(layer, keras.layers.GlobalAveragePooling2D) for layer in averaging.layers]
    last = int(np.flatnonzero(pools)[-1])  # The others weigh channels, in squeeze-and-excitation.
    maps = keras.ops.cast(averaging.layers[last].input, "float32")  # (n, height, width, channels)
    # The least is relative: all activations of an untrained network may be smaller than what is small in a trained one.
    peaks = keras.ops.maximum(keras.ops.max(maps, axis=(1, 2, 3), keepdims=True), 1e-30)  # (n, 1, 1, 1)
    powers = keras.ops.maximum(maps / peaks, _LEAST_ACTIVATION) ** _GEM_POWER
    pooled = peaks[:, 0, 0] * keras.ops.mean(powers, axis=(1, 2)) ** (1 / _GEM_POWER)  # (n, channels)
    for layer in averaging.layers[last + 1 :]:
        pooled = layer(pooled)
    return keras.Model(averaging.input, pooled, name=averaging.name)


def _construct(keras: Any, backbone: Backbone, weights: str | None) -> keras.Model:
    size = backbone.input_size
    constructor = getattr(keras.applications, backbone.constructor)
    # Keras reports a download on standard output, which is kept for results.
    with contextlib.redirect_stdout(sys.stderr):
        return constructor(include_top=False, weights=weights, pooling="avg", input_shape=(size, size, 3))


def _construct_imagenet(keras: Any, name: str, backbone: Backbone) -> keras.Model:
    try:
        return _construct(keras, backbone, "imagenet")
    except Exception as error:  # Keras raises a bare Exception when a download fails, and removes what it wrote.
        raise WeightsUnavailable(
            f"The ImageNet weights of {name} could not be downloaded ({_first_line(error)}). Try again with internet "
            "access, give a file you have (--weights FILE; to compare, NAME=FILE), copy Keras's file into "
            "~/.keras/models, or take --weights random, which sees colour and texture only."
        ) from error


@contextlib.contextmanager
def _dtype_policy(keras: Any, policy: str) -> Iterator[None]:
    """What layers that are built inside compute in, whatever the caller's own policy is."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def _seeded(keras: Any) -> Iterator[None]:
    """The same random numbers every time, and the caller's own generators as they were afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(0)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _digest(model: keras.Model) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in model.get_weights():
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array, np.float32).data)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def import_keras() -> Any:
    """Keras, without the start-up messages that its backend's native code writes to standard error.

    Raises:
        MissingPackage: its backend is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" in sys.modules:
        return sys.modules["keras"]
    try:
        with silent_standard_error():
            import keras
    except (ModuleNotFoundError, ValueError) as error:
        backend = os.environ.get("KERAS_BACKEND")
        raise MissingPackage(
            f"Keras cannot be used with KERAS_BACKEND={backend}: {error}; install that backend, or unset the variable."
        ) from error
    return keras
