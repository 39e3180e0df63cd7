"""Draw a small tree of images, so that there is something to search before anybody brings their own.

Fourteen categories, told apart by shape, texture, colour or layout; within a category position, size, colours and
proportions vary. Seeded: the same tree every time.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFilter

Colour: TypeAlias = tuple[int, int, int]
_Painter: TypeAlias = Callable[[ImageDraw.ImageDraw, int, int, random.Random], None]


def draw_tree(directory: Path, per_category: int = 25, seed: int = 0) -> int:
    """Draw the tree unless it is there: `directory/<category>/<category>_01.jpg` and so on.

    Args:
        directory: made where it is missing.
        per_category: images of each category.
        seed: another seed gives other images of the same categories.

    Returns:
        How many images the tree has.

    Raises:
        OSError: the directory cannot be written.
    """
    for category, painter in CATEGORIES.items():
        folder = directory / category
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, per_category + 1):
            file = folder / f"{category}_{number:02}.jpg"
            if not file.exists():
                rng = random.Random(f"{seed} {category} {number}")
                _paint(painter, rng).save(file, quality=90)
    return len(CATEGORIES) * per_category


def _paint(painter: _Painter, rng: random.Random) -> Image.Image:
    width, height = rng.choice([(320, 240), (240, 320), (280, 280), (320, 200)])
    # Drawn at twice the size and reduced, which smooths the edges.
    image = Image.new("RGB", (2 * width, 2 * height), "white")
    painter(ImageDraw.Draw(image), 2 * width, 2 * height, rng)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(1))
    return image


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _any_colour(rng: random.Random) -> Colour:
    return _colour(rng.random(), rng.uniform(0.5, 0.9), rng.uniform(0.55, 0.95))


def _pale(rng: random.Random) -> Colour:
    return _colour(rng.random(), rng.uniform(0.05, 0.2), rng.uniform(0.9, 1.0))


def _regular(
    centre: tuple[float, float], radius: float, corners: int, turn: float, inner: float = 1.0
) -> list[tuple[float, float]]:
    """Corners of a regular polygon, or of a star where every second one is drawn in by `inner`."""
    points = []
    for corner in range(corners):
        reach = radius * (inner if corner % 2 else 1.0)
        angle = turn + 2 * math.pi * corner / corners
        points.append((centre[0] + reach * math.cos(angle), centre[1] + reach * math.sin(angle)))
    return points


def _place(width: int, height: int, rng: random.Random) -> tuple[tuple[float, float], float]:
    """A centre and a radius that keep a shape inside the picture."""
    radius = min(width, height) * rng.uniform(0.22, 0.4)
    return (rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)), radius


def _one_circle(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    draw.rectangle((0, 0, width, height), fill=_pale(rng))
    (x, y), radius = _place(width, height, rng)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_any_colour(rng))


def _one_triangle(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    draw.rectangle((0, 0, width, height), fill=_pale(rng))
    centre, radius = _place(width, height, rng)
    draw.polygon(_regular(centre, radius, 3, rng.uniform(0, 2 * math.pi)), fill=_any_colour(rng))


def _one_square(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    draw.rectangle((0, 0, width, height), fill=_pale(rng))
    centre, radius = _place(width, height, rng)
    draw.polygon(_regular(centre, radius, 4, rng.uniform(0, math.pi / 2)), fill=_any_colour(rng))


def _one_star(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    draw.rectangle((0, 0, width, height), fill=_colour(0.62, rng.uniform(0.5, 0.9), rng.uniform(0.15, 0.35)))
    centre, radius = _place(width, height, rng)
    points = _regular(centre, radius, 10, rng.uniform(0, 2 * math.pi), inner=0.42)
    draw.polygon(points, fill=_colour(rng.uniform(0.11, 0.16), 0.8, 0.97))


def _rings(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    (x, y), _ = _place(width, height, rng)
    pair = [_any_colour(rng), _pale(rng)]
    step = rng.uniform(18, 34)
    for ring in range(int(1.3 * max(width, height) / step), 0, -1):
        draw.ellipse((x - ring * step, y - ring * step, x + ring * step, y + ring * step), fill=pair[ring % 2])


def _stripes(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random, slant: float) -> None:
    pair = [_any_colour(rng), _pale(rng)]
    step = rng.uniform(24, 52)
    reach = width + height
    for stripe in range(-int(reach / step), int(2 * reach / step)):
        x = stripe * step
        draw.polygon(
            [(x, 0), (x + step, 0), (x + step + slant * height, height), (x + slant * height, height)],
            fill=pair[stripe % 2],
        )


def _upright_stripes(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    _stripes(draw, width, height, rng, slant=0.0)


def _slanted_stripes(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    _stripes(draw, width, height, rng, slant=rng.choice([-1, 1]) * rng.uniform(0.7, 1.2))


def _checkerboard(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    pair = [_colour(rng.random(), rng.uniform(0, 0.7), rng.uniform(0.1, 0.4)), _pale(rng)]
    step = rng.uniform(40, 75)
    for row in range(int(height / step) + 1):
        for column in range(int(width / step) + 1):
            x, y = column * step, row * step
            draw.rectangle((x, y, x + step, y + step), fill=pair[(row + column) % 2])


def _polka_dots(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    draw.rectangle((0, 0, width, height), fill=_any_colour(rng))
    dot, step = _pale(rng), rng.uniform(56, 84)
    radius = step * rng.uniform(0.2, 0.3)
    for row in range(int(height / step) + 2):
        for column in range(int(width / step) + 2):
            x, y = (column + 0.5 * (row % 2)) * step, row * step
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=dot)


def _confetti(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    draw.rectangle((0, 0, width, height), fill=_pale(rng))
    for _ in range(rng.randint(220, 380)):
        x, y, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(6, 14)
        draw.polygon(_regular((x, y), radius, 4, rng.uniform(0, math.pi)), fill=_any_colour(rng))


def _sunset(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    horizon = int(height * rng.uniform(0.55, 0.75))
    hue = rng.uniform(0.98, 1.06)
    for y in range(horizon):
        part = y / horizon
        draw.line((0, y, width, y), fill=_colour(hue + 0.07 * part, 0.85 - 0.3 * part, 0.5 + 0.5 * part))
    radius = height * rng.uniform(0.08, 0.16)
    x = rng.uniform(0.2, 0.8) * width
    draw.ellipse((x - radius, horizon - radius, x + radius, horizon + radius), fill=_colour(0.13, 0.4, 1.0))
    draw.rectangle((0, horizon, width, height), fill=_colour(hue + 0.62, 0.5, rng.uniform(0.15, 0.3)))


def _meadow(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    horizon = int(height * rng.uniform(0.35, 0.6))
    draw.rectangle((0, 0, width, horizon), fill=_colour(rng.uniform(0.54, 0.6), rng.uniform(0.25, 0.5), 0.95))
    draw.rectangle((0, horizon, width, height), fill=_colour(rng.uniform(0.26, 0.33), 0.6, rng.uniform(0.45, 0.65)))
    for _ in range(700):
        x, y = rng.uniform(0, width), rng.uniform(horizon, height)
        blade = _colour(rng.uniform(0.24, 0.34), rng.uniform(0.5, 0.8), rng.uniform(0.35, 0.75))
        draw.line((x, y, x + rng.uniform(-8, 8), y - rng.uniform(14, 34)), fill=blade, width=3)


def _skyline(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    draw.rectangle(
        (0, 0, width, height), fill=_colour(rng.uniform(0.6, 0.72), rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.75))
    )
    x = -rng.uniform(0, 30)
    while x < width:
        across, top = rng.uniform(46, 100), height * rng.uniform(0.25, 0.7)
        wall = _colour(0.65, 0.2, rng.uniform(0.12, 0.3))
        draw.rectangle((x, top, x + across, height), fill=wall)
        for left in range(int(x) + 10, int(x + across) - 14, 22):
            for above in range(int(top) + 12, height - 12, 28):
                if rng.random() < 0.6:
                    draw.rectangle((left, above, left + 10, above + 14), fill=_colour(0.14, 0.5, 0.95))
        x += across + rng.uniform(0, 8)


def _waves(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    draw.rectangle((0, 0, width, height), fill=_colour(rng.uniform(0.5, 0.6), 0.25, 0.97))
    hue, bands = rng.uniform(0.5, 0.62), rng.randint(5, 8)
    length, swing = rng.uniform(0.012, 0.022), rng.uniform(14, 30)
    for band in range(bands):
        base, shift = height * (band + 1) / (bands + 1), rng.uniform(0, 2 * math.pi)
        crest = [(x, base + swing * math.sin(length * x + shift)) for x in range(0, width + 8, 8)]
        draw.polygon(
            [*crest, (width, height), (0, height)],
            fill=_colour(hue, 0.35 + 0.5 * band / bands, 0.95 - 0.5 * band / bands),
        )


#: What is drawn, by the name of its folder.
CATEGORIES: dict[str, _Painter] = {
    "checkerboard": _checkerboard,
    "circle": _one_circle,
    "confetti": _confetti,
    "meadow": _meadow,
    "polka_dots": _polka_dots,
    "rings": _rings,
    "skyline": _skyline,
    "slanted_stripes": _slanted_stripes,
    "square": _one_square,
    "star": _one_star,
    "sunset": _sunset,
    "triangle": _one_triangle,
    "upright_stripes": _upright_stripes,
    "waves": _waves,
}
