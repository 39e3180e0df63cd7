"""Does a load keep the network busy? Images a second of a whole load against the bare network on arrays in memory."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from pipelines import load
from utilities.drawn_images import draw_tree
from utilities.embedder import embed_in_batches, load_embedder
from utilities.image_files import find_images, read_pixels
from utilities.milvus_utilities import connect, drop_collection
from utilities.settings import Settings

BACKBONE = "resnet50"
ROUNDS = 5


def run() -> str:
    """Measure in alternation, and return a Markdown table of medians and of the median of the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home")
        tree = Path(folder) / "images"
        count = draw_tree(tree)
        embedder = load_embedder(BACKBONE, "random", settings)
        pixels = np.stack([read_pixels(tree / path, embedder.input_size)[0] for path in find_images(tree)])
        embed_in_batches(embedder, pixels)  # The first batches are slower than the rest.
        bare, whole = [], []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            embed_in_batches(embedder, pixels)
            bare.append(count / (time.perf_counter() - start))
            start = time.perf_counter()
            load.run(tree, collection="images", embedder=embedder, settings=settings, progress=False)
            whole.append(count / (time.perf_counter() - start))
            drop_collection(connect(settings=settings), "images")
            settings.id_map_path("images").unlink()
    ratio = statistics.median(each / other for each, other in zip(whole, bare, strict=True))
    return (
        f"## A load against the bare network\n\n"
        f"{BACKBONE}, {count} drawn JPEGs of about 300 by 240 pixels, Milvus Lite, medians of {ROUNDS}.\n\n"
        "| what | images a second | ratio |\n|---|---:|---:|\n"
        f"| the bare network, pixels in memory | {statistics.median(bare):.1f} | 1.00 |\n"
        f"| a whole load: find, decode, embed, insert, id map, flush | {statistics.median(whole):.1f} | {ratio:.2f} |"
    )
