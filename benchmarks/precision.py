"""What does a lower precision cost? The top 20 of each way to run a network, against Keras in 32 bits."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import photographs, trained_weights
from benchmarks.report import table, verdict
from utilities.directory_trees import find_images
from utilities.embedder import Embedder, embed_in_batches, load_embedder
from utilities.item_streams import sample_pixels
from utilities.openvino_runtime import has_native_bf16
from utilities.quantization import SAMPLE, quantize
from utilities.retrieval_metrics import exact_neighbours, overlap_at_k
from utilities.settings import Settings

QUERIES = 500


def run() -> str:
    """Embed all photographs every way, and compare the neighbours of some of them among all the others."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home")
        tree, kind = photographs(Path(folder))
        backbone, weights = trained_weights()
        paths = find_images(tree)
        keras = load_embedder(backbone, weights, settings, runtime="keras", precision="f32")
        exact = load_embedder(backbone, weights, settings, runtime="openvino", precision="f32")
        pixels = sample_pixels(tree, paths, len(paths), exact, settings)  # in random order
        int8, _ = quantize(exact, pixels[: 2 * SAMPLE], settings)
        ways: list[Embedder] = [exact]
        if has_native_bf16():
            ways.append(load_embedder(backbone, weights, settings, runtime="openvino", precision="bf16"))
        ways += [int8, load_embedder(backbone, weights, settings, runtime="openvino")]
        reference = embed_in_batches(keras, pixels)
        rows, overlaps = [], []
        for embedder in ways:
            embeddings = embed_in_batches(embedder, pixels)
            overlaps.append(_overlap(embeddings, reference))
            rows.append(
                (
                    embedder.runtime if embedder is not ways[-1] else f"auto, which is {embedder.runtime}",
                    f"{np.sum(embeddings * reference, axis=1).mean():.5f}",
                    f"{overlaps[-1]:.4f}",
                )
            )
    asked = {"bf16": 0.99, "int8": 0.95}
    reached = [
        (each.runtime, verdict(overlap, asked[each.runtime.split()[-1]]))
        for each, overlap in zip(ways[:-1], overlaps, strict=False)
        if each.runtime.split()[-1] in asked
    ]
    return (
        f"## What does a lower precision cost?\n\n{backbone} with trained weights, {len(pixels):,} {kind}; the last "
        f"{QUERIES} are queries among all the others, none of which calibrated int8. Against Keras in f32:\n\n"
        + table(["way", "mean cosine", "overlap of the top 20"], rows)
        + "\n\n"
        + table(["overlap of the top 20", "reached"], reached)
    )


def _overlap(embeddings: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    found, expected = (exact_neighbours(each[-QUERIES:], each[:-QUERIES]) for each in (embeddings, reference))
    return overlap_at_k(found, expected)
