"""Open anything (path, bytes, URL, PIL image, array) as upright RGB."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from utilities.download import download, is_url
from utilities.errors import ImageError, ImageTooLarge, InvalidArgument, UnreadableImage
from utilities.exif import exif_attributes
from utilities.items import Item, file_digest
from utilities.settings import Settings
from utilities.videos import Still, still_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pillow warns of large images, which are refused here by a limit of their own, and of odd metadata, which is no matter.
# Once for all, since `warnings.catch_warnings` must not be used by several threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[np.generic] | Still"


#: EXIF orientations of pictures that are stored turned by a quarter.
_ON_ITS_SIDE = (5, 6, 7, 8)

#: Media types of what every current browser shows, by Pillow's names. An MPO is a JPEG with others behind it.
_SHOWN_BY_BROWSERS = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
}


def openable_extensions() -> set[str]:
    """Extensions, with their dot and in lower case, of every type of image that Pillow can open by itself."""
    return {extension for extension, kind in Image.registered_extensions().items() if kind in _formats()}


def browser_type(file: Path, settings: Settings) -> str | None:
    """The media type of an image file, told by its content; None if browsers do not show that type.

    Raises:
        ImageError: as `open_image` does.
    """
    _raise_pillow_limit(settings.max_image_pixels)
    with _image_errors(file.name, settings), Image.open(file, formats=_formats()) as image:
        return _SHOWN_BY_BROWSERS.get(image.format or "")


@functools.cache
def _formats() -> tuple[str, ...]:
    """In the order in which they are tried: some look at a file for long, and most files are JPEGs."""
    Image.init()
    # Pillow knows these by name only, or, as for EPS, hands them to another program.
    known = set(Image.OPEN) - {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
    return tuple(sorted(known, key=lambda name: (name not in ("JPEG", "PNG"), name)))


def open_image(
    source: ImageSource, settings: Settings | None = None, *, at_least: int | None = None, name: str = ""
) -> Image.Image:
    """Open an image as RGB, upright by its EXIF orientation.

    Transparency is laid on white, 16-bit channels are scaled to 8, and an animation gives its first frame.

    Args:
        source: a path, an `http(s)` URL, the bytes of an image file, a PIL image, or an array of shape (height, width),
            (height, width, 1), (height, width, 3) or (height, width, 4): uint8, uint16, or floating point from 0 to 1;
            or a frame of a video.
        settings: limits; from the environment by default.
        at_least: width and height in pixels that will do. A JPEG is then decoded at a half, a quarter or an eighth of
            its size where that is still no smaller, which is several times faster.
        name: what errors call it; by default its path or URL.

    Raises:
        UnreadableImage: not an image, damaged, or not permitted to be read.
        ImageTooLarge: more pixels than `settings.max_image_pixels`.
        DownloadFailed: the URL did not deliver.
        InvalidArgument: an array of another shape or type.
    """
    return open_scaled(source, at_least, settings, name=name)[0]


def open_file(root: Path, path: str, at_least: int, settings: Settings, *, name: str = "") -> tuple[Image.Image, Item]:
    """A file of a tree as RGB, upright, and its item. The item describes exactly the bytes that were decoded.

    Args:
        root: directory that the path is relative to.
        path: POSIX path.
        at_least: as for `open_image`: the item's size is that of the whole, which the image may not have.
        settings: limits.
        name: as for `open_image`.

    Raises:
        UnreadableImage: as `open_image`, or the file was written to meanwhile.
        ImageTooLarge: as `open_image`.
    """
    file = root / path
    where = name or str(file)
    with _image_errors(where, settings), file.open("rb") as content:
        before = os.fstat(content.fileno())
        digest = file_digest(content)
        content.seek(0)
        image, whole, attributes = _decode(content, where, at_least, settings)
        after = os.fstat(content.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UnreadableImage(f"{where} was written to while it was read; load again when that is done.")
    return image, _item(root, path, before, whole, digest, attributes)


def open_scaled(
    source: ImageSource, at_least: int | None, settings: Settings | None = None, *, name: str = ""
) -> tuple[Image.Image, tuple[int, int]]:
    """As `open_image`, and (width, height) of the whole upright image, which may be decoded at a smaller scale."""
    settings = settings or Settings.load()
    if isinstance(source, np.ndarray):
        source = _from_array(source)
    if isinstance(source, Image.Image):
        try:
            image = _to_upright_rgb(source)
        except Exception as error:  # As below: a PIL image may not have been read to its end.
            raise UnreadableImage(f"The image given is damaged: {_reason(error)}.") from error
        return image, image.size
    if isinstance(source, Still):
        return still_image(source, settings.max_image_pixels, name)
    where = name or ("the bytes given" if isinstance(source, bytes) else str(source))
    if isinstance(source, str) and is_url(source):
        source = download(source, settings)
    elif not isinstance(source, bytes):
        with _image_errors(where, settings):
            _refuse_pipe(Path(source), where)
    with (
        _image_errors(where, settings),
        io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file,
    ):
        return _decode(file, where, at_least, settings)[:2]


def _refuse_pipe(path: Path, where: str) -> None:
    """Opening a named pipe would wait for someone who writes into it, perhaps for ever."""
    if path.is_fifo():
        raise UnreadableImage(f"{where} is a pipe, not an image file.")


def _decode(
    file: BinaryIO, where: str, at_least: int | None, settings: Settings
) -> tuple[Image.Image, tuple[int, int], dict[str, str]]:
    """The image, (width, height) of the whole of it, and what EXIF says of it."""
    if not file.read(1):
        raise UnreadableImage(f"{where} is not an image that can be opened (it is empty).")
    file.seek(0)
    _raise_pillow_limit(settings.max_image_pixels)
    with Image.open(file, formats=_formats()) as image:
        _refuse_giant(image, where, settings)
        whole = _upright_size(image)
        attributes = exif_attributes(image)
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        image.load()
        return _to_upright_rgb(image), whole, attributes


@contextlib.contextmanager
def _image_errors(where: str, settings: Settings) -> Iterator[None]:
    """Turn whatever goes wrong with one image inside the block into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise UnreadableImage(f"There is no file {where!r}.") from error
    except PermissionError as error:
        raise UnreadableImage(f"{where} may not be read: permission denied.") from error
    except IsADirectoryError as error:
        raise UnreadableImage(f"{where} is a directory, not an image.") from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{where} is not an image that can be opened.") from error
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(
            f"{where} has more than twice the limit of {settings.max_image_pixels:,} pixels; "
            "set LOOKALIKE_MAX_IMAGE_PIXELS to allow more."
        ) from error
    except MemoryError as error:
        raise ImageTooLarge(f"{where} is too large for this machine's memory.") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more.
        if isinstance(error, OSError) and error.errno is not None:
            raise UnreadableImage(f"{where} cannot be read: {error.strerror}.") from error
        raise UnreadableImage(f"{where} is damaged: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _raise_pillow_limit(pixels: int) -> None:
    # Pillow refuses twice its own limit while it reads the header, so a larger limit of ours must reach it.
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = pixels


def _refuse_giant(image: Image.Image, where: str, settings: Settings) -> None:
    pixels = image.width * image.height
    if pixels > settings.max_image_pixels:
        raise ImageTooLarge(
            f"{where} has {pixels:,} pixels, more than the limit of {settings.max_image_pixels:,}; "
            "set LOOKALIKE_MAX_IMAGE_PIXELS to allow more."
        )


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an image that is opened and not decoded yet."""
    if isinstance(image, TiffImageFile) and image.tag_v2.get(ExifTags.Base.Orientation, 1) in _ON_ITS_SIDE:
        return image.size  # Pillow has turned it already; it does not where only XMP says so.
    return image.size[::-1] if _lies_on_its_side(image) else image.size


def _lies_on_its_side(image: Image.Image) -> bool:
    """Whether EXIF says that the pixels as stored are turned by a quarter."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in _ON_ITS_SIDE
    except Exception:  # Damaged EXIF data does not damage the picture.
        return False


def _to_upright_rgb(image: Image.Image) -> Image.Image:
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # As above: without a readable orientation the image is upright.
        image.load()
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and floating-point pixels to 8 bits; Pillow's `convert` would clip them instead."""
    pixels = np.nan_to_num(np.asarray(image, dtype=np.float32))
    brightest = float(pixels.max(initial=0))
    if image.mode.startswith("I;16"):
        white = 65_535.0
    else:  # These modes do not say what white is: the smallest usual range that holds the image.
        usual = (1.0, 255.0, 65_535.0) if image.mode == "F" else (255.0, 65_535.0)
        white = next((limit for limit in usual if brightest <= limit), brightest)
    return Image.fromarray((pixels / white * 255).clip(0, 255).round().astype(np.uint8))


def _from_array(array: NDArray[np.generic]) -> Image.Image:
    """An array as a PIL image, in whichever mode fits."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise InvalidArgument(
            f"An array of shape {array.shape} is no image; give (height, width) or (height, width, 3 or 4)."
        )
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise InvalidArgument("A floating-point image must hold values from 0 to 1.")
        array = (array * 255).round().astype(np.uint8)
    elif array.dtype == np.uint16:
        array = (array.astype(np.float32) / 257).round().astype(np.uint8)
    elif array.dtype != np.uint8:
        raise InvalidArgument(f"An array of {array.dtype} is no image; give uint8, uint16 or floating point.")
    return Image.fromarray(array)


def describe_file(root: Path, path: str) -> Item:
    """The item of the file `root / path`, undecoded; sizes are 0 and the digest is empty where they cannot be had."""
    file = root / path
    if not file.is_file():
        return Item.of_file(root, path)
    size, attributes = (0, 0), {}
    with contextlib.suppress(Exception), Image.open(file, formats=_formats()) as image:
        size, attributes = _upright_size(image), exif_attributes(image)
    return _item(root, path, file.stat(), size, _digest(file), attributes)


def _item(
    root: Path, path: str, status: os.stat_result, size: tuple[int, int], digest: str, attributes: Mapping[str, str]
) -> Item:
    return Item.of_file(
        root,
        path,
        width=size[0],
        height=size[1],
        file_size=status.st_size,
        file_mtime_ns=status.st_mtime_ns,
        file_digest=digest,
    ).having(attributes)


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return file_digest(content)
    except OSError:  # A file that may not be read has a size and a time, but no digest.
        return ""
