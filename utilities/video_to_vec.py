"""Videos of a directory tree -> embeddings of their frames, or of the faces in them; and one clip: a query."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from utilities.backbones import sees_faces
from utilities.contents import pixels_of_frame
from utilities.directory_trees import find_videos
from utilities.embedder import Embedder, embed_in_batches, load_embedder
from utilities.errors import NoFace, UnreadableVideo
from utilities.faces import Face, find_faces, no_face
from utilities.item_streams import embed_files
from utilities.items import Item
from utilities.settings import Settings
from utilities.videos import Report, Sampling, Still, Video

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: Frames of a query: two a second, which finds where a clip begins to half a second, or fewer of a long one.
QUERY_SAMPLING = Sampling(0.5, most=64)


def video_to_vec(
    directory: str | os.PathLike[str],
    extension: str | None = None,
    *,
    sampling: Sampling | None = None,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> tuple[NDArray[np.float32], list[Item]]:
    """Embed frames of every video of a directory tree, or, by an embedder that sees faces, the faces in them.

    Of frames that follow each other and look alike one is kept. Files that cannot be read are left out and logged as
    warnings; so are videos without a face, where faces are looked for.

    Args:
        directory: the tree.
        extension: `"MP4"` takes only `.mp4` in any case; None takes every type of video.
        sampling: which frames; by default one a second.
        embedder: what embeds; `load_embedder()` by default, which is ResNet50 with ImageNet weights.
        settings: limits and places; from the environment by default.
        progress: whether to draw a progress bar on standard error.

    Returns:
        Embeddings, (n, dimension) float32 with rows of length 1, and the n frames or faces as items: `path` is relative
        to the directory, and the attributes `time` and `until` are the seconds at which its span begins and ends. They
        are sorted by path, and within a video nearly by time: a face that is shown for long comes after shorter ones.

    Raises:
        InvalidArgument: no such directory.
        NoImagesFound: no video in it.
        UnreadableVideo: none that can be read.
        NoFace: no face in any of them.
        MissingPackage: PyAV is not installed, or what finds faces.

    Example:
        >>> embeddings, frames = video_to_vec("holidays")
        >>> embeddings.shape, frames[1].path, frames[1].attributes["time"]
        ((1204, 2048), '2023/beach.mp4', 1.0)
    """
    settings = settings or Settings.load()
    root = Path(directory)
    found = find_videos(root, extension)
    embedder = embedder or load_embedder(settings=settings)
    items: list[Item] = []
    blocks, failed = [], 0
    with tqdm(total=len(found), unit="video", disable=not progress) as bar:
        for chunk in embed_files(root, found, embedder, settings, sampling or Sampling()):
            blocks.append(chunk.embeddings)
            items += chunk.items
            failed += len(chunk.failures)
            for failure in chunk.failures:
                logger.warning("Left out: %s", failure.reason)
            for item in chunk.without_faces:
                logger.warning("No face was found in %s.", root / item.path)
            for damage in chunk.damaged:
                logger.warning("%s %s.", root / damage.path, damage.reason)
            bar.update(len(chunk.finished))
    if failed == len(found):
        raise UnreadableVideo(f"None of the {len(found):,} videos in {str(root)!r} can be read.")
    if not items:
        raise NoFace(f"No face was found in the {len(found):,} videos in {str(root)!r}.")
    return np.concatenate(blocks), items


@dataclass(frozen=True)
class Clip:
    """A video as a query."""

    #: (n, dimension) float32, of n frames, or of the largest face in each of n frames.
    embeddings: NDArray[np.float32]
    #: Seconds from one frame to the next.
    step: float
    #: What shows it: the middle one of these frames, since a clip may begin with the end of another scene.
    picture: Still
    #: The face that was searched with in that, where faces are.
    face: Face | None


def clip_to_vec(
    file: str | os.PathLike[str], embedder: Embedder, *, name: str = "", patience: float = math.inf
) -> Clip:
    """Embed a clip that is searched with.

    Args:
        file: the video.
        embedder: what embeds: frames, or, if it sees faces, the largest face in each frame that shows one.
        name: what errors call it; by default its path.
        patience: as for `Video`.

    Raises:
        UnreadableVideo: it cannot be read.
        NoFace: faces are needed, and none was found.
        MissingPackage: PyAV is not installed, or what finds faces.
    """
    video = Video(Path(file), name, patience)
    of_faces = sees_faces(embedder.fingerprint.backbone)
    pixels, faces, times, report = [], [], [], Report()
    for frame in video.frames(QUERY_SAMPLING, pixels_of_frame(embedder), report):
        if of_faces:
            found, chips = find_faces(frame.image, embedder.input_size, video.size)
            if not found:
                continue
            faces.append(found[0])
            pixels.append(chips[0])
        else:
            pixels.append(embedder.see(frame.image))
        times.append(frame.time)
    if not pixels:
        raise no_face(f"any frame of {video.name}")
    if video.seconds is None and len(times) == QUERY_SAMPLING.most:
        logger.warning("%s does not say how long it is; its first %.0f s are searched with.", video.name, times[-1])
    if damage := video.damage(report):
        logger.warning("%s %s; what could be decoded is searched with.", video.name, damage)
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return Clip(
        embed_in_batches(embedder, np.stack(pixels)),
        step,
        Still(video.file, times[len(times) // 2]),
        faces[len(times) // 2] if faces else None,
    )
