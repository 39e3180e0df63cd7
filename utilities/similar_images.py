"""Query image(s) -> matches; the only join of embedder, Milvus and paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utilities.collection_info import CollectionInfo
from utilities.embedder import Embedder, embedder_of
from utilities.errors import EmbedderMismatch
from utilities.image_files import ImageSource, open_image
from utilities.image_to_vec import embed_images
from utilities.milvus_utilities import connect, describe_collection, nearest_neighbours, settle
from utilities.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from pymilvus import MilvusClient


@dataclass(frozen=True)
class Match:
    """One search result."""

    #: 1 for the nearest.
    rank: int
    id: int
    #: POSIX path relative to the collection's root.
    path: str
    #: The file itself.
    file: Path
    #: Name of the folder that holds the file.
    label: str
    #: Size of the upright image in pixels; 0 where it is not known.
    width: int
    height: int
    #: Cosine or inner product with the query: larger is nearer. None in a collection that compares by L2.
    similarity: float | None
    #: Euclidean distance from the query: smaller is nearer. None unless the collection compares by L2.
    distance: float | None

    @property
    def score(self) -> float:
        """The similarity, or the distance where there is one."""
        return self.similarity if self.similarity is not None else self.distance or 0.0


def similar_images(
    query: ImageSource,
    collection: str,
    top_k: int = 20,
    *,
    filter: str = "",
    client: MilvusClient | None = None,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
) -> list[Match]:
    """The images of a collection that look most like a query.

    Args:
        query: a path, a URL, the bytes of an image file, a PIL image, or an array, as `open_image` takes it.
        collection: its name.
        top_k: how many matches, from 1 to 16,384; fewer come back where the collection holds fewer.
        filter: a Milvus expression that the matches satisfy, such as `label == "cup"`.
        client: from `connect`; a new connection by default.
        embedder: what embeds the query; by default the collection's own.
        settings: limits and places; from the environment by default.

    Returns:
        Matches, nearest first. An image that is itself in the collection is its own first match.

    Raises:
        CollectionNotFound: no such collection.
        InvalidArgument: `top_k` or `filter` that Milvus does not take.
        EmbedderMismatch: the embedder is not the one that the collection was loaded with.
        ImageError: the query cannot be read.
        DatabaseError: Milvus failed.

    Example:
        >>> [match.path for match in similar_images("query.jpg", collection="train", top_k=3)]
        ['n01440764/n01440764_36.JPEG', 'n01440764/n01440764_105.JPEG', 'n01494475/n01494475_12.JPEG']
    """
    return similar_images_each(
        [query], collection, top_k, filter=filter, client=client, embedder=embedder, settings=settings
    )[0]


def similar_images_each(
    queries: Sequence[ImageSource],
    collection: str,
    top_k: int = 20,
    *,
    filter: str = "",
    client: MilvusClient | None = None,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
) -> list[list[Match]]:
    """`similar_images` for several queries, embedded and searched together: one list of matches for each."""
    settings = settings or Settings.load()
    client = client or connect(settings=settings, must_exist=True)
    info = describe_collection(client, collection)
    embedder = embedder or embedder_of(info.fingerprint, settings)
    if not info.fingerprint.matches(embedder.fingerprint):
        raise EmbedderMismatch(
            f"The collection {collection!r} holds vectors of {info.fingerprint}; a query embedded by "
            f"{embedder.fingerprint} cannot be compared with them. Leave the embedder out to use the collection's own."
        )
    info = settle(client, info, fingerprint=embedder.fingerprint)
    return nearest_matches(client, info, embed_images(queries, embedder, settings), top_k, filter)


def nearest_matches(
    client: MilvusClient,
    info: CollectionInfo,
    embeddings: NDArray[np.float32],
    top_k: int = 20,
    filter: str = "",
    offset: int = 0,
) -> list[list[Match]]:
    """The nearest items of vectors; arguments and errors as for `nearest_neighbours`.

    Returns:
        For each of the n vectors its matches, nearest first, whose ranks begin at `offset` + 1.
    """
    neighbours = nearest_neighbours(client, info, embeddings, top_k, filter, offset=offset)
    return [[_match(info, rank, row) for rank, row in enumerate(rows, start=offset + 1)] for rows in neighbours]


def plot_similar_images(
    query: ImageSource,
    collection: str,
    top_k: int = 20,
    *,
    filter: str = "",
    client: MilvusClient | None = None,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
) -> Figure:
    """A figure of a query and its nearest neighbours; arguments and errors as for `similar_images`."""
    settings = settings or Settings.load()
    matches = similar_images(
        query, collection, top_k, filter=filter, client=client, embedder=embedder, settings=settings
    )
    return plot_matches(query, matches, settings=settings)


def plot_matches(
    query: ImageSource,
    matches: Sequence[Match],
    *,
    name: str = "",
    note: str = "",
    settings: Settings | None = None,
) -> Figure:
    """A figure of a query and matches that are already known.

    Args:
        query: as `similar_images` takes it.
        matches: what it returned. A file that is gone is drawn as an empty tile that says so.
        name: the query's caption; by default its path, if it is one.
        note: lines below the query, for what a reader must know of these results.
        settings: limits; from the environment by default.
    """
    from utilities.plots import Tile, image_grid

    if not name:
        name = str(query) if isinstance(query, (str, Path)) else "a picture"
    tiles = [Tile(match.file, f"{match.rank} · {match.score:.3f}", _end(match.path)) for match in matches]
    by_distance = bool(matches) and matches[0].distance is not None
    key = f"on each tile: rank · {'distance' if by_distance else 'similarity'}"
    return image_grid(open_image(query, settings), _end(name), tiles, key=key, note=note, settings=settings)


def _end(path: str) -> str:
    """A path's last folder and name."""
    return "/".join(Path(path).parts[-2:])


def _match(info: CollectionInfo, rank: int, row: dict[str, Any]) -> Match:
    return Match(
        rank=rank,
        id=row["id"],
        path=row["path"],
        file=(info.root or Path()) / row["path"],
        label=row["label"],
        width=row["width"],
        height=row["height"],
        similarity=None if info.metric == "L2" else row["score"],
        distance=row["score"] if info.metric == "L2" else None,
    )
