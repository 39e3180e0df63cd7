"""How fast videos are loaded and searched, beside decoding alone; and whether memory grows with a video's length."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import av
import numpy as np
from PIL import Image

from benchmarks.data import trained_weights
from benchmarks.report import table, verdict
from pipelines import load
from utilities.drawn_videos import draw_videos, write_video
from utilities.embedder import Embedder, load_embedder
from utilities.milvus_utilities import connect, drop_collection
from utilities.settings import Settings
from utilities.similar_images import search
from utilities.videos import Sampling, Video

ROUNDS = 3
#: Of the videos that are timed: how many, their seconds, and their frames a second.
VIDEOS, SECONDS, FPS = 4, 30, 25
SIZES = {"640 × 360": (640, 360), "1280 × 720": (1280, 720)}
#: Seconds of the videos that memory is measured on; the short one is long enough for pools and buffers to have filled.
SHORT, LONG = 300, 1_800
#: Videos that a clip is searched among.
SEARCHED = 60

#: Linux counts the peak of `getrusage` from the process that began this one.
_MEMORY = r"""
import re, sys
from pathlib import Path
from utilities.embedder import load_embedder
from utilities.item_streams import embed_files
from utilities.settings import Settings
from utilities.videos import Sampling
file, home, backbone, weights = Path(sys.argv[1]), *sys.argv[2:]
settings = Settings(home=Path(home))
embedder = load_embedder(backbone, weights, settings)
items = sum(len(chunk.items) for chunk in embed_files(file.parent, [file.name], embedder, settings, Sampling(1.0)))
print(items, int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def run() -> str:
    """Measure ways in turn, several times over, and return medians, and medians of the ratios within a round."""
    backbone, weights = trained_weights()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings = Settings(home=folder / "home")
        embedder = load_embedder(backbone, weights, settings)
        rows, ratio = _speeds(folder, embedder, settings)
        clip = _query(folder, embedder, settings)
        memory = {seconds: _memory(folder, seconds, backbone, weights, settings) for seconds in (SHORT, LONG)}
    reached = [
        ("`load` against decoding alone, 1280 × 720", f"{ratio:.3g}"),
        ("memory, 30 minutes against 5", verdict(memory[LONG][1] / memory[SHORT][1], 1.1, at_most=True)),
        (f"a clip of 5 s among {SEARCHED} videos, warm", f"{clip:.2f} s"),
    ]
    spent = [(f"{seconds // 60} min", f"{items:,}", f"{mib:,.0f}") for seconds, (items, mib) in memory.items()]
    return (
        f"## How fast are videos?\n\n{VIDEOS} videos of {SECONDS} s and {FPS} frames a second, H.264, a frame a second "
        f"taken, {backbone}, Milvus Lite, medians of {ROUNDS} rounds; in frames of the video a second.\n\n"
        f"{table(['picture', 'decoding alone', 'decoded and sampled', '`lookalike load`'], rows)}\n\n"
        f"Memory of a process that embeds one video of 640 × 360:\n\n{table(['length', 'items', 'MiB'], spent)}\n\n"
        f"{table(['figure', 'reached'], reached)}"
    )


def _speeds(folder: Path, embedder: Embedder, settings: Settings) -> tuple[list[tuple[str, ...]], float]:
    rows, ratio = [], 0.0
    for name, size in SIZES.items():
        tree = folder / f"{size[0]}"
        tree.mkdir()
        for number in range(VIDEOS):
            write_video(tree / f"{number}.mp4", _pictures(size, SECONDS, number), FPS)
        files = sorted(tree.iterdir())
        frames = VIDEOS * SECONDS * FPS

        ways = [partial(_decode, files), partial(_sample, files), partial(_load, tree, embedder, settings)]
        rounds = [[_seconds(way) for way in ways] for _ in range(ROUNDS + 1)][1:]
        rows.append((name, *(f"{frames / statistics.median(each):,.0f}" for each in zip(*rounds, strict=True))))
        ratio = statistics.median(alone / whole for alone, _, whole in rounds)
    return rows, ratio


def _query(folder: Path, embedder: Embedder, settings: Settings) -> float:
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(200):
        next(_pictures((320, 240), 1, number)).save(pictures / f"{number}.jpg")
    draw_videos(folder / "searched", sorted(pictures.iterdir()), SEARCHED)
    load.run(folder / "searched", what="videos", embedder=embedder, settings=settings, progress=False)
    clip = folder / "clip.mp4"
    write_video(clip, islice(_pictures((320, 240), 5, 7), 60), 12)
    client = connect(settings=settings)

    def ask() -> None:
        search([clip], "searched", client=client, embedder=embedder, settings=settings)

    return statistics.median([_seconds(ask) for _ in range(2 * ROUNDS + 1)][1:])


def _memory(folder: Path, seconds: int, backbone: str, weights: str, settings: Settings) -> tuple[int, float]:
    file = folder / f"{seconds}.mp4"
    write_video(file, _pictures((640, 360), seconds, 0), FPS)
    command = [sys.executable, "-c", _MEMORY, str(file), str(settings.home), backbone, weights]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(output[0]), float(output[1])


def _pictures(size: tuple[int, int], seconds: int, seed: int) -> Iterator[Image.Image]:
    """Frames that a camera sees that moves over coarse noise, which is another every three seconds."""
    random = np.random.default_rng(seed)
    wide, high = size
    for frame in range(seconds * FPS):
        if frame % (3 * FPS) == 0:
            noise = Image.fromarray(random.integers(0, 255, (18, 32, 3), np.uint8))
            picture = noise.resize((wide + 3 * FPS, high), Image.Resampling.BICUBIC)
        left = frame % (3 * FPS)
        yield picture.crop((left, 0, left + wide, high))


def _decode(files: Sequence[Path]) -> None:
    for file in files:
        with av.open(str(file)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for _ in container.decode(video=0):
                pass


def _sample(files: Sequence[Path]) -> None:
    for file in files:
        for _ in Video(file).frames(Sampling(1.0), 448 * 448):
            pass


def _load(tree: Path, embedder: Embedder, settings: Settings) -> None:
    load.run(tree, what="videos", collection="videos", embedder=embedder, settings=settings, progress=False)
    drop_collection(connect(settings=settings), "videos")
    settings.id_map_path("videos").unlink()


def _seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start
