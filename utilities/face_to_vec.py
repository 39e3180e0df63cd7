"""Faces in images, or in those of a directory tree -> embeddings, and which face of which file each belongs to."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from utilities.backbones import DEFAULT_FACE_BACKBONE
from utilities.directory_trees import find_images
from utilities.embedder import Embedder, embed_in_batches, load_embedder
from utilities.errors import NoFace
from utilities.faces import DETECTION_SIDE, Face, find_faces, no_face
from utilities.image_files import ImageSource, open_scaled
from utilities.item_streams import embed_files
from utilities.items import Item
from utilities.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


def face_to_vec(
    directory: str | os.PathLike[str],
    extension: str | None = None,
    *,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> tuple[NDArray[np.float32], list[Item]]:
    """Embed every face in the images of a directory tree.

    Files that cannot be read are left out and logged as warnings; so are images without a face.

    Args:
        directory: the tree.
        extension: `"JPEG"` takes only `.jpeg` in any case; None takes every image type.
        embedder: what embeds; `load_embedder("dlib")` by default.
        settings: limits and places; from the environment by default.
        progress: whether to draw a progress bar on standard error.

    Returns:
        Embeddings, (n, dimension) float32 with rows of length 1, and the n faces as items: `path` is relative to the
        directory, `part` the face's number in its image, the largest being 1, and `Face.of(item.attributes)` where it
        is. They are sorted by path and number.

    Raises:
        InvalidArgument: no such directory.
        NoImagesFound: no image in it.
        NoFace: no face in any of them.
        MissingPackage: what finds faces is not installed.

    Example:
        >>> embeddings, faces = face_to_vec("photos/2024")
        >>> embeddings.shape, faces[0].path, faces[0].part
        ((311, 128), 'party/001.jpg', '1')
    """
    settings = settings or Settings.load()
    root = Path(directory)
    found = find_images(root, extension)
    embedder = embedder or load_embedder(DEFAULT_FACE_BACKBONE, settings=settings)
    blocks, items = [], []
    with tqdm(total=len(found), unit="image", disable=not progress) as bar:
        for chunk in embed_files(root, found, embedder, settings):
            blocks.append(chunk.embeddings)
            items += chunk.items
            for failure in chunk.failures:
                logger.warning("Left out: %s", failure.reason)
            for item in chunk.without_faces:
                logger.warning("No face was found in %s.", root / item.path)
            bar.update(len(chunk.finished))
    if not items:
        raise NoFace(f"No face was found in the {len(found):,} images in {str(root)!r}.")
    return np.concatenate(blocks), items


def faces_of(
    source: ImageSource, embedder: Embedder, settings: Settings | None = None, *, name: str = ""
) -> tuple[list[Face], NDArray[np.float32]]:
    """The faces in one image: a query.

    Args:
        source: as `image_files.open_image` takes it.
        embedder: what embeds.
        settings: limits; from the environment by default.
        name: what errors call the image.

    Returns:
        n faces, the largest first, their places in pixels of the whole image, and their embeddings, (n, dimension)
        float32.

    Raises:
        NoFace: none was found.
        ImageError: the image cannot be read.
        MissingPackage: what finds faces is not installed.
    """
    # As a load decodes it, so that an image is its own nearest neighbour.
    image, whole = open_scaled(source, DETECTION_SIDE, settings, name=name)
    faces, chips = find_faces(image, embedder.input_size, whole)
    if not faces:
        raise no_face(name or "the image")
    return faces, embed_in_batches(embedder, chips)
