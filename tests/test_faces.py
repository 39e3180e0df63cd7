"""Faces are found, numbered and cut out, whatever the picture."""

from __future__ import annotations

import builtins
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.face_pictures import beside_each_other, photographs
from utilities import faces
from utilities.crops import Crop
from utilities.errors import MissingPackage
from utilities.faces import DETECTION_SIDE, FACE_ATTRIBUTES, Face, find_faces
from utilities.image_files import open_image


def centre(face: Face) -> tuple[float, float]:
    return face.left + face.width / 2, face.top + face.height / 2


@pytest.fixture(scope="module")
def portraits(lfw: Path) -> list[Image.Image]:
    """Photographs that show one face, in the middle."""
    files = [photographs(lfw, folder.name)[number] for folder in sorted(lfw.iterdir())[:20] for number in range(2)]
    return [Image.open(file).convert("RGB") for file in files]


def test_a_face_is_found_where_it_is(portraits: list[Image.Image]) -> None:
    (face,), chips = find_faces(portraits[0], 150)
    assert centre(face) == pytest.approx((125, 125), abs=25)  # LFW has faces in the middle.
    assert 60 < face.width < 160
    assert face.score > 0
    assert chips.shape == (1, 150, 150, 3)
    assert chips.dtype == np.uint8
    assert Face.of(face.attributes(1)) == face
    assert tuple(face.attributes(1)) == FACE_ATTRIBUTES
    assert Face.of({"path": "a.jpg"}) is None
    assert face.part_of(250, 250) == Crop(face.left / 250, face.top / 250, face.width / 250, face.height / 250)


def test_a_copy_at_another_scale_tells_places_in_the_whole(portraits: list[Image.Image]) -> None:
    (face,), _ = find_faces(portraits[0], 8)
    (larger,), _ = find_faces(portraits[0], 8, whole=(1000, 1000))
    assert (larger.left, larger.width) == pytest.approx((4 * face.left, 4 * face.width), abs=3)


def test_a_turned_head_is_cut_out_upright(portraits: list[Image.Image]) -> None:
    upright, turned = (find_faces(portraits[0].rotate(angle, Image.Resampling.BICUBIC), 150)[1][0] for angle in (0, 12))
    middle = slice(40, 110)
    alike = np.corrcoef(upright[middle, middle].ravel(), turned[middle, middle].ravel())[0, 1]
    assert alike > 0.9


@pytest.mark.parametrize("largest", range(3))
def test_faces_are_numbered_from_the_largest(portraits: list[Image.Image], largest: int) -> None:
    group = beside_each_other(portraits[:3], 3)
    corner = (250 * largest, 0)
    group.paste(portraits[largest].resize((375, 375)).crop((62, 62, 312, 312)), corner)
    found, chips = find_faces(group, 150)
    assert len(found) == len(chips) == 3
    assert int(centre(found[0])[0] // 250) == largest
    sizes = [face.width * face.height for face in found]
    assert sizes[0] > 1.5 * sizes[1]
    # Among those of one size, which differ by a pixel, the clearest is the first.
    assert found[1].score > found[2].score
    # What is cut out belongs to the face of the same number.
    alone = find_faces(group.crop((*corner, corner[0] + 250, 250)), 150)[1][0]
    assert np.corrcoef(chips[0].ravel(), alone.ravel())[0, 1] > 0.9


def test_sixty_faces(portraits: list[Image.Image]) -> None:
    group = beside_each_other((portraits * 2)[:60], 10)
    found, _ = find_faces(group, 8)
    cells = {(int(x // 250), int(y // 250)) for x, y in map(centre, found)}
    assert len(cells) == 60


def test_a_face_at_the_border_ends_there(portraits: list[Image.Image]) -> None:
    (whole,), _ = find_faces(portraits[0], 8)
    left = whole.left + round(0.05 * whole.width)
    cut = portraits[0].crop((left, 0, 250, 250))
    (face,), _ = find_faces(cut, 8)
    assert face.left == 0
    assert face.part_of(*cut.size).of(cut).size == (face.width, face.height)
    assert find_faces(portraits[0].crop((125, 0, 250, 250)), 8)[0] == []  # half a face


def test_what_shows_no_face(portraits: list[Image.Image]) -> None:
    cartoon = Image.new("RGB", (300, 300), "white")
    draw = ImageDraw.Draw(cartoon)
    draw.ellipse((50, 50, 250, 250), fill="yellow")
    draw.ellipse((100, 110, 120, 130), fill="black")
    draw.ellipse((180, 110, 200, 130), fill="black")
    draw.arc((100, 120, 200, 220), 20, 160, fill="black", width=6)
    twenty_pixels = portraits[0].crop((70, 70, 180, 180)).resize((20, 20))
    for image in (
        cartoon,
        twenty_pixels,
        Image.new("RGB", (1, 1)),
        Image.new("RGB", (9, 900)),
    ):
        found, chips = find_faces(image, 150)
        assert found == []
        assert chips.shape == (0, 150, 150, 3)


def test_upside_down_most_faces_are_not_found(portraits: list[Image.Image]) -> None:
    assert sum(bool(find_faces(image.rotate(180), 8)[0]) for image in portraits[:20]) < 10


#: Peak memory in MiB while a picture's faces are found, and beforehand.
MEMORY = """
import resource, sys
from utilities.faces import DETECTION_SIDE, find_faces
from utilities.image_files import open_image
from PIL import Image
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
find_faces(Image.new("RGB", (100, 100)), 150)
before = peak()
found, _ = find_faces(open_image(sys.argv[1], at_least=DETECTION_SIDE), 150, (7700, 5250))
print(len(found), peak() - before)
"""


def test_a_group_photograph_of_forty_megapixels_takes_bounded_memory(
    portraits: list[Image.Image], tmp_path: Path
) -> None:
    file = tmp_path / "group.jpg"
    beside_each_other(portraits[:35], 7, side=1100).crop((0, 0, 7700, 5250)).save(file, quality=85)
    image = open_image(file, at_least=DETECTION_SIDE)
    assert image.size == (3850, 2625)  # decoded at half its size
    found, _ = find_faces(image, 8, (7700, 5250))
    cells = {(int(x // 1100), int(y // 1100)) for x, y in map(centre, found)}
    assert len(cells) >= 28  # The last row is cut off.
    result = subprocess.run([sys.executable, "-c", MEMORY, file], capture_output=True, text=True, check=True)
    count, mebibytes = result.stdout.split()
    assert int(count) == len(found)
    assert float(mebibytes) < 400  # 30 of them are the picture; 40 megapixels, enlarged twice, would be gigabytes.


@pytest.mark.parametrize("package", ["dlib", "face_recognition_models"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "dlib" == package:
            raise ImportError("No module named 'dlib'")
        return real_import(name, *arguments, **options)

    real_import, real_find = builtins.__import__, importlib.util.find_spec
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else real_find(name))
    monkeypatch.delattr(faces._of_this_thread, "tools", raising=False)
    with pytest.raises(MissingPackage, match=rf"cannot be imported \(.*{package}.*\): pip install -e '.\[faces"):
        faces.check_detector()
