"""Videos -> embedded items, as a stream: decoded in one thread, prepared in others while the network works.

No more of a video is in memory than the frames that are ahead of the network, however long it is.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utilities.backbones import sees_faces
from utilities.contents import (
    READ_AHEAD,
    Chunk,
    Content,
    embed_contents,
    faces_in,
    no_pixels,
    pixels_of_frame,
    unstorable,
)
from utilities.embedder import Embedder
from utilities.errors import UnreadableVideo
from utilities.failures import Failure
from utilities.items import Item, file_digest, item_id
from utilities.spans import Spans
from utilities.streams import in_order, processors
from utilities.videos import Frame, Report, Sampling, Video, import_av

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Frames that may be decoded ahead of those that are being prepared, beside one for each thread.
DECODED_AHEAD = 2


@dataclass(frozen=True)
class _FrameContent(Content):
    """What was found in a frame."""

    time: float = 0.0


@dataclass(frozen=True)
class _End(Content):
    """The end of a file; that of one that failed is its only content, or its last."""

    #: The video as an item, whose size and digest its frames have; None if it failed.
    video: Item | None = None
    #: Seconds up to which it shows something.
    time: float = 0.0
    #: What of it could not be decoded; empty if all could.
    damage: str = ""


def embed_videos(
    root: Path, paths: Sequence[str], embedder: Embedder, sampling: Sampling
) -> Generator[Chunk, None, None]:
    """Embed sampled frames of videos, or the faces in them; what looks alike in frames that follow each other is one.

    Args:
        root: directory that the paths are relative to.
        paths: POSIX paths.
        embedder: what embeds.
        sampling: which frames.

    Yields:
        Chunks as `item_streams.embed_files` does.

    Raises:
        MissingPackage: PyAV is not installed, or what finds faces.
    """
    spans, anything = Spans(), False
    none = np.empty((0, embedder.dimension), np.float32)
    with (
        closing(read_videos(root, paths, embedder, sampling)) as contents,
        closing(embed_contents(contents, embedder)) as stream,
    ):
        for files, embeddings in stream:
            complete: list[tuple[Item, NDArray[np.float32]]] = []
            chunk = Chunk([], none, [], [], [])
            row = 0
            for content in files:
                rows = embeddings[row : row + len(content.items)]
                row += len(rows)
                if isinstance(content, _FrameContent):
                    complete += spans.add(content.time, content.items, rows)
                    anything |= bool(content.items)
                    continue
                assert isinstance(content, _End)
                chunk.finished.append(content.path)
                if content.failure:
                    chunk.failures.append(content.failure)
                elif content.video and not anything:
                    chunk.without_faces.append(content.video)
                else:
                    complete += spans.end(content.time)
                if content.damage:
                    chunk.damaged.append(Failure(content.path, content.damage))
                spans, anything = Spans(), False
            vectors = np.stack([embedding for _, embedding in complete]) if complete else none
            yield replace(chunk, items=[item for item, _ in complete], embeddings=vectors)


def read_videos(
    root: Path, paths: Sequence[str], embedder: Embedder, sampling: Sampling
) -> Generator[Content, None, None]:
    """What an embedder is shown of sampled frames, and after those of each video its end; arguments as above."""
    import_av()  # which may be missing: better said once than for each video
    of_faces = sees_faces(embedder.fingerprint.backbone)
    threads = processors()
    # Frames in which faces are looked for are large.
    ahead = threads if of_faces else READ_AHEAD * embedder.batch_size

    def prepared(found: tuple[Item, Frame] | _End) -> Content:
        if isinstance(found, _End):
            return found
        item, frame = found
        if of_faces:
            content = faces_in(frame.image, item, embedder)
            return _FrameContent(item.path, content.items, content.pixels, time=frame.time)
        return _FrameContent(item.path, [item], embedder.see(frame.image)[None], time=frame.time)

    decoded = _decoded(root, paths, embedder, sampling)
    end = object()
    with (
        closing(decoded),
        ThreadPoolExecutor(1, "decode") as decoder,
        ThreadPoolExecutor(threads, "prepare") as pool,
        # One call after another of the next frame, a few calls ahead of whoever wants it.
        closing(in_order(decoder, partial(next, decoded), repeat(end), threads + DECODED_AHEAD)) as frames,
        closing(in_order(pool, prepared, _until(end, frames), ahead + threads)) as contents,
    ):
        yield from contents


def _until(end: object, frames: Iterator[object]) -> Iterator[tuple[Item, Frame] | _End]:
    for frame in frames:
        if frame is end:
            return
        yield frame  # type: ignore[misc]  # which `partial(next, …)` does not say


def _decoded(
    root: Path, paths: Sequence[str], embedder: Embedder, sampling: Sampling
) -> Generator[tuple[Item, Frame] | _End, None, None]:
    nothing = no_pixels(embedder)
    for path in paths:
        if failed := unstorable(path, embedder):
            yield _End(path, [], nothing, failed.failure)
            continue
        try:
            video, item = _opened(root, path)
            report = Report()
            for frame in video.frames(sampling, pixels_of_frame(embedder), report):
                part = f"{frame.time:.3f}"
                yield replace(item, id=item_id(path, part), part=part), frame
            if _state(video.file) != (item.file_size, item.file_mtime_ns):
                raise UnreadableVideo(f"{video.file} was written to while it was read; load again when that is done.")
            yield _End(path, [], nothing, video=item, time=report.end, damage=video.damage(report))
        except (UnreadableVideo, OSError) as error:
            reason = str(error) if isinstance(error, UnreadableVideo) else f"{root / path} cannot be read: {error}."
            yield _End(path, [], nothing, Failure(path, reason))


def _opened(root: Path, path: str) -> tuple[Video, Item]:
    """A video, and the item that describes the bytes that are going to be decoded."""
    file = root / path
    size, changed = _state(file)
    with file.open("rb") as content:
        digest = file_digest(content)
    video = Video(file)
    width, height = video.size
    item = Item.of_file(
        root, path, width=width, height=height, file_size=size, file_mtime_ns=changed, file_digest=digest
    )
    return video, item


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
