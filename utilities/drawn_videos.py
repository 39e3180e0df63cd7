"""Videos made of images: pans, zooms and cuts; the same at every call, for trials of the search and for tests."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from PIL import Image, ImageOps

from utilities.videos import import_av

#: Width, height and frames a second.
SIZE, FPS = (320, 240), 12
#: How much larger than a frame the picture is that it moves over.
ROOM = 1.4


def write_video(
    file: Path,
    frames: Iterable[Image.Image],
    fps: int = FPS,
    *,
    codec: str = "libx264",
    quality: int = 23,
) -> None:
    """Encode frames.

    Args:
        file: where to; its extension says in what container.
        frames: RGB images of one size, whose sides are even; at least one.
        fps: frames a second.
        codec: FFmpeg's name of an encoder.
        quality: its constant rate factor, for those that have one: more is worse.

    Raises:
        MissingPackage: PyAV is not installed.
    """
    av = import_av()
    frames = iter(frames)
    first = next(frames)
    with av.open(str(file), "w") as container:
        options = {"crf": str(quality), "preset": "ultrafast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height = first.size
        stream.pix_fmt = "yuv420p"
        for image in chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))


def moving_pictures(images: Sequence[Path], seconds: float, seed: int) -> Iterator[Image.Image]:
    """The frames of a video: images in random order, 2 to 5 seconds each, that a camera moves over or comes near to.

    Args:
        images: files; none comes again before all were shown.
        seconds: length at least.
        seed: of the order, and of what the camera does.
    """
    draw = random.Random(seed)
    wide, high = SIZE
    shown, order = 0.0, list[Path]()
    while shown < seconds:
        lasts, kind = draw.uniform(2, 5), draw.choice(["pan", "zoom", "still"])
        order = order or draw.sample(images, len(images))
        with Image.open(order.pop()) as image:
            large = ImageOps.fit(image.convert("RGB"), (round(wide * ROOM), round(high * ROOM)))
        across, down = draw.random(), draw.random()
        steps = int(lasts * FPS)
        for step in range(steps):
            part = step / steps
            # The camera's view within the large picture.
            width, height = (wide, high) if kind == "pan" else large.size
            left, top = (large.width - width) * across * part, (large.height - height) * down * part
            if kind == "zoom":
                width, height = (round(side * (ROOM + (1 - ROOM) * part)) for side in SIZE)
                left, top = (large.width - width) / 2, (large.height - height) / 2
            view = (round(left), round(top), round(left) + width, round(top) + height)
            yield large.crop(view).resize(SIZE)
        shown += lasts


def draw_videos(root: Path, images: Sequence[Path], count: int = 60) -> None:
    """Write videos of 10 to 30 seconds into a folder.

    Args:
        root: the folder; it is made.
        images: files that they show; each video draws from all of them.
        count: how many videos.

    Raises:
        MissingPackage: PyAV is not installed.
    """
    root.mkdir(parents=True, exist_ok=True)
    digits = len(str(count - 1))
    for number in range(count):
        seconds = random.Random(number).uniform(10, 30)
        write_video(root / f"{number:0{digits}}.mp4", moving_pictures(images, seconds, number))
