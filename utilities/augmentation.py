"""Images altered at random, as far as they go on to show what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utilities.backbones import import_keras

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray


def augmentation(seed: int) -> keras.Model:
    """Keras's layers that alter images at random, the same way for the same seed: they stay what they show."""
    keras = import_keras()
    layers = keras.layers
    return keras.Sequential(
        [
            layers.RandomFlip("horizontal", seed=seed),
            layers.RandomRotation(0.03, seed=seed + 1),  # of a turn: up to 11 degrees
            # Crops about the middle of at least 70 % of each side, moved by up to a tenth; what is missing is mirrored.
            layers.RandomZoom((-0.3, 0.0), (-0.3, 0.0), seed=seed + 2),
            layers.RandomTranslation(0.1, 0.1, seed=seed + 3),
            layers.RandomBrightness(0.2, seed=seed + 4),
            layers.RandomContrast(0.2, seed=seed + 5),
        ],
        name="augmentation",
    )


def altered(pixels: NDArray[np.uint8], augment: keras.Model) -> NDArray[np.uint8]:
    """Images as `augmentation` alters them: (n, size, size, 3) RGB."""
    ops = import_keras().ops
    changed = augment(ops.convert_to_tensor(pixels, "float32"), training=True)
    return np.asarray(np.clip(np.rint(ops.convert_to_numpy(changed)), 0, 255), np.uint8)
