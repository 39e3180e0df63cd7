"""Clips that are uploaded: searched with, or looked at."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import TypeGuard, TypeVar

from anyio.to_thread import run_sync
from starlette.datastructures import UploadFile

from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument
from utilities.matches import Match
from utilities.thumbnails import as_jpeg
from utilities.videos import Video, is_video
from utilities.web.models import SearchOptions
from utilities.web.service import Service

Result = TypeVar("Result")

#: Seconds that decoding a clip may take: a small file can hold many hours.
SECONDS_TO_DECODE = 60


def is_clip(file: UploadFile | None) -> TypeGuard[UploadFile]:
    """Whether an upload is a clip, told by the extension of its name."""
    return file is not None and is_video(file.filename)


async def search_with(
    service: Service, info: CollectionInfo, asked: SearchOptions, clip: UploadFile, called: str
) -> list[Match]:
    """The videos of a collection that show what a clip shows.

    Raises:
        InvalidArgument: a collection of images, or a part or a face of the clip was asked for.
        LookalikeError: as for `WarmSearch.by_clip`.
    """
    if not info.sampling:
        raise InvalidArgument(f"{called} is a video, and {info.name!r} holds {info.what}; search it with a picture.")
    if asked.face is not None:
        raise InvalidArgument("face: of a clip the largest face of each frame is searched with; leave out face.")
    if asked.part is not None:
        raise InvalidArgument("crop: a clip is searched with as a whole; leave out crop.")

    def search(file: Path) -> list[Match]:
        return service.search.by_clip(info, file, asked.selection, name=called, patience=SECONDS_TO_DECODE)

    return await _with_file(service, clip, search)


async def first_frame(service: Service, clip: UploadFile, called: str, side: int) -> bytes:
    """The first frame of a clip as a JPEG.

    Args:
        service: of this process.
        clip: an upload.
        called: what errors call it.
        side: the most pixels that the frame is wide and high.

    Raises:
        UnreadableVideo: it cannot be read.
        MissingPackage: PyAV is not installed.
    """

    def draw(file: Path) -> bytes:
        return as_jpeg(Video(file, called, SECONDS_TO_DECODE).at(0.0, service.settings.max_image_pixels), side)

    return await _with_file(service, clip, draw)


async def _with_file(service: Service, clip: UploadFile, work: Callable[[Path], Result]) -> Result:
    """What becomes of a clip, once it lies in a file, where FFmpeg can search in it."""

    def decode() -> Result:
        with _file(clip) as file:
            return work(file)

    # Whoever brings a clip waits for those before, so that pictures do not wait for clips.
    async with service.clips:
        return await run_sync(decode, limiter=service.decoding)


@contextlib.contextmanager
def _file(clip: UploadFile) -> Iterator[Path]:
    """A copy in a folder of its own, of which nothing is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        file = Path(folder, "clip").with_suffix(PurePath(clip.filename or "").suffix)
        with file.open("wb") as copy:
            shutil.copyfileobj(clip.file, copy)
        yield file
