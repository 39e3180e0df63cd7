"""Files -> embedded items, as a stream: read in threads while the network works, in order and within bounds.

What the items of a file are depends on the embedder: one that sees faces is given each face in an image, any other the
image.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from utilities.backbones import sees_faces
from utilities.embedder import Embedder
from utilities.errors import ImageError
from utilities.faces import DETECTION_SIDE, check_detector, find_faces
from utilities.failures import Failure
from utilities.image_files import open_file, read_file
from utilities.items import Item, item_id, printable
from utilities.settings import Settings
from utilities.streams import in_order, processors

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Batches of files that may be read ahead of the network, beside a file or two for each thread: a bound on memory,
#: whatever the size of the tree, which grows with the faces of an image alone.
READ_AHEAD = 4
#: Files without any item after which word is given all the same, for whoever counts files or wants to stop.
FRUITLESS = 32


@dataclass(frozen=True)
class Chunk:
    """A stretch of a stream, of whole files: `embeddings[i]` belongs to `items[i]`; what failed is in neither."""

    items: list[Item]
    #: (len(items), dimension) float32.
    embeddings: NDArray[np.float32]
    failures: list[Failure]
    #: Images in which an embedder that sees faces was shown none, as items of whole files.
    without_faces: list[Item]

    @property
    def files(self) -> int:
        """How many files it tells of."""
        return len({item.path for item in self.items}) + len(self.failures) + len(self.without_faces)


def embed_files(
    root: Path, paths: Sequence[str], embedder: Embedder, settings: Settings
) -> Generator[Chunk, None, None]:
    """Embed files as a stream, in the order given: while a batch is embedded, the next ones are read in threads.

    Args:
        root: directory that the paths are relative to.
        paths: POSIX paths.
        embedder: what embeds.
        settings: limits.

    Yields:
        Chunks of about `embedder.batch_size` items; every path is in exactly one of them: by its items, as a failure,
        or as an image without a face.

    Raises:
        MissingPackage: the embedder sees faces, and what finds them is not installed.
    """
    if sees_faces(embedder.fingerprint.backbone):
        check_detector()
    threads = processors()
    read = partial(_read, root, embedder=embedder, settings=settings)
    waiting: deque[Content] = deque()
    embedded = np.empty((0, embedder.fingerprint.dimension), np.float32)
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="read") as pool,
        closing(in_order(pool, read, paths, READ_AHEAD * embedder.batch_size + 2 * threads)) as contents,
        closing(embedder.embed_stream(_batches(contents, waiting, embedder))) as stream,
    ):
        for embeddings in stream:
            embedded = np.concatenate([embedded, embeddings])
            chunk, rows = _take_whole_files(waiting, embedded)
            embedded = embedded[rows:]
            yield chunk
    if waiting:  # Of these the network saw nothing.
        yield _take_whole_files(waiting, embedded)[0]


def merged(chunks: Iterable[Chunk], rows: int) -> Iterator[Chunk]:
    """Chunks of at least `rows` files each, but the last, made of smaller ones."""
    waiting: list[Chunk] = []
    for chunk in chunks:
        waiting.append(chunk)
        if sum(each.files for each in waiting) >= rows:
            yield _join(waiting)
            waiting = []
    if waiting:
        yield _join(waiting)


def _join(chunks: Sequence[Chunk]) -> Chunk:
    return Chunk(
        [item for chunk in chunks for item in chunk.items],
        np.concatenate([chunk.embeddings for chunk in chunks]),
        [failure for chunk in chunks for failure in chunk.failures],
        [item for chunk in chunks for item in chunk.without_faces],
    )


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
        The n items of the files that can be read, and their embeddings, (n, dimension) float32.
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
            bar.update(chunk.files)
    return items, np.concatenate(blocks)


def sample_pixels(
    root: Path, paths: Sequence[str], count: int, embedder: Embedder, settings: Settings
) -> NDArray[np.uint8]:
    """What an embedder sees of a random sample of a tree, the same at every call.

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
    with ThreadPoolExecutor(processors(), thread_name_prefix="read") as pool:
        contents = pool.map(partial(_read, root, embedder=embedder, settings=settings), chosen)
        return np.concatenate([_nothing(embedder), *(each.pixels for each in contents)])[:count]


@dataclass(frozen=True)
class Content:
    """What was found in a file; or why there is nothing."""

    items: list[Item]
    #: (n, input_size, input_size, 3) uint8 RGB: what the network is to see of each item.
    pixels: NDArray[np.uint8]
    failure: Failure | None = None
    without_face: Item | None = None


def read_content(root: Path, path: str, embedder: Embedder, settings: Settings, *, name: str = "") -> Content:
    """What an embedder is shown of a file: the image, or each face in it; arguments and errors as for `open_file`.

    Raises:
        MissingPackage: the embedder sees faces, and what finds them is not installed.
    """
    if not sees_faces(embedder.fingerprint.backbone):
        pixels, item = read_file(root, path, embedder.input_size, settings, name=name)
        return Content([item], pixels[None])
    image, item = open_file(root, path, DETECTION_SIDE, settings, name=name)
    faces, chips = find_faces(image, embedder.input_size, (item.width, item.height))
    if not faces:
        return Content([], chips, without_face=item)
    numbers = [str(number) for number in range(1, len(faces) + 1)]
    items = [
        replace(item, id=item_id(path, number), part=number, attributes=face.attributes(len(faces)))
        for number, face in zip(numbers, faces, strict=True)
    ]
    return Content(items, chips)


def _batches(contents: Iterable[Content], waiting: deque[Content], embedder: Embedder) -> Iterator[NDArray[np.uint8]]:
    """The pixels of one file after another, in batches; what each batch was made of is put into `waiting`."""
    batch: list[NDArray[np.uint8]] = []
    fruitless = 0
    for content in contents:
        waiting.append(content)
        fruitless = 0 if len(content.pixels) else fruitless + 1
        if fruitless == FRUITLESS and not batch:
            # A batch cannot be empty, and without one nobody would hear of these files: a blank picture, for nobody.
            blank = Content([], np.zeros((1, *_nothing(embedder).shape[1:]), np.uint8))
            waiting.append(blank)
            batch.extend(blank.pixels)
        for pixels in content.pixels:
            batch.append(pixels)
            if len(batch) == embedder.batch_size:
                yield np.stack(batch)  # (n, input_size, input_size, 3)
                batch = []
        if fruitless >= FRUITLESS and batch:
            yield np.stack(batch)
            batch, fruitless = [], 0
    if batch:
        yield np.stack(batch)


def _take_whole_files(waiting: deque[Content], embedded: NDArray[np.float32]) -> tuple[Chunk, int]:
    """The files at the head of `waiting` all of whose rows are embedded, and how many rows that were."""
    files: list[Content] = []
    blocks = [embedded[:0]]
    rows = 0
    while waiting and rows + len(waiting[0].pixels) <= len(embedded):
        content = waiting.popleft()
        files.append(content)
        blocks.append(embedded[rows : rows + len(content.items)])
        rows += len(content.pixels)
    chunk = Chunk(
        [item for content in files for item in content.items],
        np.concatenate(blocks),
        [content.failure for content in files if content.failure],
        [content.without_face for content in files if content.without_face],
    )
    return chunk, rows


def _nothing(embedder: Embedder) -> NDArray[np.uint8]:
    return np.empty((0, embedder.input_size, embedder.input_size, 3), np.uint8)


def _read(root: Path, path: str, *, embedder: Embedder, settings: Settings) -> Content:
    try:
        path.encode()
    except UnicodeEncodeError:
        # Milvus stores UTF-8 only; the name is shown with its odd bytes escaped.
        reason = f"The name {printable(path)} is not UTF-8; rename the file."
        return Content([], _nothing(embedder), Failure(printable(path), reason))
    try:
        return read_content(root, path, embedder, settings)
    except ImageError as error:
        return Content([], _nothing(embedder), Failure(path, str(error)))
