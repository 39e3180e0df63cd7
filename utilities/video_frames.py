"""Frames of a video as they are decoded: which of them are taken, and what of each is the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from utilities.crops import Crop

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

#: Part of a picture that changes from one frame to the next where another scene begins, as FFmpeg's filter `select`
#: measures it; its documentation gives 0.3 to 0.5 as sane values.
SCENE = 0.3
#: Seconds after which another frame of the same scene is taken, since what is faded into is no change from one frame to
#: the next.
LONG_SCENE = 10
#: How bright, from 0 to 255, a row or column of a black bar may be.
BLACK = 24
#: A side of the picture keeps at least this part of the whole, or there are no bars but a dark film.
LEAST_PICTURE = 0.4


def by_time(decoded: Iterator[tuple[VideoFrame, float]], every: float) -> Iterator[tuple[VideoFrame, float]]:
    """Of frames and their seconds those that are so far apart, or the next there are."""
    due = 0.0
    for frame, time in decoded:
        if time >= due - 1e-6:
            yield frame, time
            due = (math.floor(time / every + 1e-6) + 1) * every


def first_of_scenes(decoded: Iterator[tuple[VideoFrame, float]]) -> Iterator[tuple[VideoFrame, float]]:
    """The first frame, those at which FFmpeg's filter `select` sees another scene, and more of long scenes."""
    from av.error import BlockingIOError as WantsMore

    graph, kind = None, None
    for frame, time in decoded:
        if graph is None or kind != (frame.width, frame.height, frame.format.name):
            graph, kind = _scene_filter(frame), (frame.width, frame.height, frame.format.name)
        graph.vpush(frame)
        try:
            graph.vpull()  # It passes this frame on, or none.
        except WantsMore:
            continue
        yield frame, time


def _scene_filter(frame: VideoFrame) -> Any:
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1_000)
    )
    chosen = f"eq(n,0)+gt(scene,{SCENE})+gte(t-prev_selected_t,{LONG_SCENE})"
    select, sink = graph.add("select", chosen), graph.add("buffersink")
    source.link_to(select)
    select.link_to(sink)
    graph.configure()
    return graph


def upright(frame: VideoFrame, most_pixels: int, pixel_aspect: float = 1.0) -> Image.Image:
    """A frame as RGB, as it is to be seen: turned, mirrored, with square pixels; and smaller if it has more pixels.

    Args:
        frame: as it was decoded.
        most_pixels: that it may have.
        pixel_aspect: width of a pixel as it is stored, divided by its height.
    """
    scale = min(1.0, math.sqrt(most_pixels / (frame.width * frame.height * pixel_aspect)))
    sides = (max(1, round(frame.width * scale * pixel_aspect)), max(1, round(frame.height * scale)))
    pixels = frame.reformat(*sides, format="rgb24", interpolation="AREA" if scale < 1 else None).to_ndarray()
    image = Image.fromarray(pixels)
    for step in _turns(frame):
        image = image.transpose(step)
    return image


def upright_size(frame: VideoFrame, pixel_aspect: float) -> tuple[int, int]:
    """Width and height of what `upright` makes of a frame that is not made smaller."""
    size = (max(1, round(frame.width * pixel_aspect)), frame.height)
    return size[::-1] if Image.Transpose.TRANSPOSE in _turns(frame) else size


def _turns(frame: VideoFrame) -> list[Image.Transpose]:
    """What makes a frame upright: the quarter turns and mirrorings that come nearest to its display matrix.

    The matrix (ISO/IEC 14496-12, section 8.3.2) takes (x, y) to (a x + c y, b x + d y).
    """
    from av.sidedata.sidedata import Type

    matrix: Any = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]  # which names only
    if matrix is None:
        return []
    a, b, _, c, d, *_ = map(int, np.frombuffer(bytes(matrix), np.int32))
    turns = []
    if abs(b) + abs(c) > abs(a) + abs(d):
        turns.append(Image.Transpose.TRANSPOSE)
        a, d = c, b
    if a < 0:
        turns.append(Image.Transpose.FLIP_LEFT_RIGHT)
    if d < 0:
        turns.append(Image.Transpose.FLIP_TOP_BOTTOM)
    return turns


def grey(frame: VideoFrame) -> NDArray[np.uint8]:
    """A small copy of a frame, (height, width)."""
    return np.asarray(upright(frame, 320 * 240).convert("L"))


def without_bars(brightest: NDArray[np.uint8]) -> Crop | None:
    """The part that is no black bar, None for all, of what is (height, width) and the brightest of several frames."""
    rows, columns = (np.flatnonzero(brightest.max(axis=axis) > BLACK) for axis in (1, 0))
    if not len(rows):
        return None
    height, width = brightest.shape
    top, bottom, left, right = rows[0] / height, (rows[-1] + 1) / height, columns[0] / width, (columns[-1] + 1) / width
    if min(bottom - top, right - left) < LEAST_PICTURE or (bottom - top, right - left) == (1, 1):
        return None
    return Crop(float(left), float(top), float(right - left), float(bottom - top))
