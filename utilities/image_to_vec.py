"""Images or a directory tree -> embeddings and paths, in RAM; `item_streams` has them as a stream."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from utilities.directory_trees import find_images
from utilities.embedder import Embedder, embed_in_batches, load_embedder
from utilities.errors import UnreadableImage
from utilities.image_files import ImageSource, open_image
from utilities.item_streams import embed_files
from utilities.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


def image_to_vec(
    directory: str | os.PathLike[str],
    extension: str | None = None,
    *,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> tuple[NDArray[np.float32], list[str]]:
    """Embed every image of a directory tree.

    Files that cannot be read are left out of both results and logged as warnings.

    Args:
        directory: the tree.
        extension: `"JPEG"` takes only `.jpeg` in any case; None takes every image type.
        embedder: what embeds; `load_embedder()` by default, which is ResNet50 with ImageNet weights.
        settings: limits and places; from the environment by default.
        progress: whether to draw a progress bar on standard error.

    Returns:
        Embeddings, (n, dimension) float32 with rows of length 1, and the n paths, each beginning with `directory`, in
        sorted order.

    Raises:
        InvalidArgument: no such directory.
        NoImagesFound: no image in it.
        UnreadableImage: none that can be read.

    Example:
        >>> embeddings, paths = image_to_vec("data/train", extension="JPEG")
        >>> embeddings.shape, len(paths)
        ((1300, 2048), 1300)
    """
    settings = settings or Settings.load()
    root = Path(directory)
    found = find_images(root, extension)
    embedder = embedder or load_embedder(settings=settings)
    blocks, paths = [], []
    with tqdm(total=len(found), unit="image", disable=not progress) as bar:
        for chunk in embed_files(root, found, embedder, settings):
            blocks.append(chunk.embeddings)
            paths += [(root / item.path).as_posix() for item in chunk.items]
            for failure in chunk.failures:
                logger.warning("Left out: %s", failure.reason)
            bar.update(len(chunk.finished))
    if not paths:
        raise UnreadableImage(f"None of the {len(found):,} images in {str(root)!r} can be read.")
    return np.concatenate(blocks), paths


def embed_images(
    sources: Sequence[ImageSource], embedder: Embedder, settings: Settings | None = None
) -> NDArray[np.float32]:
    """Embed images that are not files of a tree: queries.

    Args:
        sources: as `image_files.open_image` takes them.
        embedder: what embeds.
        settings: limits; from the environment by default.

    Returns:
        (len(sources), dimension) float32.

    Raises:
        ImageError: one of them cannot be read.
    """
    pixels = np.empty((len(sources), *embedder.input_shape), np.uint8)
    for row, source in enumerate(sources):
        pixels[row] = embedder.see(open_image(source, settings, at_least=embedder.input_size))
    return embed_in_batches(embedder, pixels)
