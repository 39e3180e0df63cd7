"""What the benchmarks measure on: photographs and trained weights where there are any, drawn pictures elsewhere."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utilities.directory_trees import find_images
from utilities.drawn_images import draw_tree
from utilities.embedder import load_embedder
from utilities.index_comparison import jittered
from utilities.item_streams import embed_files
from utilities.reduction import PrincipalComponents
from utilities.settings import Settings


@functools.cache
def test_data() -> Path | None:
    """The folder that LOOKALIKE_TEST_DATA names, as the tests use it."""
    folder = os.environ.get("LOOKALIKE_TEST_DATA")
    return Path(folder).resolve() if folder else None


def photographs(scratch: Path) -> tuple[Path, str]:
    """A tree of some thousand small JPEGs, and what to call it; drawn into `scratch` if there are no real ones."""
    folder = test_data()
    if folder:
        return folder / "data" / "caltech101", "photographs of Caltech 101, about 300 by 240 pixels"
    if not (scratch / "drawn").exists():
        draw_tree(scratch / "drawn", per_category=100)
    return scratch / "drawn", "drawn JPEGs, about 300 by 240 pixels"


def trained_weights() -> tuple[str, str]:
    """Backbone and weights whose vectors mean something; downloaded if there is no file."""
    folder = test_data()
    file = folder / "weights" / "mobilenetv2_imagenet_notop.weights.h5" if folder else None
    return "mobilenetv2", str(file) if file else "imagenet"


def large_photographs(scratch: Path, count: int) -> Path:
    """JPEGs of 4000 by 3000 pixels, made of small ones, with the grain that a camera's have."""
    folder = scratch / "large"
    folder.mkdir()
    tree, _ = photographs(scratch)
    random = np.random.default_rng(0)
    for number, path in enumerate(find_images(tree)[:count]):
        with Image.open(tree / path) as small:
            pixels = np.asarray(small.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC), np.int16)
        grain = random.normal(0, 4, (3000, 4000, 1)).astype(np.int16)
        Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number:04}.jpg", quality=90)
    return folder


def real_vectors(scratch: Path) -> NDArray[np.float32]:
    """(n, 1280) unit vectors of real pictures by a trained network, n of some thousands."""
    settings = Settings(home=scratch / "home")
    embedder = load_embedder(*trained_weights(), settings, runtime="openvino")
    tree, _ = photographs(scratch)
    return np.concatenate([chunk.embeddings for chunk in embed_files(tree, find_images(tree), embedder, settings)])


def make_vectors(real: NDArray[np.float32], count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    """As many vectors as are wanted, of real ones that were moved a little.

    Args:
        real: (n, m) unit vectors.
        count: how many.
        dimension: below m, reduced by centred PCA; above, turned into more dimensions, which keeps every angle.
        seed: of the choice and of the jitter.

    Returns:
        (count, dimension) float32, rows of length 1.
    """
    fewer = dimension < real.shape[1]
    base = PrincipalComponents.of(real).projection(dimension)(real) if fewer else real
    moved = jittered(base, count, seed)
    if dimension > real.shape[1]:
        turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((dimension, real.shape[1])))
        moved = moved @ turn.T.astype(np.float32)
    return moved.astype(np.float32)
