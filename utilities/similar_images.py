"""Query image(s), faces in them, or clips -> matches; the only join of embedder, Milvus and paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from utilities.collection_info import CollectionInfo, are_same, in_words
from utilities.download import is_url
from utilities.embedder import Embedder
from utilities.ensembles import embedder_of_all, fingerprints_of
from utilities.errors import EmbedderMismatch, InvalidArgument
from utilities.face_to_vec import faces_of
from utilities.faces import Face
from utilities.image_files import ImageSource, open_image
from utilities.image_to_vec import embed_images
from utilities.items import ITEM_FIELDS
from utilities.matches import Match as Match
from utilities.matches import match_of
from utilities.milvus_utilities import FUSED, check_depth, connect, describe_collection, settle
from utilities.ranking import first_of_groups, ranked_items
from utilities.selections import NEAREST, Selection
from utilities.settings import Settings
from utilities.several_queries import Together, combined_vector, fused_rankings
from utilities.video_search import nearest_videos
from utilities.video_to_vec import clip_to_vec
from utilities.videos import Still, is_video

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from pymilvus import MilvusClient


@dataclass(frozen=True)
class Answer:
    """What one search found."""

    #: Which of the queries it answers, from 0; where all of them are one query, 0.
    query: int
    matches: list[Match]
    #: In a collection of faces, those of the query, the largest first, and the number, from 1, of the one that was
    #: searched with; otherwise empty, and None.
    faces: list[Face]
    face: int | None
    #: What shows the query, where it is no picture itself: a frame of the clip.
    picture: Still | None = None


def similar_images(
    query: ImageSource,
    collection: str,
    top_k: int = 20,
    *,
    filter: str = "",
    selection: Selection | None = None,
    face: int | None = None,
    client: MilvusClient | None = None,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
) -> list[Match]:
    """The images of a collection that look most like a query, or the videos that show what it shows.

    Args:
        query: a path, a URL, the bytes of an image file, a PIL image, or an array, as `open_image` takes it; in a
            collection of videos also the path of a clip.
        collection: its name.
        top_k: how many matches, from 1 to 16,384; fewer come back where the collection holds fewer.
        filter: a Milvus expression that the matches satisfy, such as `label == "cup"`.
        selection: instead of both, everything that can be wished for, such as `Selection(expand=10)`.
        face: in a collection of faces, which face of the query is searched for; by default 1, the largest.
        client: from `connect`; a new connection by default.
        embedder: what embeds the query; by default the collection's own.
        settings: limits and places; from the environment by default.

    Returns:
        Matches, nearest first. An image that is itself in the collection is its own first match. Of an image with
        several faces, or of a video, the nearest item stands for it.

    Raises:
        CollectionNotFound: no such collection.
        InvalidArgument: `top_k` or `filter` that Milvus does not take, or that stands beside a `selection`.
        EmbedderMismatch: the embedder is not the one that the collection was loaded with.
        ImageError: the query cannot be read, or shows no face where one is needed.
        MissingPackage: what finds faces, or decodes videos, is not installed.
        DatabaseError: Milvus failed.

    Example:
        >>> [match.path for match in similar_images("query.jpg", collection="train", top_k=3)]
        ['n01440764/n01440764_36.JPEG', 'n01440764/n01440764_105.JPEG', 'n01494475/n01494475_12.JPEG']
    """
    selection = _selection(top_k, filter, selection)
    (answer,) = search([query], collection, selection, face=face, client=client, embedder=embedder, settings=settings)
    return answer.matches


def _selection(top_k: int, filter: str, selection: Selection | None) -> Selection:
    if selection and (top_k, filter) != (NEAREST.top_k, NEAREST.filter):
        raise InvalidArgument("top_k and filter stand beside a selection, which has its own; put them into it.")
    return selection or Selection(top_k, filter)


def search(
    queries: Sequence[ImageSource],
    collection: str,
    selection: Selection = NEAREST,
    *,
    together: Together | None = None,
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
        selection: which matches of each.
        together: whether, and how, all of them are one query; by default each is one by itself.
        face: in a collection of faces, which of each query's to search for, or all of them, each by itself; by default
            1, the largest.
        names: what errors call the queries; by default their paths or URLs.
        client: from `connect`; a new connection by default.
        embedder: what embeds the queries; by default the collection's own.
        settings: limits and places; from the environment by default.

    Returns:
        An answer for each query, in their order; where all faces are searched for, one for each of these; where all
        queries are one, a single one.

    Raises:
        InvalidArgument: a query has no face of that number, or the collection none at all.
        LookalikeError: as for `similar_images`.
    """
    settings = settings or Settings.load()
    client = client or connect(settings=settings, must_exist=True)
    info = describe_collection(client, collection)
    used = selection.check(info)
    embedder = embedder or embedder_of_all(used.fingerprints, settings)
    made_by = fingerprints_of(embedder)
    if not are_same(used.fingerprints, made_by):
        raise EmbedderMismatch(
            f"The collection {collection!r} holds vectors of {in_words(used.fingerprints)}; a query embedded by "
            f"{in_words(made_by)} cannot be compared with them. Leave the embedder out to use the collection's own."
        )
    if used.fingerprints == info.fingerprints:
        settle(client, info, fingerprint=made_by[0])
    info = used
    if face is not None and not info.of_faces:
        raise InvalidArgument(f"--face is for collections of faces; {collection!r} holds {info.what}.")
    titles = names or [str(query) if isinstance(query, (str, os.PathLike)) else "" for query in queries]
    numbered = list(zip(range(len(queries)), queries, titles, strict=True))
    clips, pictures = ([each for each in numbered if is_video(each[1]) == clip] for clip in (True, False))
    if face is not None and clips:
        raise InvalidArgument("--face is for pictures; of a clip the largest face of each frame is searched with.")
    if together:
        together.check(len(queries))
        if clips:
            raise InvalidArgument(f"{clips[0][2]} is a video; several pictures are one query, without clips.")
        if info.sampling:
            raise InvalidArgument(
                f"Several pictures are one query in collections of images and of faces; {collection!r} holds "
                f"{info.what}, where each query is searched for by itself."
            )
        if face is not None:
            raise InvalidArgument("Of several pictures that are one query the largest face of each is taken.")
    answers = [
        _clip_answer(client, info, number, str(query), title, embedder, selection) for number, query, title in clips
    ]
    if not pictures:
        return answers
    if info.of_faces:
        sought, vectors = _sought_faces(pictures, face, embedder, settings)
    else:
        sought = [Answer(number, [], [], None) for number, *_ in pictures]
        vectors = embed_images([query for _, query, _ in pictures], embedder, settings)
    if together:  # Their faces, if any, are of several pictures.
        return [Answer(0, matches_of_several(client, info, vectors, selection, together), [], None)]
    found = nearest_matches(client, info, vectors, selection)
    answers += [replace(answer, matches=matches) for answer, matches in zip(sought, found, strict=True)]
    return sorted(answers, key=lambda answer: answer.query)


def _sought_faces(
    pictures: Sequence[tuple[int, ImageSource, str]],
    face: int | Literal["all"] | None,
    embedder: Embedder,
    settings: Settings,
) -> tuple[list[Answer], NDArray[np.float32]]:
    """Answers that lack their matches, one for each face that is searched with, and the (n, dimension) vectors."""
    sought, vectors = [], []
    for number, query, title in pictures:
        faces, embeddings = faces_of(query, embedder, settings, name=title)
        for each in range(1, len(faces) + 1) if face == "all" else [checked_face(face, faces, title)]:
            sought.append(Answer(number, [], faces, each))
            vectors.append(embeddings[each - 1])
    return sought, np.stack(vectors)


def _clip_answer(
    client: MilvusClient,
    info: CollectionInfo,
    number: int,
    file: str,
    title: str,
    embedder: Embedder,
    selection: Selection,
) -> Answer:
    if not info.sampling:
        raise InvalidArgument(
            f"{title} is a video, and {info.name!r} holds {info.what}; `lookalike load DIR --what videos` makes a "
            "collection to search with it."
        )
    if is_url(file):
        raise InvalidArgument(f"{title} is the address of a video, which is not fetched; give a file.")
    clip = clip_to_vec(file, embedder, name=title)
    matches = nearest_videos(client, info, clip.embeddings, selection, step=clip.step)
    faces = [clip.face] if clip.face else []
    return Answer(number, matches, faces, 1 if faces else None, clip.picture)


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
    client: MilvusClient, info: CollectionInfo, embeddings: NDArray[np.float32], selection: Selection = NEAREST
) -> list[list[Match]]:
    """The nearest items of vectors.

    Args:
        client: from `connect`.
        info: the collection.
        embeddings: (n, dimension) of the networks in use, of an ensemble each query's vectors side by side.
        selection: which matches of each.

    Returns:
        For each of the n vectors its matches, the best first, whose ranks begin at `selection.offset` + 1. Of several
        faces in one image only the nearest is a match; of videos, each vector finds those that show it.

    Raises:
        InvalidArgument: as `Selection.check` does.
        LookalikeError: as for `nearest_neighbours`.
    """
    info = selection.check(info)
    if info.sampling:
        return [nearest_videos(client, info, vector[None], selection) for vector in embeddings]
    fields = [*ITEM_FIELDS, *info.attributes]
    return [
        _matches(info, rows, selection.offset, fused=bool(info.others))
        for rows in ranked_items(client, info, embeddings, selection, fields)
    ]


def matches_of_several(
    client: MilvusClient,
    info: CollectionInfo,
    embeddings: NDArray[np.float32],
    selection: Selection,
    together: Together,
) -> list[Match]:
    """The items that several pictures as one query find.

    Args:
        client: from `connect`.
        info: the collection.
        embeddings: (n, dimension), as for `nearest_matches`; those of what is not wanted come last.
        selection: which matches.
        together: how the pictures are one query.

    Raises:
        InvalidArgument: nothing is wanted; or what fused rankings do not have, a similarity.
        LookalikeError: as for `nearest_matches`.
    """
    together.check(len(embeddings))
    wanted = len(embeddings) - together.unlike
    if together.by == "vector":
        vector = combined_vector(info, embeddings[:wanted], embeddings[wanted:])
        (matches,) = nearest_matches(client, info, vector[None], selection)
        return matches
    if selection.min_similarity is not None:
        raise InvalidArgument("Matches of fused rankings have no similarity; leave out the least similarity.")
    check_depth(selection.top_k, selection.offset, fused=True)
    info = selection.check(info)
    whole = replace(selection, offset=0, top_k=FUSED, group_by="")
    rankings = ranked_items(client, info, embeddings, whole, [*ITEM_FIELDS, *info.attributes])
    key = "path" if info.of_faces else "id"  # Each picture has met the face of an image that is nearest to it.
    fused = first_of_groups(info, selection)(fused_rankings(rankings[:wanted], rankings[wanted:], key))
    return _matches(info, fused[selection.offset :][: selection.top_k], selection.offset, fused=True)


def _matches(info: CollectionInfo, rows: Sequence[dict[str, Any]], offset: int, *, fused: bool) -> list[Match]:
    return [match_of(info, rank, row, row["score"], fused=fused) for rank, row in enumerate(rows, start=offset + 1)]


def plot_similar_images(
    query: ImageSource,
    collection: str,
    top_k: int = 20,
    *,
    filter: str = "",
    selection: Selection | None = None,
    face: int | None = None,
    client: MilvusClient | None = None,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
) -> Figure:
    """A figure of a query and its nearest neighbours; arguments and errors as for `similar_images`."""
    settings = settings or Settings.load()
    selection = _selection(top_k, filter, selection)
    (answer,) = search([query], collection, selection, face=face, client=client, embedder=embedder, settings=settings)
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
    from utilities.plots import Tile, image_grid, video_grid

    if not name:
        name = str(query) if isinstance(query, (str, Path)) else "a picture"
    matches = answer.matches
    key = f"on each tile: rank · {matches[0].measure if matches else 'similarity'}"
    image = open_image(answer.picture or query, settings)
    boxes = [face.part_of(*image.size) for face in answer.faces]
    if answer.face and len(boxes) > 1:
        key = f"face {answer.face} of {len(boxes)}; {key}"
    box = boxes[answer.face - 1] if answer.face else None
    if not any(match.frames for match in matches):
        tiles = [Tile(each.file, f"{each.rank} · {each.score:.3f}", _end(each.path), each.box) for each in matches]
        return image_grid(image, _end(name), tiles, box=box, key=key, note=note, settings=settings)
    videos = []
    for match in matches:
        title, places = f"{match.rank} · {match.score:.3f}  {_end(match.path)}", ", ".join(map(str, match.spans))
        first, *others = [
            Tile(
                Still(match.file, frame.time),
                *(title, places),
                frame.face.part_of(match.width, match.height) if frame.face else None,
                f"{frame.time:.1f} s",
            )
            for frame in match.frames
        ]
        videos.append((first, others))
    return video_grid(
        image, _end(name), videos, box=box, key=key.replace("tile", "video"), note=note, settings=settings
    )


def _end(path: str) -> str:
    """A path's last folder and name."""
    return "/".join(Path(path).parts[-2:])
