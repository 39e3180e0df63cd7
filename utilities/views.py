"""How a picture becomes what a network is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utilities.fingerprint import Fingerprint


class Sight:
    """What embedders of one network have in common, of `utilities.embedder.Embedder`: how they see, and what."""

    def __init__(self, fingerprint: Fingerprint, side: int) -> None:
        """Of a network that takes squares of so many pixels a side."""
        self.fingerprint = fingerprint
        self.dimension = fingerprint.dimension
        self.input_size = side
        self.input_shape: tuple[int, ...] = (side, side, 3)

    def see(self, image: Image.Image) -> NDArray[np.uint8]:
        """As `Embedder.see`."""
        return squashed(image, self.input_size)


def squashed(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """All of an RGB image as a square, resampled bilinearly: (side, side, 3) uint8."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
