"""When an image was taken, and by what: as cameras write it, and as they should not."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

from utilities.exif import exif_attributes
from utilities.image_files import describe_file, open_file
from utilities.settings import Settings

TIME = "2023:05:17 10:31:00"


def exif(tags: dict[Any, Any], photo: dict[Any, Any] | None = None) -> Image.Exif:
    """EXIF data with these tags of the image, and of the photograph."""
    data = Image.Exif()
    data.update(tags)
    data.get_ifd(IFD.Exif).update(photo or {})
    return data


def save(file: Path, data: Image.Exif | bytes) -> Path:
    Image.new("RGB", (8, 8), "red").save(file, exif=data)
    return file


def described(tmp_path: Path, tags: dict[Any, Any], photo: dict[Any, Any] | None = None) -> dict[str, Any]:
    save(tmp_path / "photo.jpg", exif(tags, photo))
    return dict(describe_file(tmp_path, "photo.jpg").attributes)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tiff"])
def test_a_load_and_a_look_at_the_file_say_the_same(tmp_path: Path, extension: str) -> None:
    data = exif(
        {Base.Make: "NIKON CORPORATION", Base.Model: "NIKON D850", Base.Orientation: 6, Base.DateTime: TIME},
        {Base.DateTimeOriginal: TIME},  # which Pillow writes into no TIFF
    )
    save(tmp_path / f"photo.{extension}", data)
    _, item = open_file(tmp_path, f"photo.{extension}", 4, Settings())
    assert item.attributes == {"taken": "2023-05-17T10:31:00", "camera": "NIKON D850"}
    assert describe_file(tmp_path, f"photo.{extension}") == item


def test_the_shutter_comes_before_the_scanner_and_that_before_the_last_change(tmp_path: Path) -> None:
    changed = {Base.DateTime: "2021:01:01 00:00:00"}
    scanned = {Base.DateTimeDigitized: "2020:01:01 00:00:00"}
    taken = {**scanned, Base.DateTimeOriginal: "1969:07:20 20:17:40"}
    assert described(tmp_path, changed)["taken"] == "2021-01-01T00:00:00"
    assert described(tmp_path, changed, scanned)["taken"] == "2020-01-01T00:00:00"
    assert described(tmp_path, changed, taken)["taken"] == "1969-07-20T20:17:40"
    nonsense = {**scanned, Base.DateTimeOriginal: "0000:00:00 00:00:00"}
    assert described(tmp_path, changed, nonsense)["taken"] == "2020-01-01T00:00:00"


@pytest.mark.parametrize(
    "text", ["0000:00:00 00:00:00", "2023:02:30 10:00:00", "    :  :     :  :  ", "", "yesterday", "2023"]
)
def test_a_time_that_is_none_is_absent(tmp_path: Path, text: str) -> None:
    assert described(tmp_path, {Base.DateTime: text}) == {}


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("SONY\0\0", "ILCE-7M3   ", "SONY ILCE-7M3"),
        (" OLYMPUS  IMAGING CORP. ", "E-M5", "OLYMPUS IMAGING CORP. E-M5"),
        ("Apple", "", "Apple"),
        ("", "iPhone 12", "iPhone 12"),
        ("Canonical", "Canon", "Canonical Canon"),
        ("\0\0", "   ", None),
        ("a\nb", "\x1b[31m", "a b [31m"),
        ("x" * 5_000, "y", "x" * 200),
    ],
)
def test_a_camera_is_its_maker_and_its_model(tmp_path: Path, make: str, model: str, camera: str | None) -> None:
    assert described(tmp_path, {Base.Make: make, Base.Model: model}).get("camera") == camera


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_data_damages_no_image(tmp_path: Path) -> None:
    whole = exif({Base.Make: "Canon", Base.Model: "EOS"}, {Base.DateTimeOriginal: TIME}).tobytes()
    for end in range(0, len(whole), 3):
        save(tmp_path / "cut.jpg", whole[:end] or b"Exif\0\0")
        _, item = open_file(tmp_path, "cut.jpg", 4, Settings())
        assert set(item.attributes) <= {"taken", "camera"}
    for place in range(6, len(whole), 5):
        save(tmp_path / "odd.jpg", whole[:place] + b"\xff\xff" + whole[place + 2 :])
        _, item = open_file(tmp_path, "odd.jpg", 4, Settings())
        assert all(isinstance(value, str) and value.isprintable() for value in item.attributes.values())


def test_a_damaged_directory_of_the_photograph_leaves_that_of_the_image(tmp_path: Path) -> None:
    whole = exif({Base.Model: "EOS", Base.DateTime: TIME}, {Base.DateTimeOriginal: "2020:01:01 00:00:00"}).tobytes()
    entry = whole.index(struct.pack(">H", IFD.Exif))
    before_the_file = struct.pack(">HHIi", IFD.Exif, 9, 1, -100)  # a signed offset
    save(tmp_path / "odd.jpg", whole[:entry] + before_the_file + whole[entry + 12 :])
    assert describe_file(tmp_path, "odd.jpg").attributes == {"taken": "2023-05-17T10:31:00", "camera": "EOS"}


def test_an_image_without_any_says_nothing() -> None:
    assert exif_attributes(Image.new("RGB", (2, 2))) == {}
