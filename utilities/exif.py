"""What a camera wrote into an image file: when the image was taken, and by what."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from PIL.ExifTags import IFD, Base

if TYPE_CHECKING:
    from PIL import Image

#: Names of the attributes that an item of an image may have by its EXIF data.
EXIF_ATTRIBUTES = ("taken", "camera")
#: Tags that say when, the best first: the shutter, the scanner, the last change of the file (Exif 2.32, 4.6.5).
_TIMES = (Base.DateTimeOriginal, Base.DateTimeDigitized, Base.DateTime)
_TIME = re.compile(r"(\d{4})[:/-](\d{2})[:/-](\d{2})[ T](\d{2}):(\d{2}):(\d{2})", re.ASCII)
#: Characters of a camera's name that are kept.
_LONGEST_NAME = 200


def exif_attributes(image: Image.Image) -> dict[str, str]:
    """What EXIF says of an image, as attributes of its item; what it does not say, or says unreadably, is absent.

    Args:
        image: as Pillow opened it, before anything was done with it.

    Returns:
        `taken`, the camera's local time in ISO 8601, such as `2023-05-17T10:31:00`, which sorts as text; and `camera`,
        maker and model, the maker not twice.
    """
    tags: dict[int, Any] = {}
    with contextlib.suppress(Exception):  # Damaged EXIF data does not damage the picture,
        tags |= image.getexif()
        with contextlib.suppress(Exception):  # nor a damaged directory of the photograph that of the image.
            tags |= image.getexif().get_ifd(IFD.Exif)
    found = {"taken": _taken(tags), "camera": _camera(tags)}
    return {name: text for name, text in found.items() if text}


def _taken(tags: Mapping[int, Any]) -> str:
    for tag in _TIMES:
        if match := _TIME.match(_text(tags.get(tag))):
            try:
                return datetime(*map(int, match.groups())).isoformat()  # type: ignore[arg-type]  # of which there are six
            except ValueError:  # Cameras whose clock was never set write zeros.
                continue
    return ""


def _camera(tags: Mapping[int, Any]) -> str:
    make, model = _text(tags.get(Base.Make)), _text(tags.get(Base.Model))
    # "NIKON CORPORATION" makes the "NIKON D850".
    if make and model and make.split()[0].casefold() == model.split()[0].casefold():
        make = ""
    return f"{make} {model}".strip()[:_LONGEST_NAME].rstrip()


def _text(value: object) -> str:
    """A tag's text; some cameras pad it with NULs or blanks to a fixed length."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        return ""
    shown = "".join(each if each.isprintable() else " " for each in value)
    return " ".join(shown.split())
