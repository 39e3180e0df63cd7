"""Which decoder, and which resampling? Time of one core, and whether the neighbours stay the same."""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.data import large_photographs, photographs, trained_weights
from benchmarks.report import table
from utilities.directory_trees import find_images
from utilities.embedder import embed_in_batches, load_embedder
from utilities.image_files import open_image
from utilities.retrieval_metrics import exact_neighbours, overlap_at_k
from utilities.settings import Settings

ROUNDS, SMALL, LARGE, SIZE = 5, 1_000, 12, 224

Decoder = Callable[[bytes], NDArray[np.uint8]]


def run() -> str:
    """Every way on the same bytes in turn; the neighbours against decoding in full and bilinear resampling."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        tree, kind = photographs(scratch)
        paths = find_images(tree)
        small = [(tree / path).read_bytes() for path in paths[:: max(1, len(paths) // SMALL)]]
        large = [file.read_bytes() for file in sorted(large_photographs(scratch, LARGE).iterdir())]
        settings = Settings(home=scratch / "home")
        embedder = load_embedder(*trained_weights(), settings, runtime="openvino")
        ways: dict[str, Decoder] = {
            "Pillow, in full, bilinear": lambda data: _pillow(data, Image.Resampling.BILINEAR, scaled=False),
            "Pillow, scaled, bilinear": lambda data: _pillow(data, Image.Resampling.BILINEAR),
            "the same in `open_image`, with EXIF and checks": lambda data: embedder.see(
                open_image(data, settings, at_least=SIZE)
            ),
            "Pillow, scaled, box": lambda data: _pillow(data, Image.Resampling.BOX),
            "Pillow, scaled, Lanczos": lambda data: _pillow(data, Image.Resampling.LANCZOS),
            "OpenCV, in full, bilinear": lambda data: _opencv(data, cv2.INTER_LINEAR),
            "OpenCV, in full, area": lambda data: _opencv(data, cv2.INTER_AREA),
        }
        times = {name: _milliseconds(way, small) for name, way in ways.items()}
        large_times = {name: _milliseconds(way, large) for name, way in ways.items()}
        neighbours = {}
        for name, way in ways.items():
            embeddings = embed_in_batches(embedder, np.stack([way(data) for data in small]))
            neighbours[name] = exact_neighbours(embeddings, embeddings, 21)[:, 1:]
        reference = neighbours["Pillow, in full, bilinear"]
    return (
        f"## Which decoder, and which resampling?\n\nOne core, medians of {ROUNDS} rounds; {len(small):,} {kind}, and "
        f"{len(large)} JPEGs of 4000 by 3000 pixels. Neighbours among the small ones by {trained_weights()[0]}.\n\n"
        + table(
            ["way", "small, ms", "12 megapixels, ms", "overlap of the top 20"],
            [
                (name, f"{times[name]:.2f}", f"{large_times[name]:.1f}", f"{overlap_at_k(each, reference):.3f}")
                for name, each in neighbours.items()
            ],
        )
    )


def _pillow(data: bytes, resampling: Image.Resampling, *, scaled: bool = True) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        if scaled:
            image.draft(None, (SIZE, SIZE))
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), resampling))


def _opencv(data: bytes, interpolation: int) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    resized = cv2.resize(image, (SIZE, SIZE), interpolation=interpolation)
    return np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB), np.uint8)


def _milliseconds(way: Decoder, images: Sequence[bytes]) -> float:
    """Of the processor, for one image."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for data in images:
            way(data)
        rounds.append(1_000 * (time.process_time() - start) / len(images))
    return statistics.median(rounds)
