"""Query image(s), or faces in them -> matches; the only join of embedder, Milvus and paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from utilities.collection_info import CollectionInfo
from utilities.crops import Crop
from utilities.embedder import Embedder, embedder_of
from utilities.errors import EmbedderMismatch, InvalidArgument
from utilities.face_to_vec import faces_of
from utilities.faces import Face
from utilities.image_files import ImageSource, open_image
from utilities.image_to_vec import embed_images
from utilities.items import ITEM_FIELDS
from utilities.milvus_utilities import (
    check_depth,
    connect,
    describe_collection,
    nearest_neighbours,
    nearest_that,
    settle,
)
from utilities.settings import Settings

if TYPE_CHECKING:
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
    #: What tells it from other items of its file, such as a face's number; empty for a whole image.
    part: str
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
    #: Where in the image it is, in a collection of faces.
    face: Face | None = None

    @property
    def box(self) -> Crop | None:
        """The part of the image that the face is."""
        return self.face.part_of(self.width, self.height) if self.face else None

    @property
    def score(self) -> float:
        """The similarity, or the distance where there is one."""
        return self.similarity if self.similarity is not None else self.distance or 0.0


@dataclass(frozen=True)
class Answer:
    """What one search found."""

    #: Which of the queries it answers, from 0.
    query: int
    matches: list[Match]
    #: In a collection of faces, those of the query, the largest first, and the number, from 1, of the one that was
    #: searched with; otherwise empty, and None.
    faces: list[Face]
    face: int | None


def similar_images(
    query: ImageSource,
    collection: str,
    top_k: int = 20,
    *,
    filter: str = "",
    face: int | None = None,
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
        face: in a collection of faces, which face of the query is searched for; by default 1, the largest.
        client: from `connect`; a new connection by default.
        embedder: what embeds the query; by default the collection's own.
        settings: limits and places; from the environment by default.

    Returns:
        Matches, nearest first. An image that is itself in the collection is its own first match. Of an image with
        several faces the nearest stands for it.

    Raises:
        CollectionNotFound: no such collection.
        InvalidArgument: `top_k` or `filter` that Milvus does not take.
        EmbedderMismatch: the embedder is not the one that the collection was loaded with.
        ImageError: the query cannot be read, or shows no face where one is needed.
        MissingPackage: what finds faces is not installed.
        DatabaseError: Milvus failed.

    Example:
        >>> [match.path for match in similar_images("query.jpg", collection="train", top_k=3)]
        ['n01440764/n01440764_36.JPEG', 'n01440764/n01440764_105.JPEG', 'n01494475/n01494475_12.JPEG']
    """
    (answer,) = search(
        [query], collection, top_k, filter=filter, face=face, client=client, embedder=embedder, settings=settings
    )
    return answer.matches


def search(
    queries: Sequence[ImageSource],
    collection: str,
    top_k: int = 20,
    *,
    filter: str = "",
    face: int | Literal["all"] | None = None,
    names: Sequence[str] = (),
    client: MilvusClient | None = None,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
) -> list[Answer]:
    """`similar_images` for several queries, embedded and searched together.

    Args:
        queries: as `similar_images` takes each.
        collection: its name.
        top_k: how many matches for each.
        filter: a Milvus expression that the matches satisfy.
        face: in a collection of faces, which of each query's to search for, or all of them, each by itself; by default
            1, the largest.
        names: what errors call the queries; by default their paths or URLs.
        client: from `connect`; a new connection by default.
        embedder: what embeds the queries; by default the collection's own.
        settings: limits and places; from the environment by default.

    Returns:
        An answer for each query, in their order; where all faces are searched for, one for each of these.

    Raises:
        InvalidArgument: a query has no face of that number, or the collection none at all.
        LookalikeError: as for `similar_images`.
    """
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
    if not info.of_faces:
        if face is not None:
            raise InvalidArgument(f"--face is for collections of faces; {collection!r} holds images.")
        found = nearest_matches(client, info, embed_images(queries, embedder, settings), top_k, filter)
        return [Answer(number, matches, [], None) for number, matches in enumerate(found)]
    sought: list[tuple[int, list[Face], int]] = []
    vectors = []
    for number, query in enumerate(queries):
        name = names[number] if names else str(query) if isinstance(query, (str, os.PathLike)) else ""
        faces, embeddings = faces_of(query, embedder, settings, name=name)
        for each in range(1, len(faces) + 1) if face == "all" else [checked_face(face, faces, name)]:
            sought.append((number, faces, each))
            vectors.append(embeddings[each - 1])
    found = nearest_matches(client, info, np.stack(vectors), top_k, filter)
    return [
        Answer(query, matches, faces, number) for (query, faces, number), matches in zip(sought, found, strict=True)
    ]


def checked_face(number: int | None, faces: Sequence[Face], name: str = "") -> int:
    """The number of a face, 1 if none was asked for.

    Raises:
        InvalidArgument: there is none of this number.
    """
    if number is None:
        return 1
    if not 1 <= number <= len(faces):
        shown = "1 face" if len(faces) == 1 else f"{len(faces)} faces"
        raise InvalidArgument(f"There is no face {number} in {name or 'the image'}, which shows {shown}.")
    return number


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
        For each of the n vectors its matches, nearest first, whose ranks begin at `offset` + 1. Of several faces in one
        image only the nearest is a match.
    """
    fields = [*ITEM_FIELDS, *info.attributes]
    check_depth(top_k, offset)
    if info.of_faces:  # Milvus's own grouping is not in servers before 2.4.
        nearest = nearest_that(_first_of_each_file, client, info, embeddings, offset + top_k, filter, fields)
        neighbours = [rows[offset:] for rows in nearest]
    else:
        neighbours = nearest_neighbours(client, info, embeddings, top_k, filter, fields, offset)
    return [[_match(info, rank, row) for rank, row in enumerate(rows, start=offset + 1)] for rows in neighbours]


def _first_of_each_file(_: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    nearest: dict[str, dict[str, Any]] = {}
    for row in rows:
        nearest.setdefault(row["path"], row)
    return list(nearest.values())


def plot_similar_images(
    query: ImageSource,
    collection: str,
    top_k: int = 20,
    *,
    filter: str = "",
    face: int | None = None,
    client: MilvusClient | None = None,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
) -> Figure:
    """A figure of a query and its nearest neighbours; arguments and errors as for `similar_images`."""
    settings = settings or Settings.load()
    (answer,) = search(
        [query], collection, top_k, filter=filter, face=face, client=client, embedder=embedder, settings=settings
    )
    return plot_answer(query, answer, settings=settings)


def plot_answer(
    query: ImageSource,
    answer: Answer,
    *,
    name: str = "",
    note: str = "",
    settings: Settings | None = None,
) -> Figure:
    """A figure of a query and an answer that is already known.

    Args:
        query: as `similar_images` takes it.
        answer: what was found. A file that is gone is drawn as an empty tile that says so.
        name: the query's caption; by default its path, if it is one.
        note: lines below the query, for what a reader must know of these results.
        settings: limits; from the environment by default.
    """
    from utilities.plots import Tile, image_grid

    if not name:
        name = str(query) if isinstance(query, (str, Path)) else "a picture"
    matches = answer.matches
    tiles = [Tile(match.file, f"{match.rank} · {match.score:.3f}", _end(match.path), match.box) for match in matches]
    by_distance = bool(matches) and matches[0].distance is not None
    key = f"on each tile: rank · {'distance' if by_distance else 'similarity'}"
    image = open_image(query, settings)
    boxes = [face.part_of(*image.size) for face in answer.faces]
    if answer.face and len(boxes) > 1:
        key = f"face {answer.face} of {len(boxes)}; {key}"
    box = boxes[answer.face - 1] if answer.face else None
    return image_grid(image, _end(name), tiles, box=box, key=key, note=note, settings=settings)


def _end(path: str) -> str:
    """A path's last folder and name."""
    return "/".join(Path(path).parts[-2:])


def _match(info: CollectionInfo, rank: int, row: dict[str, Any]) -> Match:
    return Match(
        rank=rank,
        id=row["id"],
        path=row["path"],
        part=row["part"],
        file=(info.root or Path()) / row["path"],
        label=row["label"],
        width=row["width"],
        height=row["height"],
        similarity=None if info.metric == "L2" else row["score"],
        distance=row["score"] if info.metric == "L2" else None,
        face=Face.of(row),
    )
