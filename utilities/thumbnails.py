"""Small pictures of many files, and large pictures made of them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from tqdm import tqdm

from utilities.crops import Crop
from utilities.errors import ImageError
from utilities.image_files import open_image
from utilities.settings import Settings
from utilities.videos import Still

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Longest side of a thumbnail, in pixels.
SIDE = 96
#: The most that a JPEG can have (ITU-T T.81, table B.2), less what libjpeg leaves out.
MOST_SIDE = 65_500
#: What stands for a file that is gone or cannot be read.
NOTHING = Image.new("RGB", (SIDE, SIDE * 3 // 4), "#d9dde0")


def read_thumbnails(
    pictures: Sequence[Path | Still], boxes: Sequence[Crop | None], settings: Settings, *, progress: bool = True
) -> list[Image.Image]:
    """A thumbnail of each picture, or of the part of it that is boxed; a grey one where it cannot be read."""
    with ThreadPoolExecutor(thread_name_prefix="thumbnail") as pool:
        read = pool.map(partial(_thumbnail, settings=settings), pictures, boxes)
        return [*tqdm(read, total=len(pictures), unit="image", desc="thumbnails", disable=not progress)]


def _thumbnail(picture: Path | Still, box: Crop | None, settings: Settings) -> Image.Image:
    at_least = SIDE if box is None else box.whole_side(SIDE)
    try:
        image = open_image(picture, settings, at_least=at_least)
    except ImageError:
        return NOTHING
    if box:  # Faces are drawn alike, however small they are in their pictures.
        return ImageOps.contain(box.of(image), (SIDE, SIDE))
    image.thumbnail((SIDE, SIDE))
    return image


def as_jpeg(image: Image.Image, side: int = MOST_SIDE) -> bytes:
    """An RGB image as a JPEG file; the image itself is made smaller where it is wider or higher than `side` pixels."""
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return content.getvalue()


def data_url(image: Image.Image) -> str:
    """An image as a JPEG that a page carries in itself."""
    return "data:image/jpeg;base64," + base64.b64encode(as_jpeg(image)).decode()


def tile_map(
    points: NDArray[np.float64], tiles: Sequence[Image.Image], side: int = 3_000, tile: int = 52
) -> Image.Image:
    """Pictures at the places of a map, where they may cover each other; the first lies lowest.

    Args:
        points: (n, 2), each axis from 0 to 1, the second upward.
        tiles: n pictures.
        side: of the whole, in pixels.
        tile: longest side of each, in pixels.
    """
    canvas = Image.new("RGB", (side, side), "white")
    for (x, y), picture in zip(points, tiles, strict=True):
        small = picture.copy()
        small.thumbnail((tile, tile))
        corner = (round(x * (side - tile) + (tile - small.width) / 2), round((1 - y) * (side - tile)))
        canvas.paste(small, corner)
    return canvas


def contact_sheet(heading: str, tiles: Sequence[Image.Image], columns: int = 8) -> Image.Image:
    """Pictures in rows below a heading, each in the middle of its cell.

    Args:
        heading: a line of text.
        tiles: n pictures, at most `SIDE` pixels wide and high.
        columns: pictures in a row.
    """
    gap, top = 8, 40
    rows = math.ceil(len(tiles) / columns)
    canvas = Image.new("RGB", (gap + columns * (SIDE + gap), top + rows * (SIDE + gap)), "white")
    ImageDraw.Draw(canvas).text((gap, gap), heading, fill="#22303a", font=ImageFont.load_default(18))
    for number, picture in enumerate(tiles):
        row, column = divmod(number, columns)
        left, upper = gap + column * (SIDE + gap), top + row * (SIDE + gap)
        canvas.paste(picture, (left + (SIDE - picture.width) // 2, upper + (SIDE - picture.height) // 2))
    return canvas


@dataclass(frozen=True)
class SheetGroup:
    """Pictures that belong together, for `group_sheet`."""

    heading: str
    #: At most `SIDE` pixels wide and high.
    pictures: list[Image.Image]
    #: The lines below each: its name, which is shortened where it is too long, and others, which are broken.
    captions: list[list[str]]


def group_sheet(groups: Sequence[SheetGroup], columns: int = 7) -> Image.Image:
    """Groups of pictures in rows, each group below its heading and with its first picture framed.

    Args:
        groups: in their order; a row holds as many whole ones as fit, and one that does not fit has rows of its own.
        columns: pictures in a row.
    """
    gap, width, line, above = 20, 150, 16, 30
    small, large = _font(11), _font(14)
    captions = [[_fitted(caption, width, small) for caption in group.captions] for group in groups]
    lines = max((len(caption) for group in captions for caption in group), default=0)
    cell = above + SIDE + 10 + lines * line + gap
    starts = _flow([len(group.pictures) for group in groups], columns)
    cells = [
        start + number for start, group in zip(starts, groups, strict=True) for number in range(len(group.pictures))
    ]
    rows = max(cells, default=0) // columns + 1
    canvas = Image.new("RGB", (gap + columns * (width + gap), gap // 2 + rows * cell), "white")
    draw = ImageDraw.Draw(canvas)
    for start, group, below in zip(starts, groups, captions, strict=True):
        for number, (picture, caption) in enumerate(zip(group.pictures, below, strict=True)):
            row, column = divmod(start + number, columns)
            left, top = gap + column * (width + gap), gap // 2 + row * cell
            upper = top + above + SIDE - picture.height
            canvas.paste(picture, (left, upper))
            if number == 0:
                draw.text((left, top), group.heading, fill="#22303a", font=large)
                frame = (left - 4, upper - 4, left + picture.width + 3, upper + picture.height + 3)
                draw.rectangle(frame, outline="#1b7f4b", width=2)
                if column:
                    rule = left - gap // 2
                    draw.line((rule, top + 4, rule, top + cell - gap), fill="#c9d0d6")
            for place, text in enumerate(caption):
                corner = (left, top + above + SIDE + 8 + place * line)
                draw.text(corner, text, fill="#5c6b77" if place else "#22303a", font=small)
    return canvas


def _flow(sizes: Sequence[int], columns: int) -> list[int]:
    """The cell at which each group begins, counted from left to right and from above."""
    starts, cell = [], 0
    for size in sizes:
        if cell % columns + size > columns:
            cell = math.ceil(cell / columns) * columns
        starts.append(cell)
        cell += size
        if size > columns:
            cell = math.ceil(cell / columns) * columns
    return starts


def _font(size: int) -> ImageFont.FreeTypeFont:
    """One with more letters than Pillow's own, which file names may need."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def _fitted(caption: Sequence[str], width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """The first line, a name, shortened; the others broken between their words."""
    name, *others = caption
    lines = [_shortened(name, width, font)]
    for text in others:
        first, *words = text.split(" ")
        lines.append(first)
        for word in words:
            longer = f"{lines[-1]} {word}"
            if font.getlength(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
    return lines


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """A text that is no wider, without what lies in its middle if need be: names differ at their ends."""
    kept = len(text)
    shown = text
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = f"{text[: kept // 2]}…{text[-(kept - kept // 2) :]}"
    return shown


def tile_grid(cells: NDArray[np.int64], tiles: Sequence[Image.Image], tile: int = 56) -> Image.Image:
    """Pictures in the cells of a grid, cut to squares.

    Args:
        cells: (n, 2) columns and rows, from 0, rows upward.
        tiles: n pictures.
        tile: side of each, in pixels.
    """
    columns, rows = cells.max(axis=0) + 1
    canvas = Image.new("RGB", (int(columns) * tile, int(rows) * tile), "white")
    for (column, row), picture in zip(cells.tolist(), tiles, strict=True):
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side)).resize((tile - 2, tile - 2))
        canvas.paste(square, (column * tile + 1, (int(rows) - 1 - row) * tile + 1))
    return canvas
