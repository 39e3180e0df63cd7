"""Images or a directory tree -> embeddings and paths, in RAM or as a stream of chunks."""

from __future__ import annotations

import logging
import os
import random
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from utilities.directory_trees import find_images
from utilities.embedder import Embedder, embed_in_batches, load_embedder
from utilities.errors import ImageError, UnreadableImage
from utilities.failures import Failure
from utilities.image_files import ImageSource, read_file, read_pixels
from utilities.items import Item, printable
from utilities.settings import Settings
from utilities.streams import in_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: Batches that may be decoded ahead of the network, beside an image or two for each thread: a bound on memory, whatever
#: the size of the tree.
DECODED_AHEAD = 4


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


def embed_files(
    root: Path, paths: Sequence[str], embedder: Embedder, settings: Settings
) -> Generator[Chunk, None, None]:
    """Embed files as a stream, in the order given: while a batch is embedded, the next ones are decoded in threads.

    Args:
        root: directory that the paths are relative to.
        paths: POSIX paths.
        embedder: what embeds.
        settings: limits.

    Yields:
        Chunks of at most `embedder.batch_size` items; every path is in exactly one of them, as an item or as a failure.
    """
    size = embedder.batch_size
    nothing = np.empty((0, embedder.fingerprint.dimension), np.float32)
    threads = processors()
    decode = partial(_decode, root, size=embedder.input_size, settings=settings)
    under_way: deque[_Batch] = deque()

    def pixels(results: Iterable[_Decoded | Failure]) -> Iterator[NDArray[np.uint8]]:
        for batch in _batches(results, size):
            under_way.append(batch)
            if batch.decoded:
                yield np.stack([each.pixels for each in batch.decoded])  # (n, input_size, input_size, 3)

    with (
        ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
        closing(in_order(pool, decode, paths, DECODED_AHEAD * size + 2 * threads)) as decoded,
        closing(embedder.embed_stream(pixels(decoded))) as stream,
    ):
        for embeddings in stream:
            while not under_way[0].decoded:  # Of these the network saw nothing.
                yield under_way.popleft().chunk(nothing)
            yield under_way.popleft().chunk(embeddings)
        yield from (batch.chunk(nothing) for batch in under_way)


def embed_sample(
    root: Path, paths: Sequence[str], embedder: Embedder, settings: Settings, *, name: str, progress: bool = True
) -> tuple[list[Item], NDArray[np.float32]]:
    """Embed files of a tree, as many as fit into memory.

    Args:
        root: directory that the paths are relative to.
        paths: POSIX paths.
        embedder: what embeds.
        settings: limits.
        name: of the progress bar.
        progress: whether to draw one on standard error.

    Returns:
        The items of the n files that can be read, and their embeddings, (n, dimension) float32.
    """
    items: list[Item] = []
    blocks = [np.empty((0, embedder.fingerprint.dimension), np.float32)]
    with (
        tqdm(total=len(paths), unit="image", desc=name, disable=not progress) as bar,
        closing(embed_files(root, paths, embedder, settings)) as chunks,
    ):
        for chunk in chunks:
            items += chunk.items
            blocks.append(chunk.embeddings)
            bar.update(len(chunk.items) + len(chunk.failures))
    return items, np.concatenate(blocks)


def sample_pixels(
    root: Path, paths: Sequence[str], count: int, embedder: Embedder, settings: Settings
) -> NDArray[np.uint8]:
    """Decode a random sample of a tree, the same at every call.

    Args:
        root: directory that the paths are relative to.
        paths: POSIX paths.
        count: how many are wanted; fewer come back where there are fewer, or where some cannot be read.
        embedder: whose input the pixels are.
        settings: limits.

    Returns:
        (at most count, input_size, input_size, 3) uint8 RGB.
    """
    chosen = random.Random(0).sample(list(paths), min(count, len(paths)))
    with ThreadPoolExecutor(processors(), thread_name_prefix="decode") as pool:
        decode = partial(_decode, root, size=embedder.input_size, settings=settings)
        decoded = [result.pixels for result in pool.map(decode, chosen) if isinstance(result, _Decoded)]
    return np.stack(decoded) if decoded else np.empty((0, embedder.input_size, embedder.input_size, 3), np.uint8)


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    size = embedder.input_size
    pixels = np.empty((len(sources), size, size, 3), np.uint8)
    for row, source in enumerate(sources):
        pixels[row] = read_pixels(source, size, settings)[0]
    return embed_in_batches(embedder, pixels)


@dataclass(frozen=True)
class _Decoded:
    item: Item
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class _Batch:
    """What goes through the network together, and what failed on the way to it."""

    decoded: list[_Decoded]
    failures: list[Failure]

    def chunk(self, embeddings: NDArray[np.float32]) -> Chunk:
        return Chunk([each.item for each in self.decoded], embeddings, self.failures)


def _batches(results: Iterable[_Decoded | Failure], size: int) -> Iterator[_Batch]:
    """Batches of `size` decoded images, the last of fewer; or where `size` failures came between."""
    batch = _Batch([], [])
    for result in results:
        if isinstance(result, _Decoded):
            batch.decoded.append(result)
        else:
            batch.failures.append(result)
        if size in (len(batch.decoded), len(batch.failures)):
            yield batch
            batch = _Batch([], [])
    if batch.decoded or batch.failures:
        yield batch


def _decode(root: Path, path: str, *, size: int, settings: Settings) -> _Decoded | Failure:
    try:
        path.encode()
    except UnicodeEncodeError:
        # Milvus stores UTF-8 only; the name is shown with its odd bytes escaped.
        return Failure(printable(path), f"The name {printable(path)} is not UTF-8; rename the file.")
    try:
        pixels, item = read_file(root, path, size, settings)
    except ImageError as error:
        return Failure(path, str(error))
    return _Decoded(item, pixels)
