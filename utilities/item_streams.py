"""Files -> embedded items, as a stream: read in threads while the network works, in order and within bounds.

What the items of a file are depends on the embedder: one that sees faces is given each face in an image, any other the
image. Of videos it is given sampled frames.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from utilities.backbones import sees_faces
from utilities.contents import READ_AHEAD, Chunk, Content, embed_contents, faces_in, no_pixels, unstorable
from utilities.embedder import Embedder
from utilities.errors import ImageError
from utilities.faces import DETECTION_SIDE, check_detector
from utilities.failures import Failure, FailureList
from utilities.image_files import open_file
from utilities.items import Item
from utilities.settings import Settings
from utilities.streams import in_order, processors
from utilities.video_streams import embed_videos, read_videos
from utilities.videos import Sampling

if TYPE_CHECKING:
    from numpy.typing import NDArray


def embed_files(
    root: Path, paths: Sequence[str], embedder: Embedder, settings: Settings, sampling: Sampling | None = None
) -> Generator[Chunk, None, None]:
    """Embed files as a stream, in the order given: while a batch is embedded, the next ones are read in threads.

    Args:
        root: directory that the paths are relative to.
        paths: POSIX paths.
        embedder: what embeds.
        settings: limits.
        sampling: the files are videos, of which these frames are taken; by default they are images.

    Yields:
        Chunks of about `embedder.batch_size` items; every path is `finished` in exactly one of them, and is there by
        its items, as a failure, or as a file without a face.

    Raises:
        MissingPackage: the embedder sees faces, and what finds them is not installed; or what decodes videos is not.
    """
    if sees_faces(embedder.fingerprint.backbone):
        check_detector()
    if sampling:
        yield from embed_videos(root, paths, embedder, sampling)
        return
    threads = processors()
    read = partial(_read, root, embedder=embedder, settings=settings)
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="read") as pool,
        closing(in_order(pool, read, paths, READ_AHEAD * embedder.batch_size + 2 * threads)) as contents,
        closing(embed_contents(contents, embedder)) as stream,
    ):
        for files, embeddings in stream:
            yield Chunk(
                [item for file in files for item in file.items],
                embeddings,
                [file.failure for file in files if file.failure],
                [file.without_face for file in files if file.without_face],
                [file.path for file in files],
            )


def merged(chunks: Iterable[Chunk], rows: int) -> Iterator[Chunk]:
    """Chunks of at least `rows` files or items each, made of smaller ones, but the last, and what is long in coming."""
    waiting: list[Chunk] = []
    for chunk in chunks:
        waiting.append(chunk)
        ready = sum(max(len(each.finished), len(each.items)) for each in waiting) >= rows
        if ready or len(waiting) == rows:  # Hours of a video may show nothing new; whoever wants to stop is heard.
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
        [path for chunk in chunks for path in chunk.finished],
        [damage for chunk in chunks for damage in chunk.damaged],
    )


def embed_sample(
    root: Path,
    paths: Sequence[str],
    embedder: Embedder,
    settings: Settings,
    sampling: Sampling | None = None,
    *,
    name: str,
    failures: FailureList | None = None,
    progress: bool = True,
) -> tuple[list[Item], NDArray[np.float32]]:
    """Embed files of a tree, as many as fit into memory.

    Args:
        root: directory that the paths are relative to.
        paths: POSIX paths.
        embedder: what embeds.
        settings: limits.
        sampling: as for `embed_files`.
        name: of the progress bar.
        failures: where files that cannot be read are noted, if anywhere.
        progress: whether to draw one on standard error.

    Returns:
        The n items of the files that can be read, and their embeddings, (n, dimension) float32.
    """
    items: list[Item] = []
    blocks = [np.empty((0, embedder.dimension), np.float32)]
    with (
        tqdm(total=len(paths), unit="video" if sampling else "image", desc=name, disable=not progress) as bar,
        closing(embed_files(root, paths, embedder, settings, sampling)) as chunks,
    ):
        for chunk in chunks:
            items += chunk.items
            blocks.append(chunk.embeddings)
            if failures is not None:
                failures.append(chunk.failures)
            bar.update(len(chunk.finished))
    return items, np.concatenate(blocks)


def sample_pixels(
    root: Path,
    paths: Sequence[str],
    count: int,
    embedder: Embedder,
    settings: Settings,
    sampling: Sampling | None = None,
) -> NDArray[np.uint8]:
    """What an embedder sees of a random sample of a tree, the same at every call.

    Args:
        root: directory that the paths are relative to.
        paths: POSIX paths.
        count: how many are wanted; fewer come back where there are fewer, or where some cannot be read.
        embedder: whose input the pixels are.
        settings: limits.
        sampling: as for `embed_files`; fewer frames are taken of each video where there are enough videos.

    Returns:
        (at most count, *embedder.input_shape) uint8 RGB.
    """
    chosen = random.Random(0).sample(list(paths), min(count, len(paths)))
    if sampling:
        few = sampling.throughout(-(-count // max(1, len(chosen))))
        with closing(read_videos(root, chosen, embedder, few)) as contents:
            # Not all of them hold something.
            found = [each.pixels for each in islice((each for each in contents if len(each.pixels)), count)]
        return np.concatenate([no_pixels(embedder), *found])[:count]
    with ThreadPoolExecutor(processors(), thread_name_prefix="read") as pool:
        images = pool.map(partial(_read, root, embedder=embedder, settings=settings), chosen)
        return np.concatenate([no_pixels(embedder), *(each.pixels for each in images)])[:count]


def read_content(root: Path, path: str, embedder: Embedder, settings: Settings, *, name: str = "") -> Content:
    """What an embedder is shown of an image file: the image, or each face in it; arguments and errors as for
    `open_file`.

    Raises:
        MissingPackage: the embedder sees faces, and what finds them is not installed.
    """
    if not sees_faces(embedder.fingerprint.backbone):
        image, item = open_file(root, path, embedder.input_size, settings, name=name)
        return Content(path, [item], embedder.see(image)[None])
    return faces_in(*open_file(root, path, DETECTION_SIDE, settings, name=name), embedder)


def _read(root: Path, path: str, *, embedder: Embedder, settings: Settings) -> Content:
    if failed := unstorable(path, embedder):
        return failed
    try:
        return read_content(root, path, embedder, settings)
    except ImageError as error:
        return Content(path, [], no_pixels(embedder), Failure(path, str(error)))
