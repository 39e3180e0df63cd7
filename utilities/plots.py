"""Figures: a query and its neighbours as a grid. Arrays and images in, a matplotlib Figure out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw

from utilities.crops import Crop
from utilities.errors import ImageError, MissingPackage
from utilities.image_files import ImageSource, open_image
from utilities.items import printable
from utilities.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.gridspec import GridSpec

#: Colour of the query's frame and caption: a dark orange that also reads in greyscale.
_ACCENT = "#b5460f"
_GREY = "#6b6b6b"
#: Side in pixels to which a picture is reduced before it is drawn, so that a figure of 20 photographs stays small.
_THUMBNAIL = 320
_PALE = "#d0d0d0"
_TILE_INCHES = 1.35
#: Height of a tile's two lines of caption.
_CAPTION_INCHES = 0.36
#: Frames of a video; the size of one, and what lies between two videos, as parts of a tile.
_FRAMES, _FRAME, _GUTTER = 3, 0.8, 0.15


@dataclass(frozen=True)
class Tile:
    """One picture of a grid with its two lines of caption."""

    #: What shows it: mostly a file.
    picture: ImageSource
    #: Bold.
    title: str
    #: Shortened where it is too long for the tile.
    subtitle: str
    #: The part of the picture that is meant, which is framed.
    box: Crop | None = None
    #: Written into the picture's corner.
    inside: str = ""


def image_grid(
    query: Image.Image,
    query_name: str,
    tiles: Sequence[Tile],
    *,
    box: Crop | None = None,
    key: str = "",
    note: str = "",
    settings: Settings | None = None,
) -> Figure:
    """A query, large on the left, and tiles in reading order on the right, five in a row (ten from 50 tiles on).

    Args:
        query: the query's image.
        query_name: its caption.
        tiles: what to draw beside it; a file that cannot be opened becomes an empty tile that says so.
        box: the part of the query that was searched with; it is framed.
        key: a line below the query's caption that says what the titles of the tiles mean.
        note: lines below that, which a reader must not overlook.
        settings: limits; from the environment by default.
    """
    columns = 5 if len(tiles) < 50 else 10
    rows = max(2, math.ceil(len(tiles) / columns))
    figure, grid = _beside_the_query(query, query_name, rows, [1.0] * columns, box, key, note)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        _draw_tile(figure.add_subplot(grid[row, column + 2], anchor="N"), tile, settings)
    return figure


def mosaic(like: Sequence[ImageSource], unlike: Sequence[ImageSource], settings: Settings | None = None) -> Image.Image:
    """Several query pictures as one, in a square of tiles; what the matches are not to be like is crossed out."""
    tiles = [open_image(each, settings, at_least=_THUMBNAIL) for each in (*like, *unlike)]
    columns = math.ceil(math.sqrt(len(tiles)))
    side = _THUMBNAIL // columns
    whole = Image.new("RGB", (columns * side, math.ceil(len(tiles) / columns) * side), "white")
    for number, tile in enumerate(tiles):
        tile.thumbnail((side - 4, side - 4))
        if number >= len(like):
            drawn, (right, bottom) = ImageDraw.Draw(tile), tile.size
            for line in ((0, 0, right, bottom), (0, bottom, right, 0)):
                drawn.line(line, "white", 9)
                drawn.line(line, "#c01818", 5)
        row, column = divmod(number, columns)
        whole.paste(tile, (column * side + (side - tile.width) // 2, row * side + (side - tile.height) // 2))
    return whole


def video_grid(
    query: Image.Image,
    query_name: str,
    videos: Sequence[tuple[Tile, Sequence[Tile]]],
    *,
    box: Crop | None = None,
    key: str = "",
    note: str = "",
    settings: Settings | None = None,
) -> Figure:
    """A query on the left, and on the right videos, two in a row, each by a few of its frames.

    Args:
        query: what shows the query.
        query_name: its caption.
        videos: of each its first frame, with the video's two lines of caption, and at most two other frames, which have
            none.
        box: as for `image_grid`.
        key: as for `image_grid`.
        note: as for `image_grid`.
        settings: limits; from the environment by default.
    """
    rows = max(2, math.ceil(len(videos) / 2))
    strip = [_FRAME] * _FRAMES
    figure, grid = _beside_the_query(
        query, query_name, rows, [*strip, _GUTTER, *strip], box, key, note, _FRAME * _TILE_INCHES
    )
    for index, (first, others) in enumerate(videos):
        row, column = index // 2, 2 + index % 2 * (_FRAMES + 1)
        for number, tile in enumerate([first, *others]):
            axes = figure.add_subplot(grid[row, column + number], anchor="N")
            _draw_tile(axes, tile, settings, widths=_FRAMES if number == 0 else 0)
    return figure


def _beside_the_query(
    query: Image.Image,
    name: str,
    rows: int,
    widths: Sequence[float],
    box: Crop | None,
    key: str,
    note: str,
    tile: float = _TILE_INCHES,
) -> tuple[Figure, GridSpec]:
    """A figure with the query at its left, two columns wide, and room for rows of tiles so wide beside it."""
    width, height = (sum(widths) + 2.3) * _TILE_INCHES, rows * (tile + _CAPTION_INCHES)
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    grid = figure.add_gridspec(
        *(rows, len(widths) + 2),
        width_ratios=[1.0, 1.0, *widths],
        left=0.12 / width,
        right=1 - 0.12 / width,
        top=1 - _CAPTION_INCHES / height,
        bottom=0.06 / height,
        wspace=0.1,
        hspace=_CAPTION_INCHES / tile,
    )
    axes = figure.add_subplot(grid[0:2, 0:2], anchor="N")
    bottom = _draw(axes, query, _ACCENT, 2.5, box)
    axes.set_title("Query", fontsize=10, fontweight="bold", color=_ACCENT, pad=4, loc="left")
    caption = f"{_shorten(name, 36)}\n{key}"
    below: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "fontsize": 8, "parse_math": False}
    axes.text(0, bottom - 0.03, caption, color=_GREY, **below)
    axes.text(0, bottom - 0.19, note, color=_ACCENT, fontweight="bold", **below)
    return figure, grid


def neighbour_rows(
    rows: Sequence[tuple[Tile, Sequence[Tile]]], *, heading: str, settings: Settings | None = None
) -> Figure:
    """Queries in the first column, and what each of them found to the right of it.

    Args:
        rows: each query and its neighbours, at least one row.
        heading: a sentence above them that says what to see.
        settings: limits; from the environment by default.
    """
    columns = 1 + max(len(tiles) for _, tiles in rows)
    lines = textwrap.wrap(heading, round(11 * columns * _TILE_INCHES))
    height_of_row, top = _TILE_INCHES + _CAPTION_INCHES, 0.15 + 0.2 * len(lines)
    width, height = (columns + 0.2) * _TILE_INCHES, len(rows) * height_of_row + top
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    figure.text(
        0.12 / width, 1 - 0.12 / height, "\n".join(lines), va="top", fontsize=10, fontweight="bold", parse_math=False
    )
    grid = figure.add_gridspec(
        *(len(rows), columns),
        left=0.12 / width,
        right=1 - 0.12 / width,
        top=1 - (_CAPTION_INCHES + top) / height,
        bottom=0.06 / height,
        wspace=0.1,
        hspace=_CAPTION_INCHES / _TILE_INCHES,
    )
    for row, (query, tiles) in enumerate(rows):
        for column, tile in enumerate([query, *tiles]):
            _draw_tile(figure.add_subplot(grid[row, column], anchor="N"), tile, settings, is_query=column == 0)
    return figure


def _draw_tile(axes: Axes, tile: Tile, settings: Settings | None, *, is_query: bool = False, widths: int = 1) -> None:
    """Draw a tile, whose caption is so many tiles wide; with 0, only what stands in the picture."""
    frame, line = (_ACCENT, 2.5) if is_query else (_PALE, 0.8)
    try:
        bottom = _draw(axes, open_image(tile.picture, settings, at_least=_THUMBNAIL), frame, line, tile.box)
    except (ImageError, MissingPackage):
        bottom = _draw(axes, Image.new("RGB", (3, 2), "#f4f4f4"), frame, line)
        axes.text(0.5, 0.65, "file cannot\nbe read", transform=axes.transAxes, ha="center", va="center", fontsize=8)
    written: dict[str, Any] = {"transform": axes.transAxes, "parse_math": False}
    if tile.inside:
        dark = {"boxstyle": "square,pad=0.25", "facecolor": "#000000b0", "edgecolor": "none"}
        axes.text(0.04, bottom + 0.05, tile.inside, va="bottom", fontsize=6.5, color="white", bbox=dark, **written)
    if widths:
        title = _shorten(tile.title, 15 * widths)
        axes.set_title(title, fontsize=8.5, fontweight="bold", pad=12, loc="left", parse_math=False)
        axes.text(0, 1.03, _shorten(tile.subtitle, 23 * widths), va="bottom", fontsize=6.5, color=_GREY, **written)


def _draw(axes: Axes, image: Image.Image, frame: str, line: float, box: Crop | None = None) -> float:
    """Draw an image into the top left corner of a square, framed; returns where its lower edge is, from 0 to 1."""
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    width, height = (side / max(image.size) for side in image.size)
    axes.imshow(image, extent=(0, width, 1 - height, 1))
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_axis_off()
    axes.add_patch(
        Rectangle((0, 1 - height), width, height, fill=False, edgecolor=frame, linewidth=line, clip_on=False)
    )
    if box:
        corner = (box.left * width, 1 - (box.top + box.height) * height)
        sides = (box.width * width, box.height * height)
        # Light on dark, so that it is seen on any picture.
        for colour, thickness in (("black", 2.6), ("#ffd23f", 1.4)):
            axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=colour, linewidth=thickness))
    return 1 - height


def _shorten(text: str, length: int) -> str:
    """Cut out the middle of a long name: its beginning and its extension say most."""
    text = printable(text)
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"
