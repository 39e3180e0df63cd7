"""Finding and opening images: every kind becomes upright RGB, and every bad one gets a sentence."""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from utilities.crops import Crop
from utilities.directory_trees import find_images
from utilities.errors import ImageTooLarge, InvalidArgument, NoImagesFound, UnreadableImage
from utilities.image_files import describe_file, open_file, open_image, open_scaled
from utilities.items import item_id
from utilities.settings import Settings
from utilities.views import squashed


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def test_find_images_takes_every_depth_and_sorts(tmp_path: Path) -> None:
    for path in ("b.jpg", "a/deep/er/x.PNG", "a/y.tiff", "a/notes.txt", "README"):
        touch(tmp_path / path)
    assert find_images(tmp_path) == ["a/deep/er/x.PNG", "a/y.tiff", "b.jpg"]


def test_find_images_by_extension_in_any_case(tmp_path: Path) -> None:
    for path in ("a.jpeg", "b.JPEG", "c.jpg", "d.png"):
        touch(tmp_path / path)
    assert find_images(tmp_path, "JPEG") == find_images(tmp_path, ".jpeg") == ["a.jpeg", "b.JPEG"]


def test_find_images_passes_over_hidden_files_and_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for path in (root / "b.png", root / ".hidden.png", root / ".git/b.png", root / "sub/c.png", outside / "d.png"):
        touch(path)
    (root / "link_out").symlink_to(outside)
    (root / "file_out.png").symlink_to(outside / "d.png")
    (root / "loop").symlink_to(root)
    (root / "a_link_that_sorts_first").symlink_to(root / "sub")
    (root / "a.png").symlink_to(root / "b.png")
    (root / "broken.png").symlink_to(root / "nothing.png")
    (root / "self.png").symlink_to(root / "self.png")
    (root / "folder.png").mkdir()
    assert find_images(root) == ["b.png", "sub/c.png"]


def test_find_images_follows_links_to_what_is_hidden_in_the_tree(tmp_path: Path) -> None:
    # git-annex keeps every file so.
    touch(tmp_path / ".git/annex/x.png")
    touch(tmp_path / ".store/deep/y.png")
    (tmp_path / "cat.png").symlink_to(tmp_path / ".git/annex/x.png")
    (tmp_path / "folder").symlink_to(tmp_path / ".store")
    (tmp_path / ".store/deep/loop").symlink_to(tmp_path / ".store")
    assert find_images(tmp_path) == ["cat.png", "folder/deep/y.png"]


def test_a_folder_that_may_not_be_listed_is_reported(forbidden_file: Path) -> None:
    folder = forbidden_file.parent / "secret"
    errors: list[OSError] = []
    assert find_images(forbidden_file.parent, on_error=errors.append) == ["secret.png"]
    assert [error.filename for error in errors] == [str(folder)]
    with pytest.raises(NoImagesFound, match="secret cannot be looked at: Permission denied"):
        find_images(forbidden_file.parent, "gif", on_error=errors.append)


def test_only_types_that_pillow_opens_by_itself_are_images(tmp_path: Path) -> None:
    for name in ("a.mpg", "b.h5", "c.eps", "d.wmf", "e.jpg", "f.webp", "g.tif", "h.gif", "i.bmp"):
        touch(tmp_path / name)
    assert find_images(tmp_path) == ["e.jpg", "f.webp", "g.tif", "h.gif", "i.bmp"]


@pytest.mark.parametrize(
    ("name", "sentence"), [("nothing", "There is no directory"), ("a.png", "is a file; give the folder")]
)
def test_find_images_refuses_what_is_no_directory(tmp_path: Path, name: str, sentence: str) -> None:
    touch(tmp_path / "a.png")
    with pytest.raises(InvalidArgument, match=sentence):
        find_images(tmp_path / name)


def test_find_images_in_a_tree_without_images(tmp_path: Path) -> None:
    touch(tmp_path / "a.txt")
    with pytest.raises(NoImagesFound, match="No image lies in"):
        find_images(tmp_path)
    touch(tmp_path / "a.png")
    with pytest.raises(NoImagesFound, match=r"\.JPEG"):
        find_images(tmp_path, "JPEG")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def centre(source: object) -> tuple[int, ...]:
    image = open_image(source)  # type: ignore[arg-type]
    assert image.mode == "RGB"
    pixel = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    return pixel


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("L", (4, 4), 100), "PNG", (100, 100, 100)),
        (Image.new("1", (4, 4), 1), "PNG", (255, 255, 255)),
        (Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4), "PNG", (10, 200, 30)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 128)), "PNG", (255, 127, 127)),
        (Image.new("LA", (4, 4), (0, 0)), "PNG", (255, 255, 255)),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.new("I;16", (4, 4), 65_535), "PNG", (255, 255, 255)),
        (Image.new("I;16", (4, 4), 128 * 257), "PNG", (128, 128, 128)),
        (Image.new("I;16", (4, 4), 200), "PNG", (1, 1, 1)),
        (Image.new("F", (4, 4), 0.5), "TIFF", (128, 128, 128)),
        (Image.new("HSV", (4, 4), (0, 255, 255)).convert("RGB"), "BMP", (255, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(image: Image.Image, kind: str, expected: tuple[int, ...]) -> None:
    assert centre(encoded(image, kind)) == expected


def test_a_transparent_palette_is_laid_on_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 255])
    assert centre(encoded(image, "PNG", transparency=0)) == (255, 255, 255)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]
    assert centre(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


def test_exif_orientation_is_applied_to_pixels_and_size(tmp_path: Path) -> None:
    image = Image.new("RGB", (600, 400), "red")
    image.paste("lime", (0, 0, 300, 400))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned: the left half belongs on top
    image.save(tmp_path / "turned.jpg", exif=exif)
    opened = open_image(tmp_path / "turned.jpg")
    assert opened.size == (400, 600)
    whole = np.asarray(opened)
    np.testing.assert_allclose([whole[100, 200], whole[500, 200]], [(0, 255, 0), (255, 0, 0)], atol=8)
    scaled, size = open_scaled(tmp_path / "turned.jpg", 64)
    assert size == (400, 600)
    pixels = squashed(scaled, 64)
    np.testing.assert_allclose([pixels[5, 32], pixels[58, 32]], [(0, 255, 0), (255, 0, 0)], atol=8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_one_picture_in_every_format_and_orientation(tmp_path: Path, orientation: int) -> None:
    image = Image.new("RGB", (96, 64), "red")
    image.paste("lime", (0, 0, 48, 32))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    shown = []
    for name in ("a.png", "a.jpg", "a.tiff"):
        image.save(tmp_path / name, exif=exif)
        opened, item = open_file(tmp_path, name, 1, Settings())
        assert (item.width, item.height) == ((64, 96) if orientation >= 5 else (96, 64)), name
        assert describe_file(tmp_path, name) == item
        assert open_scaled(tmp_path / name, 1)[1] == (item.width, item.height)
        shown.append(squashed(opened, 2).astype(int))
        assert (opened.width < opened.height) == (orientation >= 5)
    np.testing.assert_allclose(shown[1], shown[0], atol=40)
    np.testing.assert_array_equal(shown[2], shown[0])


def test_an_orientation_that_only_xmp_tells(tmp_path: Path) -> None:
    xmp = b"<tiff:Orientation>6</tiff:Orientation>"
    Image.new("RGB", (96, 64), "red").save(tmp_path / "a.tiff", tiffinfo={700: xmp})
    opened, item = open_file(tmp_path, "a.tiff", 1, Settings())
    assert opened.size == (item.width, item.height) == (64, 96)


def test_damaged_exif_does_not_damage_the_picture(tmp_path: Path) -> None:
    whole = encoded(Image.new("RGB", (32, 32), "blue"), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert centre(whole)[2] > 240


def test_scaled_decoding_changes_little(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    coarse.resize((1600, 1200), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=95)
    scaled, size = open_scaled(tmp_path / "large.jpg", 224)
    pixels = squashed(scaled, 224)
    whole = open_image(tmp_path / "large.jpg").resize((224, 224), Image.Resampling.BILINEAR)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert size == (1600, 1200)
    assert np.abs(pixels.astype(int) - np.asarray(whole)).mean() < 1.5


@pytest.mark.parametrize(
    "source",
    [
        np.full((6, 4, 3), (255, 0, 0), np.uint8),
        np.full((6, 4, 3), (65_535, 0, 0), np.uint16),
        np.full((6, 4, 3), (1.0, 0, 0), np.float64),
        np.full((6, 4, 4), (255, 0, 0, 255), np.uint8),
        Image.new("RGB", (4, 6), "red"),
        encoded(Image.new("RGB", (4, 6), "red"), "PNG"),
    ],
)
def test_open_image_takes_arrays_pil_images_and_bytes(source: object) -> None:
    assert open_image(source).size == (4, 6)  # type: ignore[arg-type]
    assert centre(source) == (255, 0, 0)


def test_a_grey_array_may_have_two_or_three_axes() -> None:
    assert centre(np.full((4, 4), 7, np.uint8)) == centre(np.full((4, 4, 1), 7, np.uint8)) == (7, 7, 7)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.full((4, 4, 3), 200.0),
        np.full((4, 4, 3), np.nan),
    ],
)
def test_open_image_refuses_arrays_that_are_no_image(array: NDArray[np.generic]) -> None:
    with pytest.raises(InvalidArgument, match="image"):
        open_image(array)


def test_bad_files_get_a_sentence_each(tmp_path: Path) -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    whole = encoded(noise, "JPEG")
    files = {
        "missing.jpg": (None, "There is no file"),
        "empty.jpg": (b"", "is not an image that can be opened \\(it is empty\\)"),
        "text.jpg": (b"not an image at all", "is not an image that can be opened"),
        "truncated.jpg": (whole[: len(whole) // 2], "is damaged: .*truncated"),
    }
    for name, (content, sentence) in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImage, match=sentence):
            open_image(tmp_path / name)
    with pytest.raises(UnreadableImage, match="is a directory"):
        open_image(tmp_path)


@pytest.fixture
def forbidden_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An image that this process may not read, even where the tests run as the superuser."""
    folder = tmp_path_factory.mktemp("forbidden")
    file = folder / "secret.png"
    Image.new("RGB", (4, 4)).save(file)
    file.chmod(0)
    (folder / "secret").mkdir(mode=0)
    if os.geteuid() != 0:
        yield file
        return
    outer = [parent for parent in folder.parents if parent.stat().st_mode & 0o011 != 0o011]
    modes = {parent: parent.stat().st_mode for parent in [folder, *outer]}
    for parent in modes:
        parent.chmod(0o755)
    os.seteuid(65_534)  # nobody
    yield file
    os.seteuid(0)
    for parent, mode in modes.items():
        parent.chmod(mode)


def test_a_file_that_may_not_be_read(forbidden_file: Path) -> None:
    with pytest.raises(UnreadableImage, match="permission denied"):
        open_image(forbidden_file)


def test_a_pil_image_that_turns_out_to_be_truncated() -> None:
    whole = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), "JPEG")
    with pytest.raises(UnreadableImage, match=r"The image given is damaged: .*truncated"):
        open_image(Image.open(io.BytesIO(whole[: len(whole) // 2])))


def test_a_name_that_is_too_long() -> None:
    with pytest.raises(UnreadableImage, match=r"cannot be read: File name too long\."):
        open_image("x" * 5000 + ".jpg")


def test_decompression_bombs_are_refused_below_and_above_pillows_own_limit(tmp_path: Path) -> None:
    Image.new("1", (3000, 2000)).save(tmp_path / "bomb.png")
    with pytest.raises(ImageTooLarge, match=r"6,000,000 pixels, more than the limit of 5,000,000.*MAX_IMAGE_PIXELS"):
        open_image(tmp_path / "bomb.png", Settings(max_image_pixels=5_000_000))
    assert open_image(tmp_path / "bomb.png", Settings(max_image_pixels=6_000_000)).size == (3000, 2000)
    # A header that promises 4 gigapixels; nothing is decoded.
    header = encoded(Image.new("1", (8, 8)), "PNG")
    giant = header[:16] + (65_536).to_bytes(4, "big") * 2 + header[24:]
    giant = giant[:29] + zlib.crc32(giant[12:29]).to_bytes(4, "big") + giant[33:]
    with pytest.raises(ImageTooLarge, match="limit of 89,478,485 pixels"):
        open_image(giant)


def test_a_larger_limit_than_pillows_reaches_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png", Settings(max_image_pixels=10_000)).size == (100, 100)


def test_describe_file_reads_header_and_status(tmp_path: Path) -> None:
    (tmp_path / "cup").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "cup/a.png")
    item = describe_file(tmp_path, "cup/a.png")
    status = (tmp_path / "cup/a.png").stat()
    assert (item.id, item.path, item.label) == (item_id("cup/a.png"), "cup/a.png", "cup")
    assert (item.width, item.height) == (30, 20)
    assert (item.file_size, item.file_mtime_ns) == (status.st_size, status.st_mtime_ns)
    nothing = describe_file(tmp_path, "cup/gone.png")
    assert (nothing.width, nothing.height, nothing.file_size) == (0, 0, 0)


def test_a_crop_is_a_part_of_the_upright_image(tmp_path: Path) -> None:
    quarters = Image.new("RGB", (80, 40), "black")
    quarters.paste("red", (40, 0, 80, 20))
    part = Crop(0.5, 0, 0.5, 0.5)
    assert (np.asarray(part.of(quarters)) == (255, 0, 0)).all()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored on its side: what is shown at the top right is stored at the top left
    quarters.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert (np.asarray(part.of(open_image(tmp_path / "turned.png"))) == (255, 0, 0)).all()


def test_a_small_crop_of_a_jpeg_is_not_decoded_too_small(tmp_path: Path) -> None:
    stripes = np.zeros((800, 800, 3), np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.jpg", quality=100, subsampling=0)
    part = Crop(0, 0, 0.1, 0.1)
    pixels = np.asarray(part.of(open_image(tmp_path / "stripes.jpg", at_least=part.whole_side(80))))
    assert pixels.shape == (80, 80, 3)
    assert pixels[::2].min() > 200  # An eighth of the size would be grey.
    assert pixels[1::2].max() < 55


@pytest.mark.parametrize("crop", [(0, 0, 0, 1), (-0.1, 0, 1, 1), (0.5, 0, 0.6, 1), (0, 0, 1, math.nan), (0, 2, 1, 1)])
def test_a_crop_that_is_no_part_is_refused(crop: tuple[float, float, float, float]) -> None:
    with pytest.raises(InvalidArgument, match="is no part of an image"):
        Crop(*crop)


def test_a_crop_of_less_than_a_pixel_is_a_pixel() -> None:
    corners = Image.new("RGB", (10, 10), "black")
    corners.putpixel((9, 9), (255, 0, 0))
    assert Crop(0.999, 0.999, 0.001, 0.001).of(corners).getcolors() == [(1, (255, 0, 0))]


def test_errors_call_a_picture_by_the_name_that_is_given() -> None:
    with pytest.raises(UnreadableImage, match=r"^cat\.jpg is not an image"):
        open_image(b"no image", name="cat.jpg")
