"""Images or a directory tree -> embeddings and paths, in RAM or as a stream of chunks."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from utilities.embedder import BATCH_SIZE, Embedder, embed_in_batches, load_embedder
from utilities.errors import ImageError, UnreadableImage
from utilities.failures import Failure
from utilities.image_files import ImageSource, find_images, read_pixels
from utilities.items import Item, printable
from utilities.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: Images that may be decoded ahead of the network: a bound on memory, whatever the size of the tree.
DECODED_AHEAD = 4 * BATCH_SIZE


@dataclass(frozen=True)
class Chunk:
    """A stretch of a stream: `embeddings[i]` belongs to `items[i]`; what failed is in neither."""

    items: list[Item]
    #: (len(items), dimension) float32.
    embeddings: NDArray[np.float32]
    failures: list[Failure]


def image_to_vec(
    directory: str | os.PathLike[str],
    extension: str | None = None,
    *,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> tuple[NDArray[np.float32], list[str]]:
    """Embed every image of a directory tree.

    Files that cannot be read are left out of both results and logged as warnings.

    Args:
        directory: the tree.
        extension: `"JPEG"` takes only `.jpeg` in any case; None takes every image type.
        embedder: what embeds; `load_embedder()` by default, which is ResNet50 with ImageNet weights.
        settings: limits and places; from the environment by default.
        progress: whether to draw a progress bar on standard error.

    Returns:
        Embeddings, (n, dimension) float32 with rows of length 1, and the n paths, each beginning with `directory`, in
        sorted order.

    Raises:
        InvalidArgument: no such directory.
        NoImagesFound: no image in it.
        UnreadableImage: none that can be read.

    Example:
        >>> embeddings, paths = image_to_vec("data/train", extension="JPEG")
        >>> embeddings.shape, len(paths)
        ((1300, 2048), 1300)
    """
    settings = settings or Settings.load()
    root = Path(directory)
    found = find_images(root, extension)
    embedder = embedder or load_embedder(settings=settings)
    blocks, paths = [], []
    with tqdm(total=len(found), unit="image", disable=not progress) as bar:
        for chunk in embed_files(root, found, embedder, settings):
            blocks.append(chunk.embeddings)
            paths += [(root / item.path).as_posix() for item in chunk.items]
            for failure in chunk.failures:
                logger.warning("Left out: %s", failure.reason)
            bar.update(len(chunk.items) + len(chunk.failures))
    if not paths:
        raise UnreadableImage(f"None of the {len(found):,} images in {str(root)!r} can be read.")
    return np.concatenate(blocks), paths


def embed_files(root: Path, paths: Sequence[str], embedder: Embedder, settings: Settings) -> Iterator[Chunk]:
    """Embed files as a stream: decoded in threads, embedded in batches, in the order given.

    Args:
        root: directory that the paths are relative to.
        paths: POSIX paths.
        embedder: what embeds.
        settings: limits.

    Yields:
        Chunks of at most `BATCH_SIZE` files; every path is in exactly one of them, as an item or as a failure.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[Future[_Decoded | Failure]] = deque()
        rest = iter(paths)

        def submit(count: int) -> None:
            for path in islice(rest, count):
                waiting.append(pool.submit(_decode, root, path, embedder.input_size, settings))

        submit(DECODED_AHEAD)
        try:
            while waiting:
                batch = [waiting.popleft().result() for _ in range(min(BATCH_SIZE, len(waiting)))]
                submit(len(batch))
                decoded = [result for result in batch if isinstance(result, _Decoded)]
                failures = [result for result in batch if isinstance(result, Failure)]
                pixels = _stack((result.pixels for result in decoded), embedder.input_size)
                yield Chunk([result.item for result in decoded], embed_in_batches(embedder, pixels), failures)
        finally:
            for future in waiting:
                future.cancel()


def embed_images(
    sources: Sequence[ImageSource], embedder: Embedder, settings: Settings | None = None
) -> NDArray[np.float32]:
    """Embed images that are not files of a tree: queries.

    Args:
        sources: as `image_files.open_image` takes them.
        embedder: what embeds.
        settings: limits; from the environment by default.

    Returns:
        (len(sources), dimension) float32.

    Raises:
        ImageError: one of them cannot be read.
    """
    pixels = (read_pixels(source, embedder.input_size, settings)[0] for source in sources)
    return embed_in_batches(embedder, _stack(pixels, embedder.input_size))


@dataclass(frozen=True)
class _Decoded:
    item: Item
    pixels: NDArray[np.uint8]


def _decode(root: Path, path: str, size: int, settings: Settings) -> _Decoded | Failure:
    try:
        path.encode()
    except UnicodeEncodeError:
        # Milvus stores UTF-8 only; the name is shown with its odd bytes escaped.
        return Failure(printable(path), f"The name {printable(path)} is not UTF-8; rename the file.")
    file = root / path
    try:
        status = file.stat()
        pixels, (width, height) = read_pixels(file, size, settings)
    except ImageError as error:
        return Failure(path, str(error))
    except OSError as error:
        return Failure(path, f"{file} cannot be read: {error.strerror}.")
    item = Item.of_file(
        root, path, width=width, height=height, file_size=status.st_size, file_mtime_ns=status.st_mtime_ns
    )
    return _Decoded(item, pixels)


def _stack(pixels: Iterable[NDArray[np.uint8]], size: int) -> NDArray[np.uint8]:
    """(n, size, size, 3), also for n = 0, which `np.stack` refuses."""
    images = list(pixels)
    return np.stack(images) if images else np.empty((0, size, size, 3), np.uint8)
