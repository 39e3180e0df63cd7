"""A part of an image, whatever the image's size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from utilities.errors import InvalidArgument


@dataclass(frozen=True)
class Crop:
    """A part of an image, in fractions of its upright width and height."""

    left: float
    top: float
    width: float
    height: float

    def __post_init__(self) -> None:
        """Refuse what is no part.

        Raises:
            InvalidArgument: it has no area, or does not lie within the image.
        """
        sides = ((self.left, self.width), (self.top, self.height))
        # What is not a number satisfies no comparison.
        if not all(start >= 0 and length >= 0.001 and start + length <= 1 + 1e-6 for start, length in sides):
            raise InvalidArgument(
                f"A crop of {self.left:g}, {self.top:g}, {self.width:g}, {self.height:g} is no part of an image; give "
                "left, top, width and height as fractions of the whole, from 0 to 1."
            )

    def whole_side(self, side: int) -> int:
        """How wide and high an image must be for this part of it to be at least so wide and high."""
        return math.ceil(side / min(self.width, self.height))

    def of(self, image: Image.Image) -> Image.Image:
        """That part of an image, in whole pixels, and at least one."""
        left = min(round(self.left * image.width), image.width - 1)
        top = min(round(self.top * image.height), image.height - 1)
        right = min(round((self.left + self.width) * image.width), image.width)
        bottom = min(round((self.top + self.height) * image.height), image.height)
        return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
