"""What was found in files -> embeddings, as a stream of batches that do not care where a file ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from utilities.backbones import sees_faces
from utilities.embedder import Embedder
from utilities.faces import DETECTION_PIXELS, find_faces
from utilities.failures import Failure
from utilities.items import Item, is_utf8, item_id, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Batches of pictures that may be read ahead of the network, beside one or two for each thread: a bound on memory,
#: whatever the size of the tree, which grows with the faces of an image alone.
READ_AHEAD = 4
#: Files or frames without any item after which word is given all the same, for whoever counts or wants to stop.
FRUITLESS = 32


@dataclass(frozen=True)
class Content:
    """What was found in a file, or in a frame of a video; or why there is nothing."""

    #: Of the file.
    path: str
    items: list[Item]
    #: (n, *embedder.input_shape) uint8 RGB: what the network is to see of each item.
    pixels: NDArray[np.uint8]
    failure: Failure | None = None
    without_face: Item | None = None


def unstorable(path: str, embedder: Embedder) -> Content | None:
    """The failure of a file whose name Milvus does not take; it is shown with its odd bytes escaped."""
    if is_utf8(path):
        return None
    reason = f"The name {printable(path)} is not UTF-8; rename the file."
    return Content(path, [], no_pixels(embedder), Failure(printable(path), reason))


def pixels_of_frame(embedder: Embedder) -> int:
    """How many pixels of a video's frame are enough for what the embedder is shown of it."""
    return DETECTION_PIXELS if sees_faces(embedder.fingerprint.backbone) else 4 * embedder.input_size**2


def faces_in(image: Image.Image, item: Item, embedder: Embedder) -> Content:
    """Each face in an image, as an item of its own.

    Args:
        image: upright RGB.
        item: the whole image, or frame, whose size is that of the whole where the image is a smaller copy.
        embedder: one that sees faces.

    Raises:
        MissingPackage: what finds faces is not installed.
    """
    faces, chips = find_faces(image, embedder.input_size, (item.width, item.height))
    if not faces:
        return Content(item.path, [], chips, without_face=item)
    prefix = f"{item.part}/" if item.part else ""
    parts = [f"{prefix}{number}" for number in range(1, len(faces) + 1)]
    items = [
        replace(item, id=item_id(item.path, part), part=part).having(face.attributes(len(faces)))
        for part, face in zip(parts, faces, strict=True)
    ]
    return Content(item.path, items, chips)


@dataclass(frozen=True)
class Chunk:
    """A stretch of a stream: `embeddings[i]` belongs to `items[i]`; what failed is in neither."""

    items: list[Item]
    #: (len(items), dimension) float32.
    embeddings: NDArray[np.float32]
    failures: list[Failure]
    #: Files in which an embedder that sees faces was shown none, as items of whole files.
    without_faces: list[Item]
    #: Paths of the files that end in it: an image is whole in one chunk, a video may reach over many.
    finished: list[str]
    #: Videos of which only a part could be decoded, and which part that is not.
    damaged: list[Failure] = field(default_factory=list)


def embed_contents(
    contents: Iterable[Content], embedder: Embedder
) -> Generator[tuple[list[Content], NDArray[np.float32]], None, None]:
    """Embed what was read of files, as a stream, in batches that do not care where a file ends.

    Args:
        contents: asked for a few batches ahead of what is yielded.
        embedder: what embeds.

    Yields:
        Some of the contents, in their order, and the embeddings of all of their items, (n, dimension) float32.
    """
    waiting: deque[Content] = deque()
    embedded = np.empty((0, embedder.dimension), np.float32)
    with closing(embedder.embed_stream(_batches(contents, waiting, embedder))) as stream:
        for embeddings in stream:
            embedded = np.concatenate([embedded, embeddings])
            taken, rows, blocks = [], 0, [embedded[:0]]
            while waiting and rows + len(waiting[0].pixels) <= len(embedded):
                content = waiting.popleft()
                blocks.append(embedded[rows : rows + len(content.items)])
                rows += len(content.pixels)
                if content.items or not len(content.pixels):  # and is not a blank picture
                    taken.append(content)
            embedded = embedded[rows:]
            yield taken, np.concatenate(blocks)
    if waiting:  # Of these the network saw nothing.
        yield list(waiting), embedded[:0]


def _batches(contents: Iterable[Content], waiting: deque[Content], embedder: Embedder) -> Iterator[NDArray[np.uint8]]:
    """The pixels of one file after another, in batches; what each batch was made of is put into `waiting`."""
    batch: list[NDArray[np.uint8]] = []
    fruitless = 0
    for content in contents:
        waiting.append(content)
        fruitless = 0 if len(content.pixels) else fruitless + 1
        if fruitless == FRUITLESS and not batch:
            # A batch cannot be empty, and without one nobody would hear of these files: a blank picture, for nobody.
            blank = Content("", [], np.zeros((1, *embedder.input_shape), np.uint8))
            waiting.append(blank)
            batch.extend(blank.pixels)
        for pixels in content.pixels:
            batch.append(pixels)
            if len(batch) == embedder.batch_size:
                yield np.stack(batch)  # (n, *input_shape)
                batch = []
        if fruitless >= FRUITLESS and batch:
            yield np.stack(batch)
            batch, fruitless = [], 0
    if batch:
        yield np.stack(batch)


def no_pixels(embedder: Embedder) -> NDArray[np.uint8]:
    """What an embedder sees of nothing: (0, *input_shape)."""
    return np.empty((0, *embedder.input_shape), np.uint8)
