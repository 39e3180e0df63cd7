"""Copies of photographs as they come about: made smaller, saved again, cropped, mirrored, recoloured, written on."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from utilities.image_files import open_image
from utilities.streams import processors

#: What a copy is saved with, unless it is saved badly.
QUALITY = 90


def half(image: Image.Image, rng: random.Random) -> Image.Image:
    """Half as wide and high."""
    size = (max(1, image.width // 2), max(1, image.height // 2))
    return image.resize(size, Image.Resampling.LANCZOS)


def same(image: Image.Image, rng: random.Random) -> Image.Image:
    """As it was: what changes is how it is saved."""
    return image


def crop(image: Image.Image, rng: random.Random) -> Image.Image:
    """A tenth to a fifth of the width and of the height is cut off, somewhere."""
    width, height = (round(side * rng.uniform(0.8, 0.9)) for side in image.size)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def mirror(image: Image.Image, rng: random.Random) -> Image.Image:
    """Left and right are exchanged."""
    return ImageOps.mirror(image)


def recolour(image: Image.Image, rng: random.Random) -> Image.Image:
    """Brightness and contrast are changed by up to a third, saturation by up to a half."""
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.3))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.7, 1.3))
    return ImageEnhance.Color(image).enhance(rng.uniform(0.5, 1.5))


def write_on(image: Image.Image, rng: random.Random) -> Image.Image:
    """A line of text lies on it, or a border of a few hundredths around it, in turns at random."""
    if rng.random() < 0.5:
        colour = rng.choice(["white", "black", "#c03020"])
        return ImageOps.expand(image, round(min(image.size) * rng.uniform(0.02, 0.06)), colour)
    image = image.copy()
    font = ImageFont.load_default(max(10, image.height // rng.randint(8, 14)))
    place = (image.width * rng.uniform(0.02, 0.3), image.height * rng.choice([0.03, 0.45, 0.85]))
    ImageDraw.Draw(image).text(place, "© Lookalike 2026", rng.choice(["white", "yellow", "black"]), font)
    return image


#: What is done to an image, and the JPEG quality with which it is saved.
ALTERATIONS: dict[str, tuple[Callable[[Image.Image, random.Random], Image.Image], int]] = {
    "half": (half, QUALITY),
    "quality30": (same, 30),
    "crop": (crop, QUALITY),
    "mirror": (mirror, 60),
    "recolour": (recolour, QUALITY),
    "write_on": (write_on, QUALITY),
}


def write_copies(root: Path, paths: Sequence[str], folder: Path, seed: int = 0) -> None:
    """Write images of a tree, and all `ALTERATIONS` of each, into a folder for each kind; none that is there already.

    Args:
        root: the tree.
        paths: of its images.
        folder: gets `original/00000.jpg`, `half/00000.jpg` and so on: one number is one original.
        seed: of what is done to them.
    """
    for kind in ("original", *ALTERATIONS):
        (folder / kind).mkdir(parents=True, exist_ok=True)

    def write(number: int) -> None:
        source = root / paths[number]
        name = f"{number:05}"
        if not (original := folder / "original" / f"{name}{source.suffix}").exists():
            shutil.copyfile(source, original)
        image = open_image(source)
        for kind, (alter, quality) in ALTERATIONS.items():
            copy = folder / kind / f"{name}.jpg"
            if not copy.exists():
                alter(image, random.Random(f"{seed} {kind} {number}")).save(copy, quality=quality)

    with ThreadPoolExecutor(processors()) as pool:
        for _ in pool.map(write, range(len(paths))):
            pass
