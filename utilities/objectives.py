"""What a backbone may be fine-tuned to: the layers that are put on it for that, its batches and its loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.augmentation import altered
from utilities.backbones import import_keras
from utilities.errors import InvalidArgument
from utilities.labels import Labels
from utilities.reduction import unit_length

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

OBJECTIVES = ("classify", "contrastive", "autoencoder")
#: What similarities are divided by before they compete; Zhai and Wu took 0.05, Khosla et al. 0.1 (both below).
CLASS_TEMPERATURE, PAIR_TEMPERATURE = 0.05, 0.1
#: How often the head is shown the images before the network learns.
HEAD_EPOCHS = 20
#: Images of one label that come to a contrastive batch together, so that most have others of their own there.
TOGETHER = 2
#: Height and width in pixels of what the autoencoder rebuilds: 7 doubled four times.
REBUILT = 112


class Objective(ABC):
    """One of them."""

    @abstractmethod
    def trained(self, network: keras.Model) -> keras.Model:
        """The network with what is put on it; what that returns, the loss compares with the second part of a batch."""

    @abstractmethod
    def loss(self, expected: Any, returned: Any) -> Any:
        """(n,) tensor, one value for each image that was shown."""

    def order(self, labels: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """In which order the n images of an epoch are shown: (n,) numbers."""
        return random.permutation(len(labels))

    def batch(
        self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], augment: keras.Model
    ) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """What the network is shown of some images, and what the loss compares with: here, altered, and their labels.

        Args:
            pixels: (n, size, size, 3) RGB.
            labels: (n,); -1 where there is none.
            augment: from `augmentation`.
        """
        return altered(pixels, augment), labels


class Classify(Objective):
    """Tell the labels apart: a normalised softmax, which makes cosines between embeddings mean something.

    Zhai and Wu, Classification is a Strong Baseline for Deep Metric Learning (2019), section 3.1.
    """

    def __init__(self, embeddings: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> None:
        """Train the head alone first, on what the network gives as it is.

        A random head would push the network about (Kumar et al., Fine-Tuning can Distort Pretrained Features and
        Underperform Out-of-Distribution, 2022).

        Args:
            embeddings: (n, dimension) of the images to train on, rows of length 1.
            labels: (n,) from 0 to the number of labels - 1, each at least once.
            seed: of the order in which they are shown.
        """
        keras = import_keras()
        sums = np.stack([embeddings[labels == code].sum(axis=0) for code in range(labels.max() + 1)])
        head = keras.Sequential([keras.Input(embeddings.shape[1:]), *self._head(len(sums))])
        # Each label begins at the mean of its own: Qi et al., Low-Shot Learning with Imprinted Weights (2018).
        head.layers[0].set_weights([unit_length(sums).T])
        head.compile(keras.optimizers.Adam(1e-3), self.loss)
        order = np.random.default_rng(seed).permutation(len(labels))
        head.fit(embeddings[order], labels[order], batch_size=64, epochs=HEAD_EPOCHS, shuffle=False, verbose=0)
        self._kernel = head.layers[0].get_weights()

    def trained(self, network: keras.Model) -> keras.Model:
        """As `Objective.trained`: cosines with each label's direction, divided by the temperature."""
        cosines, scaled = self._head(self._kernel[0].shape[1])
        model = import_keras().Model(network.input, scaled(cosines(network.output)))
        cosines.set_weights(self._kernel)
        return model

    def _head(self, labels: int) -> list[keras.layers.Layer]:
        keras = import_keras()
        unit_length = keras.constraints.UnitNorm(axis=0)
        cosines = keras.layers.Dense(labels, use_bias=False, kernel_constraint=unit_length, name="labels")
        return [cosines, keras.layers.Rescaling(1 / CLASS_TEMPERATURE, name="scaled")]

    def loss(self, expected: Any, returned: Any) -> Any:
        """As `Objective.loss`: cross-entropy."""
        return import_keras().losses.sparse_categorical_crossentropy(expected, returned, from_logits=True)


class Contrastive(Objective):
    """Images of one label lie together, away from all others: Khosla et al., Supervised Contrastive Learning (2020),
    equation 2. There is no head: what a search compares is trained.

    An image that meets none of its own in a batch is shown in two altered copies. Where nothing has a label these are
    all, which is SimCLR: Chen et al., A Simple Framework for Contrastive Learning of Visual Representations (2020).
    """

    def trained(self, network: keras.Model) -> keras.Model:
        """As `Objective.trained`."""
        return network

    def loss(self, expected: Any, returned: Any) -> Any:
        """As `Objective.loss`."""
        ops = import_keras().ops
        labels = ops.reshape(expected, (-1, 1))
        similarities = ops.matmul(returned, ops.transpose(returned)) / PAIR_TEMPERATURE
        own = ops.eye(ops.shape(returned)[0])
        similarities = similarities - 1e9 * own  # None competes with itself.
        likelihoods = similarities - ops.logsumexp(similarities, axis=1, keepdims=True)
        together = ops.cast(ops.equal(labels, ops.transpose(labels)), "float32") - own
        return -ops.sum(together * likelihoods, axis=1) / ops.sum(together, axis=1)

    def order(self, labels: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """As `Objective.order`: `TOGETHER` images of a label, or one more, follow each other, as far as there are."""
        shuffled = random.permutation(len(labels))
        own = [shuffled[labels[shuffled] == code] for code in np.unique(labels)]
        groups = [group for rows in own for group in np.array_split(rows, max(1, len(rows) // TOGETHER))]
        return np.concatenate([groups[each] for each in random.permutation(len(groups))])

    def batch(
        self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], augment: keras.Model
    ) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """As `Objective.batch`."""
        numbered = np.where(labels < 0, -1 - np.arange(len(labels)), labels)
        _, where, counts = np.unique(numbered, return_inverse=True, return_counts=True)
        rows = np.append(np.arange(len(labels)), np.flatnonzero(counts[where] == 1))
        return altered(pixels[rows], augment), numbered[rows]


class Autoencoder(Objective):
    """An embedding is enough to rebuild the image from: Hinton and Salakhutdinov, Reducing the Dimensionality of Data
    with Neural Networks (2006), with the backbone as the encoder.
    """

    def trained(self, network: keras.Model) -> keras.Model:
        """As `Objective.trained`: (n, `REBUILT`, `REBUILT`, 3) from 0 to 1."""
        keras = import_keras()
        # Of a unit vector in many dimensions each value is small.
        image = keras.layers.Rescaling(network.output.shape[-1] ** 0.5)(network.output)
        image = keras.layers.Dense(7 * 7 * 256, activation="relu")(image)
        image = keras.layers.Reshape((7, 7, 256))(image)
        for channels in (128, 64, 32, 16):
            image = keras.layers.UpSampling2D(interpolation="bilinear")(image)
            image = keras.layers.Conv2D(channels, 3, padding="same", activation="relu")(image)
        return keras.Model(network.input, keras.layers.Conv2D(3, 3, padding="same", activation="sigmoid")(image))

    def loss(self, expected: Any, returned: Any) -> Any:
        """As `Objective.loss`: the mean squared error of a channel."""
        return import_keras().ops.mean((expected - returned) ** 2, axis=(1, 2, 3))

    def batch(
        self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], augment: keras.Model
    ) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """As `Objective.batch`: what is rebuilt is the image as it was altered."""
        shown = altered(pixels, augment)
        ops = import_keras().ops
        smaller = ops.image.resize(ops.cast(shown, "float32"), (REBUILT, REBUILT), antialias=True)
        return shown, np.asarray(ops.convert_to_numpy(smaller) / 255, np.float32)


def check_labels(labels: Labels, objective: str) -> None:
    """Refuse labels that an objective cannot be trained with.

    Args:
        labels: of all images; those without one are not counted.
        objective: one of `OBJECTIVES`.

    Raises:
        InvalidArgument: no such objective; one that needs labels where there are none, or only one; or labels with a
            single image, of which nothing could be held out.
    """
    if objective not in OBJECTIVES:
        raise InvalidArgument(f"There is no objective {objective!r}; choose one of {', '.join(OBJECTIVES)}.")
    if objective == "classify" and not labels.names:
        raise InvalidArgument(
            "--objective classify needs labels, and there are none; sort the images into folders, give a CSV with "
            "--labels, or take --objective contrastive or autoencoder."
        )
    if objective == "classify" and len(labels.names) == 1:
        raise InvalidArgument(
            f"--objective classify needs two categories at least, and all images are of {labels.names[0]!r}; give the "
            "folder above, a CSV with --labels, or take --objective contrastive or autoencoder."
        )
    alone = [labels.names[code] for code in np.unique(labels.codes[(labels.codes >= 0) & (labels.others() == 0)])]
    if alone and objective != "autoencoder" and len(labels.names) > 1:
        more = f" and {len(alone) - 3:,} more" if len(alone) > 3 else ""
        raise InvalidArgument(
            f"Of {', '.join(map(repr, alone[:3]))}{more} there is one image, and each category needs one to train on "
            "and one that is held out; add images, move those away, or leave them out of a CSV for --labels."
        )
