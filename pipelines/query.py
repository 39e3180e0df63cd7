"""Query: pictures and clips answer with their nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from utilities.download import download, is_url
from utilities.errors import CollectionNotFound, InvalidArgument
from utilities.image_files import ImageSource
from utilities.items import printable
from utilities.milvus_utilities import connect, list_collections
from utilities.selections import NEAREST, Selection
from utilities.settings import Settings
from utilities.several_queries import TOGETHER, Together
from utilities.similar_images import Match, plot_answer, search


@dataclass(frozen=True)
class QueryResult:
    """A query, of one picture or of several, and its matches, the best first."""

    queries: tuple[str, ...]
    matches: list[Match]
    #: Pictures that the matches are not to be like, and how several pictures were one query; empty for a single one.
    unlike: tuple[str, ...] = ()
    together: str = ""
    #: Neighbours that the query was expanded by, and how matches were re-ranked; 0 and empty if they were not.
    expand: int = 0
    rerank: str = ""
    #: In a collection of faces: how many the query shows, and the number of the one that was searched with.
    faces: int | None = None
    face: int | None = None
    #: The picture of them, if one was asked for.
    plot: Path | None = None

    @property
    def called(self) -> str:
        """What the query is called."""
        like, unlike = ([printable(each) for each in some] for some in (self.queries, self.unlike))
        return " and ".join(like) + (f", not {' or '.join(unlike)}" if unlike else "")


def run(
    queries: Sequence[str],
    *,
    unlike: Sequence[str] = (),
    together: str = "",
    collection: str | None = None,
    selection: Selection = NEAREST,
    face: int | Literal["all"] | None = None,
    plot: Path | None = None,
    note: str = "",
    settings: Settings | None = None,
) -> list[QueryResult]:
    """Search a collection for each of several pictures, or for faces in them, or for all of them as one query.

    Args:
        queries: paths or URLs.
        unlike: paths or URLs of pictures that the matches are not to be like; all pictures are one query then.
        together: one of `utilities.several_queries.TOGETHER`, by which all pictures are one query; empty for each by
            itself, and with `unlike` for `"vector"`.
        collection: its name; may be left out where there is only one.
        selection: which matches of each.
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
    if unlike and not together:
        together = TOGETHER[0]
    if together and face is not None:
        raise InvalidArgument(
            "--face is for pictures that are searched for one by one; leave it out with --not and --together."
        )
    client = connect(settings=settings, must_exist=True)
    name = collection or _only_collection(list_collections(client))
    names = [*queries, *unlike]
    # What is drawn is fetched once, and opened once more: a search decodes large JPEGs at a smaller scale.
    images: list[ImageSource] = [download(each, settings) if plot and is_url(each) else each for each in names]
    answers = search(
        images,
        name,
        selection,
        together=Together(together, len(unlike)) if together else None,
        face=face,
        names=names,
        client=client,
        settings=settings,
    )
    results = []
    for number, answer in enumerate(answers, start=1):
        file = plot.with_stem(f"{plot.stem}-{number}") if plot is not None and len(answers) > 1 else plot
        asked = (*queries,) if together else (queries[answer.query],)
        # Of a clip the faces are those of one of its frames; several pictures have no faces in common.
        faces = None if together or answer.picture else len(answer.faces) or None
        result = QueryResult(
            asked,
            answer.matches,
            (*unlike,),
            together,
            selection.expand,
            selection.rerank,
            faces,
            answer.face if faces else None,
            file,
        )
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            picture = images[answer.query]
            caption = queries[answer.query]
            if together:
                from utilities.plots import mosaic

                picture = mosaic(images[: len(queries)], images[len(queries) :], settings)
                caption = f"{len(queries)} wanted, {len(unlike)} not" if unlike else f"{len(queries)} pictures"
            plot_answer(picture, answer, name=caption, note=note, settings=settings).savefig(file)
        results.append(result)
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
