"""Clips as copies of a video circulate: cut out, encoded anew, scaled, framed, cropped, marked, at another rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import av
from PIL import Image, ImageDraw

from utilities.drawn_videos import FPS, write_video

#: Seconds of a clip.
LONG = 5.0


def _bars(across: int, down: int) -> Callable[[Image.Image], Image.Image]:
    def framed(image: Image.Image) -> Image.Image:
        whole = Image.new("RGB", (image.width + 2 * across, image.height + 2 * down))
        whole.paste(image, (across, down))
        return whole

    return framed


def _cropped(image: Image.Image) -> Image.Image:
    """Without a tenth of its width and height."""
    across, down = round(image.width * 0.05), round(image.height * 0.05)
    return image.crop((across, down, image.width - across, image.height - down))


def _marked(image: Image.Image) -> Image.Image:
    marked = image.copy()
    draw = ImageDraw.Draw(marked)
    draw.rectangle((image.width - 70, 10, image.width - 10, 50), fill="red")
    draw.ellipse((image.width - 60, 15, image.width - 25, 45), fill="white")
    return marked


#: Of each: what is done to a frame, frames a second, and how badly it is encoded.
ALTERATIONS: dict[str, tuple[Callable[[Image.Image], Image.Image], int, int]] = {
    "cut": (lambda image: image, FPS, 23),
    "encoded anew": (lambda image: image, FPS, 40),
    "scaled": (lambda image: image.resize((image.width // 2, image.height // 2)), FPS, 23),
    "letterboxed": (_bars(0, 60), FPS, 23),
    "pillarboxed": (_bars(80, 0), FPS, 23),
    "cropped": (_cropped, FPS, 23),
    "marked": (_marked, FPS, 23),
    "another frame rate": (lambda image: image, 8, 23),
}


def frames_between(file: Path, start: float, end: float) -> list[Image.Image]:
    """Every frame of a stretch of a video."""
    with av.open(str(file)) as container:
        wanted = (frame for frame in container.decode(video=0) if start <= (frame.time or 0.0) < end)
        return [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in wanted]


def write_clip(file: Path, frames: Sequence[Image.Image], alteration: str) -> None:
    """Write frames, of which there are `FPS` a second, altered."""
    alter, fps, quality = ALTERATIONS[alteration]
    count = round(len(frames) / FPS * fps)
    chosen = [frames[number * len(frames) // count] for number in range(count)]
    write_video(file, [alter(image) for image in chosen], fps, quality=quality)
