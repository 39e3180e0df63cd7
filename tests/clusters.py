"""A collection of vectors in clusters, whose neighbours know more than a query alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient

from utilities.collection_info import CollectionInfo
from utilities.fingerprint import Fingerprint
from utilities.items import Item
from utilities.milvus_utilities import create_collection, flush_and_index, insert_items

CLUSTERS, OF_EACH, DIMENSION = 8, 30, 32
FINGERPRINT = Fingerprint("resnet50", "a" * 32, "as it is", DIMENSION)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def clustered(noise: float = 1.1, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(n, DIMENSION) unit vectors, so noisy that clusters overlap, and the cluster of each."""
    random = np.random.default_rng(seed)
    # The centres are the same whatever the seed: other noise makes queries for the same clusters.
    centres = np.random.default_rng(99).standard_normal((CLUSTERS, DIMENSION))
    codes = np.repeat(np.arange(CLUSTERS), OF_EACH)
    return unit(centres[codes] + noise * random.standard_normal((len(codes), DIMENSION))), codes


def insert_clusters(
    client: MilvusClient, name: str = "clusters", metric: str = "COSINE", noise: float = 1.1
) -> tuple[CollectionInfo, NDArray[np.float32], list[Item]]:
    """A collection of `clustered()`: a folder for each cluster, its vectors, and its items."""
    vectors, codes = clustered(noise)
    items = [
        Item.of_file(Path("/photos"), f"{code}/{number:04}.jpg", width=number, height=1)
        for number, code in enumerate(codes)
    ]
    info = create_collection(client, name, dimension=DIMENSION, metric=metric, fingerprint=FINGERPRINT, root="/photos")
    insert_items(client, info, items, vectors)
    return flush_and_index(client, info, len(items)), vectors, items
