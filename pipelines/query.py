"""Query: pictures and clips answer with their nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from utilities.download import download, is_url
from utilities.errors import CollectionNotFound, InvalidArgument
from utilities.image_files import ImageSource
from utilities.milvus_utilities import connect, list_collections
from utilities.settings import Settings
from utilities.similar_images import Match, plot_answer, search


@dataclass(frozen=True)
class QueryResult:
    """A query and its matches, nearest first."""

    query: str
    matches: list[Match]
    #: In a collection of faces: how many the query shows, and the number of the one that was searched with.
    faces: int | None
    face: int | None
    #: The picture of them, if one was asked for.
    plot: Path | None


def run(
    queries: Sequence[str],
    *,
    collection: str | None = None,
    top_k: int = 20,
    filter: str = "",
    face: int | Literal["all"] | None = None,
    plot: Path | None = None,
    note: str = "",
    settings: Settings | None = None,
) -> list[QueryResult]:
    """Search a collection for each of several pictures, or for faces in them.

    Args:
        queries: paths or URLs.
        collection: its name; may be left out where there is only one.
        top_k: matches for each, 1 to 16,384.
        filter: a Milvus expression that the matches satisfy.
        face: in a collection of faces, which face of each picture to search for, or all of them, each by itself; by
            default 1, the largest.
        plot: where to draw the matches; with several results the file's name is numbered from 1.
        note: a line to draw below the query.
        settings: limits and places; from the environment by default.

    Raises:
        InvalidArgument: a call that cannot work.
        ImageError: a query that cannot be read.
        DatabaseError: Milvus failed.
    """
    settings = settings or Settings.load()
    if plot is not None:
        _check_plot(plot)
    client = connect(settings=settings, must_exist=True)
    name = collection or _only_collection(list_collections(client))
    # What is drawn is fetched once, and opened once more: a search decodes large JPEGs at a smaller scale.
    images: list[ImageSource] = [download(each, settings) if plot and is_url(each) else each for each in queries]
    answers = search(
        images,
        name,
        top_k,
        filter=filter,
        face=face,
        names=queries,
        client=client,
        settings=settings,
    )
    results = []
    for number, answer in enumerate(answers, start=1):
        query = queries[answer.query]
        file = plot.with_stem(f"{plot.stem}-{number}") if plot is not None and len(answers) > 1 else plot
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            plot_answer(images[answer.query], answer, name=query, note=note, settings=settings).savefig(file)
        # Of a clip the faces are those of one of its frames.
        shown = (len(answer.faces) or None, answer.face) if answer.picture is None else (None, None)
        results.append(QueryResult(query, answer.matches, *shown, file))
    return results


def _check_plot(plot: Path) -> None:
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    if plot.suffix.lstrip(".").lower() not in known:
        raise InvalidArgument(f"--plot {str(plot)!r} has no known extension; end it in one of {', '.join(known)}.")


def _only_collection(names: Sequence[str]) -> str:
    if not names:
        raise CollectionNotFound("There is no collection yet; `lookalike load DIR` makes the first.")
    if len(names) > 1:
        raise InvalidArgument(f"There are several collections; say --collection with one of {', '.join(names)}.")
    return names[0]
