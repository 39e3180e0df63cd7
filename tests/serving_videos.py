"""Small videos, and a server over a collection of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from utilities.drawn_videos import FPS, write_video

#: How a tree is loaded: two frames a second, by an untrained MobileNetV2.
FILMS = (
    *("--collection", "films", "--what", "videos", "--every", "0.5"),
    *("--backbone", "mobilenetv2", "--weights", "random"),
)
#: What each film shows, and for how many seconds: colours that an untrained network tells apart.
SCENES = {
    "trip/one.mp4": [("red", 2), ("green", 2), ("blue", 2)],
    "trip/two.webm": [("white", 2), ("red", 3)],
    "<img src=x onerror=alert(1)>/three'\".mp4": [("green", 2), ("red", 1), ("green", 2)],
}
SIZE = (160, 120)


def film(path: Path, scenes: Iterable[tuple[str, float]], codec: str = "") -> Path:
    """A video of scenes, each a colour and its seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [Image.new("RGB", SIZE, colour) for colour, seconds in scenes for _ in range(round(seconds * FPS))]
    write_video(path, frames, codec=codec or ("libvpx-vp9" if path.suffix == ".webm" else "libx264"))
    return path


def draw_films(root: Path) -> Path:
    """A tree of `SCENES`."""
    for path, scenes in SCENES.items():
        film(root / path, scenes)
    return root
