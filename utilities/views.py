"""Ways to show a picture to a network, which takes squares.

A network that is shown several averages what it makes of them (test-time augmentation, as in Krizhevsky, Sutskever and
Hinton, ImageNet classification with deep convolutional neural networks, 2012, section 4.1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from utilities.errors import InvalidArgument

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utilities.fingerprint import Fingerprint

#: The part of a picture's width and of its height that the view `zoom` shows: of 256 pixels the middle 224.
ZOOM = 7 / 8
#: What lies around a picture in the view `pad`.
_GREY = (128, 128, 128)


def squashed(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """All of an RGB image as a square, resampled bilinearly: (side, side, 3) uint8."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def _cropped(image: Image.Image, side: int) -> NDArray[np.uint8]:
    shorter = min(image.size)
    left, top = (image.width - shorter) / 2, (image.height - shorter) / 2
    square = (left, top, left + shorter, top + shorter)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=square))


def _padded(image: Image.Image, side: int) -> NDArray[np.uint8]:
    # Not `ImageOps.pad`, which fails where a long picture would be no pixel high.
    width, height = (max(1, round(side * each / max(image.size))) for each in image.size)
    square = Image.new("RGB", (side, side), _GREY)
    square.paste(image.resize((width, height), Image.Resampling.BILINEAR), ((side - width) // 2, (side - height) // 2))
    return np.asarray(square)


def _zoomed(image: Image.Image, side: int) -> NDArray[np.uint8]:
    left, top = (each * (1 - ZOOM) / 2 for each in image.size)
    middle = (left, top, image.width - left, image.height - top)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=middle))


_SHOWN = {"squash": squashed, "crop": _cropped, "pad": _padded, "zoom": _zoomed}
#: What `--views` takes: all of a picture, its aspect ratio lost; its middle square; all of it on mid grey, its aspect
#: ratio kept; its middle; and the mirror images of those, too.
VIEWS = (*_SHOWN, "mirror")


def canonical_views(views: str) -> str:
    """One or several of `VIEWS`, separated by commas, in their order, so that what is the same is called the same.

    Raises:
        InvalidArgument: anything else, or `mirror` alone.
    """
    names = [name.strip().lower() for name in views.split(",")]
    for name in names:
        if name not in VIEWS:
            raise InvalidArgument(
                f"There is no view {name!r}; choose one or several of {', '.join(VIEWS)}, separated by commas."
            )
    if set(names) == {"mirror"}:
        raise InvalidArgument("--views mirror adds the mirror image of each other view; name one, as in squash,mirror.")
    return ",".join(name for name in VIEWS if name in names)


def count_views(views: str) -> int:
    """How many pictures a network is shown of one."""
    names = views.split(",")
    return 2 * (len(names) - 1) if "mirror" in names else len(names)


def shape_of_views(views: str, side: int) -> tuple[int, ...]:
    """Of what a network that takes squares of so many pixels a side is shown of one picture."""
    count = count_views(views)
    return (side, side, 3) if count == 1 else (count, side, side, 3)


class Sight:
    """What embedders of one network have in common, of `utilities.embedder.Embedder`: how they see, and what."""

    def __init__(self, fingerprint: Fingerprint, side: int) -> None:
        """Of a network that takes squares of so many pixels a side."""
        self.fingerprint = fingerprint
        self.dimension = fingerprint.dimension
        self.input_size = math.ceil(side / ZOOM) if "zoom" in fingerprint.views else side
        self.input_shape = shape_of_views(fingerprint.views, side)

    def see(self, image: Image.Image) -> NDArray[np.uint8]:
        """As `Embedder.see`."""
        side, names = self.input_shape[-2], self.fingerprint.views.split(",")
        shown = [_SHOWN[name](image, side) for name in names if name != "mirror"]
        if "mirror" in names:
            shown += [each[:, ::-1] for each in shown]
        return shown[0] if len(shown) == 1 else np.stack(shown)
