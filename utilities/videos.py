"""Videos as a stream of upright RGB frames, sampled by time or at changes of scene; never a whole video in memory.

Decoded by FFmpeg through PyAV. What cannot be decoded in the midst of a video is passed over and counted.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from utilities.crops import Crop
from utilities.errors import InvalidArgument, MissingPackage, UnreadableVideo
from utilities.items import printable
from utilities.video_frames import by_time, first_of_scenes, grey, upright, upright_size, without_bars

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

#: Extensions, in lower case, by which a video is told.
VIDEO_EXTENSIONS = frozenset(
    f".{name}"
    for name in "3g2 3gp asf avi dv f4v flv m2ts m2v m4v mkv mov mp4 mpeg mpg mts mxf ogm ogv ts vob webm wmv".split()  # noqa: SIM905
)
#: Formats, by FFmpeg's names, that a video may be of. FFmpeg tells them by content, whatever the extension, and knows
#: playlists and scripts, too, which have it read other files than the one that was given.
FORMATS = "asf,avi,dv,flv,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,ogg"
#: A frame of more pixels is not decoded: three times what 8K has.
MOST_PIXELS = 100_000_000
#: Videos whose beginnings and black bars are remembered, for whoever wants one frame after another.
_REMEMBERED = 256
#: Places of a video that are looked at for black bars.
PROBES = 9
#: Seconds by which two times of one frame may differ, having been written with three decimals.
SAME_TIME = 0.001
#: Seconds, and part of a video, that its last frame may lie before its end; sound is often a little longer.
MISSING_SECONDS, MISSING_PART = 2.0, 0.02
#: Seconds without a frame after which it is looked whether something is missing there.
LONG_GAP = 1.0
#: Seconds by which a time may go back and be rounding, or a frame out of order.
BACK = 1.0
#: How much wider than high a pixel may be, or the other way round: more is an error of the file.
_MOST_ASPECT = 4.0

#: Whoever listens to FFmpeg's log.
_listening = threading.Lock()


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are taken."""

    #: Seconds from one to the next; None for the first of each scene, and one every `LONG_SCENE` seconds.
    every: float | None = 1.0
    #: Take fewer, further apart, where there would be more than this.
    most: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no time.

        Raises:
            InvalidArgument: not more than a millisecond, or no number.
        """
        if self.every is not None and not 0.001 < self.every < math.inf:
            raise InvalidArgument(f"Frames cannot be taken every {self.every:g} seconds; say a number above 0.001.")

    def __str__(self) -> str:
        return "at each change of scene" if self.every is None else f"every {self.every:g} s"

    def throughout(self, most: int) -> Sampling:
        """At most so many frames of each video, from its beginning to its end as far as it tells how long it is."""
        return Sampling(self.every or 1.0, most)

    def to_text(self) -> str:
        """As a collection remembers it."""
        return "scenes" if self.every is None else repr(float(self.every))

    @classmethod
    def from_text(cls, text: str) -> Sampling:
        """The inverse of `to_text`."""
        return cls(None if text == "scenes" else float(text))


@dataclass(frozen=True)
class Still:
    """A frame of a video, as the picture of an item."""

    file: Path
    #: Seconds from the beginning of the video.
    time: float

    def __str__(self) -> str:
        return f"{self.file} at {self.time:g} s"


@dataclass(frozen=True)
class Frame:
    """A frame that was taken of a video."""

    #: Seconds from the beginning of the video.
    time: float
    #: Upright, RGB, without black bars.
    image: Image.Image


@dataclass
class Report:
    """What became of a video while it was decoded."""

    #: Places where something could not be decoded.
    damaged: int = 0
    #: Seconds up to which frames are shown.
    end: float = 0.0
    #: The most seconds between the end of a frame and the beginning of the next.
    longest_gap: float = 0.0


class Video:
    """A video file. It remembers nothing of what is decoded, so that several threads may share it."""

    def __init__(self, file: Path, name: str = "", patience: float = math.inf) -> None:
        """Look at its beginning, and for black bars.

        Args:
            file: where it is.
            name: what errors call it; by default its path.
            patience: seconds from now on after which nothing more of it is decoded, and it counts as unreadable.

        Raises:
            UnreadableVideo: no video, one of a kind that FFmpeg cannot decode, or one without a frame.
            MissingPackage: PyAV is not installed.
        """
        self.file, self.name = file, name or printable(str(file))
        self._patience, self._until = patience, monotonic() + patience
        self._start, self._pixel_aspect = 0.0, 1.0
        with self._opened() as (container, stream):
            if stream.sample_aspect_ratio:
                self._pixel_aspect = float(min(max(stream.sample_aspect_ratio, 1 / _MOST_ASPECT), _MOST_ASPECT))
            first = next((frame for frame, _ in self._decoded(container, stream, Report())), None)
            if first is None:
                raise UnreadableVideo(f"{self.name} holds no frame that can be decoded.")
            self._start = first.time or 0.0
            #: Length in seconds, as far as the file tells it; and whether it is that of its pictures for certain.
            self.seconds, self._is_certain = _seconds(container, stream, self._start)
            self._area = self._without_bars(container, stream, first)
        #: Width and height in pixels of the upright picture, without black bars.
        self.size = upright_size(first, self._pixel_aspect)
        if self._area:
            sides = (self._area.width * self.size[0], self._area.height * self.size[1])
            self.size = max(1, round(sides[0])), max(1, round(sides[1]))

    def frames(self, sampling: Sampling, most_pixels: int, report: Report | None = None) -> Iterator[Frame]:
        """Sampled frames, from the first to the last, no two of them at the same millisecond.

        Args:
            sampling: which of them.
            most_pixels: of a frame; a larger one is made smaller.
            report: where to note what became of it, as far as frames were taken.
        """
        every, last = sampling.every, -math.inf
        if every and sampling.most and self.seconds:
            every = max(every, self.seconds / sampling.most)
        with self._opened() as (container, stream):
            decoded = self._decoded(container, stream, report or Report())
            chosen = by_time(decoded, every) if every else first_of_scenes(decoded)
            for frame, time in islice(chosen, sampling.most):
                if time >= last + SAME_TIME:
                    yield Frame(time, self._image(frame, most_pixels))
                    last = time

    def at(self, time: float, most_pixels: int) -> Image.Image:
        """The frame that is shown at a time, as `frames` has it.

        Args:
            time: seconds from the beginning.
            most_pixels: as for `frames`.

        Raises:
            UnreadableVideo: it has none there.
        """
        for from_near in (True, False):
            with self._opened() as (container, stream):
                if from_near and not _sought(container, time + self._start):
                    continue
                last = None
                for frame, shown in self._decoded(container, stream, Report()):
                    if from_near and last is None and shown > time + SAME_TIME:
                        break  # It was not sought for well: the file's index is wrong, or has none.
                    last = frame
                    if shown >= time - SAME_TIME:
                        return self._image(frame, most_pixels)
        raise UnreadableVideo(f"{self.name} has no frame at {time:g} s.")

    def damage(self, report: Report) -> str:
        """What could not be decoded of what was taken to the end: a sentence that lacks its subject; or `""`."""
        seconds = self.seconds or 0.0
        gap = not report.damaged and report.longest_gap > LONG_GAP
        early = seconds - report.end > max(MISSING_SECONDS, MISSING_PART * seconds)
        # Which takes another reading of the file.
        unreadable = (gap or (early and not self._is_certain)) and self._has_unreadable_stretches()
        parts = []
        if report.damaged:
            parts.append(f"is damaged in {report.damaged} {'place' if report.damaged == 1 else 'places'}")
        elif gap and unreadable:
            parts.append(f"is damaged, and shows nothing for up to {report.longest_gap:.1f} s")
        if early and (self._is_certain or unreadable):
            parts.append(f"shows nothing after {report.end:.1f} of {seconds:.1f} s")
        return " and ".join(parts)

    def _has_unreadable_stretches(self) -> bool:
        """Whether FFmpeg passes over bytes, which its log alone says; a gap may as well be a picture that stays."""
        from av import logging

        # The log is the whole process's; here nothing is decoded, whose threads would write into it, too.
        with _listening, self._opened() as (container, stream), logging.Capture() as said:
            logging.set_level(logging.ERROR)
            try:
                for _ in container.demux(stream):
                    pass
            finally:
                logging.set_level(None)
        return bool(said)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        av = import_av()
        if self.file.exists() and not self.file.is_file():  # A pipe would be waited for.
            raise UnreadableVideo(f"{self.name} is not a file.")
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        try:
            # Of a relative name FFmpeg would take what comes before a colon for a protocol.
            container = av.open(str(self.file.absolute()), metadata_errors="ignore", options=options)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UnreadableVideo(f"{self.name} is not a video that can be opened ({self._why(error)}).") from error
        with container:
            # The cover of a song is a video stream, too.
            streams = [each for each in container.streams.video if not each.disposition & each.disposition.attached_pic]
            if not streams:
                raise UnreadableVideo(f"{self.name} has no video stream.")
            if streams[0].codec_context is None:
                raise UnreadableVideo(f"{self.name} is of a kind that FFmpeg cannot decode here.")
            if streams[0].width * streams[0].height > MOST_PIXELS:
                size = f"{streams[0].width:,} by {streams[0].height:,}"
                raise UnreadableVideo(f"{self.name} has frames of {size} pixels, more than {MOST_PIXELS:,}.")
            streams[0].thread_type = "AUTO"
            streams[0].codec_context.options = {"max_pixels": str(MOST_PIXELS)}  # A stream may grow.
            try:
                yield container, streams[0]
            except (av.error.FFmpegError, ValueError) as error:
                raise UnreadableVideo(f"{self.name} cannot be decoded ({_reason(error)}).") from error

    def _why(self, error: Exception) -> str:
        """Why it cannot be opened, in other words than FFmpeg's, who knows of numbers only."""
        from av.error import ArgumentError, InvalidDataError

        if self.file.is_file() and self.file.stat().st_size == 0:
            return "it is empty"
        if isinstance(error, (ArgumentError, InvalidDataError)):
            return "its content is no video of a known kind, or it was cut off"
        return _reason(error)

    def _decoded(self, container: Any, stream: Any, report: Report) -> Iterator[tuple[VideoFrame, float]]:
        """Every frame that can be decoded from here on, and its seconds from the beginning, which never go back."""
        from av.error import FFmpegError

        packets = container.demux(stream)
        latest, sound, joined, time = self._start, True, 0.0, 0.0
        while True:
            if monotonic() > self._until:
                raise UnreadableVideo(
                    f"{self.name} takes more than {self._patience:g} s to decode; give a shorter one."
                )
            try:
                frames = next(packets).decode()
            except StopIteration:
                return
            except FFmpegError:
                report.damaged += sound
                sound = False
                continue
            for frame in frames:
                if frame.is_corrupt:
                    report.damaged += sound
                    sound = False
                    continue
                sound = True
                if frame.time is not None:  # One without a time of its own is shown with the one before.
                    latest = frame.time
                shown = latest - self._start + joined
                if shown < time - BACK:  # Recordings that were put together count from 0 again.
                    joined += report.end - shown
                    shown = report.end
                time = max(time, shown, 0.0)
                report.longest_gap = max(report.longest_gap, time - report.end)
                report.end = max(report.end, time + float((frame.duration or 0) * (frame.time_base or 0)))
                yield frame, time

    def _without_bars(self, container: Any, stream: Any, first: VideoFrame) -> Crop | None:
        """The part that is no black bar wherever it is looked at, None for all; a dark scene alone makes none."""
        brightest = grey(first)
        for probe in range(1, PROBES) if self.seconds else ():
            if not _sought(container, self._start + (self.seconds or 0.0) * probe / PROBES):
                break  # A stream that cannot be searched in is known by its beginning.
            frame = next((frame for frame, _ in self._decoded(container, stream, Report())), None)
            if frame is not None and (pixels := grey(frame)).shape == brightest.shape:
                brightest = np.maximum(brightest, pixels)
        return without_bars(brightest)

    def _image(self, frame: VideoFrame, most_pixels: int) -> Image.Image:
        image = upright(frame, most_pixels, self._pixel_aspect)
        return self._area.of(image) if self._area else image


def still_image(still: Still, most_pixels: int, name: str = "") -> tuple[Image.Image, tuple[int, int]]:
    """A frame as RGB, and (width, height) that it has in the video.

    Raises:
        UnreadableVideo: the video is gone or damaged, or has no frame there.
        MissingPackage: PyAV is not installed.
    """
    try:
        changed = still.file.stat().st_mtime_ns
    except OSError as error:
        raise UnreadableVideo(f"{name or still.file} cannot be read: {error.strerror}.") from error
    video = _remembered(still.file, name, changed)
    return video.at(still.time, most_pixels), video.size


@functools.lru_cache(_REMEMBERED)
def _remembered(file: Path, name: str, _: int) -> Video:
    return Video(file, name)


def is_video(source: object) -> bool:
    """Whether something is the name of a video, told by its extension."""
    return isinstance(source, (str, Path)) and PurePath(source).suffix.lower() in VIDEO_EXTENSIONS


def import_av() -> Any:
    """PyAV.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        install = "pip install -e '.[videos]' in Lookalike's folder"
        raise MissingPackage(f"Videos are read by PyAV, which cannot be imported ({error}): {install}.") from error
    _be_quiet()
    return av


@functools.cache
def _be_quiet() -> None:
    """Once for all, since what FFmpeg says is listened to at times."""
    from av import logging

    logging.set_level(None)


def _sought(container: Any, time: float) -> bool:
    """Go to the last key frame before a time; returns whether that can be done."""
    from av.error import FFmpegError

    try:
        container.seek(int(time * 1_000_000))
    except FFmpegError:
        return False
    return True


def _seconds(container: Any, stream: Any, start: float) -> tuple[float | None, bool]:
    """The length that a file tells, and whether it is that of the stream and not, perhaps, of sound that is longer."""
    # Matroska tells one length of all its streams: the time at which the last of them ends.
    matroska = "matroska" in container.format.name
    if stream.duration and stream.time_base and not matroska:
        return float(stream.duration * stream.time_base), True
    if not container.duration:
        return None, False
    return container.duration / 1_000_000 - (start if matroska else 0.0), len(container.streams) == 1


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
