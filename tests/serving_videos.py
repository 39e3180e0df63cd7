"""Small videos, and a server over a collection of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

#: How a tree is loaded: two frames a second, by an untrained MobileNetV2.
FILMS = (
    *("--collection", "films", "--what", "videos", "--every", "0.5"),
    *("--backbone", "mobilenetv2", "--weights", "random"),
)
FPS = 12
#: What each film shows, and for how many seconds: colours that an untrained network tells apart.
SCENES = {
    "trip/one.mp4": [("red", 2), ("green", 2), ("blue", 2)],
    "trip/two.webm": [("white", 2), ("red", 3)],
    "<img src=x onerror=alert(1)>/three'\".mp4": [("green", 2), ("red", 1), ("green", 2)],
}
SIZE = (160, 120)


def write_video(path: Path, frames: Sequence[Image.Image], fps: int = FPS, codec: str = "libx264") -> Path:
    """A video of these frames, in the container that the path's extension names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.pix_fmt = "yuv420p"
        stream.width, stream.height = frames[0].size
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(image))))
        container.mux(stream.encode())
    return path


def film(path: Path, scenes: Iterable[tuple[str, float]], codec: str = "") -> Path:
    """A video of scenes, each a colour and its seconds."""
    frames = [Image.new("RGB", SIZE, colour) for colour, seconds in scenes for _ in range(round(seconds * FPS))]
    return write_video(path, frames, codec=codec or ("libvpx-vp9" if path.suffix == ".webm" else "libx264"))


def draw_films(root: Path) -> Path:
    """A tree of `SCENES`."""
    for path, scenes in SCENES.items():
        film(root / path, scenes)
    return root
