"""Pictures of faces for tests, made of photographs from Labeled Faces in the Wild."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from utilities.faces import find_faces

PEOPLE = ("Colin_Powell", "Serena_Williams", "Tiger_Woods", "Tony_Blair")
OF_EACH = 5


@functools.cache
def photographs(lfw: Path, person: str) -> list[Path]:
    """Ten photographs that show this person and nobody else, in the order of their names."""
    files = sorted((lfw / person).glob("*.jpg"))
    alone = (file for file in files if len(find_faces(Image.open(file).convert("RGB"), 8)[0]) == 1)
    return list(itertools.islice(alone, 10))


def beside_each_other(pictures: Sequence[Path | Image.Image], columns: int, side: int = 250) -> Image.Image:
    """Pictures in rows, each scaled to a square: a group photograph."""
    rows = -(-len(pictures) // columns)
    group = Image.new("RGB", (columns * side, rows * side), "#7f8c8d")
    for number, picture in enumerate(pictures):
        image = picture if isinstance(picture, Image.Image) else Image.open(picture)
        group.paste(image.convert("RGB").resize((side, side)), (number % columns * side, number // columns * side))
    return group


def album(lfw: Path, root: Path) -> Path:
    """A tree: a folder of `OF_EACH` photographs for each of `PEOPLE`, `group.png` of all four, `wall.png` of nobody."""
    for person in PEOPLE:
        (root / person).mkdir(parents=True)
        for file in photographs(lfw, person)[:OF_EACH]:
            shutil.copy(file, root / person)
    # Others than those in the folders, the first the largest.
    pictures = [photographs(lfw, person)[OF_EACH] for person in PEOPLE]
    group = beside_each_other(pictures, 4)
    group.paste(Image.open(pictures[0]).resize((300, 300)).crop((25, 25, 275, 275)), (0, 0))
    group.save(root / "group.png")
    Image.new("RGB", (300, 200), "#c0b090").save(root / "wall.png")
    return root
