"""Groups of files that show one picture: candidates by their vectors, verified by their pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from utilities.collection_info import CollectionInfo
from utilities.errors import ImageError
from utilities.evaluation import leave_one_out
from utilities.failures import Failure
from utilities.image_files import open_scaled
from utilities.near_identical import (
    DETAIL,
    THUMBNAIL,
    WORTH_A_LOOK,
    Detail,
    Likeness,
    Picture,
    Placement,
    compare,
    find_in,
)
from utilities.set_aside import is_as_loaded
from utilities.settings import Settings
from utilities.streams import in_order, processors
from utilities.views import squashed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

Argument = TypeVar("Argument")
Result = TypeVar("Result")

#: Nearest neighbours of an item, byte-identical files left out, among which its copies are looked for. How near they
#: must be is not asked, which no two networks and metrics would agree on.
CANDIDATES = 20
#: Pictures that are kept in detail, of 1.2 MiB each at most.
KEPT = 128

#: Rows of items by the outer and the inner picture.
_Placements: TypeAlias = Mapping[tuple[int, int], Placement]
#: Rows that are one picture, the best first, and in words how each differs from it.
_Star: TypeAlias = dict[int, tuple[str, ...]]


@dataclass(frozen=True)
class Group:
    """Files that show one picture."""

    #: Rows of `Found.items`, the best first.
    rows: list[int]
    #: How each differs from the best, in words; of the best itself nothing.
    differences: list[tuple[str, ...]]


@dataclass(frozen=True)
class Found:
    """What was found among the items of a collection."""

    #: Those whose files are there, in the columns of `Item`, the best first: most pixels, most bytes, then by path.
    items: pd.DataFrame
    #: Those of most files first, and of as many by the path of their best.
    groups: list[Group]
    #: How many items' files are gone.
    gone: int
    #: Files that could not be read, and so are told by their bytes alone.
    failures: list[Failure] = field(default_factory=list)


def find_duplicates(
    client: MilvusClient, info: CollectionInfo, items: pd.DataFrame, settings: Settings, *, progress: bool = True
) -> Found:
    """Group the images of a collection that are near-identical.

    Every file of a group was itself compared with the group's best, or is byte-identical to one that was: what is
    merely like something that is like the best is not in it, so that groups do not chain.

    Each file is decoded once as a thumbnail of 3 KiB, all of which are held in memory, and those that are much alike
    again in detail.

    Args:
        client: from `connect`.
        info: a collection of images.
        items: all of them, from `read_items`.
        settings: limits.
        progress: whether to draw progress bars on standard error.

    Raises:
        DatabaseError: Milvus failed.
    """
    root = info.root or Path()
    there = np.array([(root / path).is_file() for path in items["path"]], bool)
    gone = int((~there).sum())
    items = items.assign(pixels=items["width"] * items["height"])[there]
    items = items.sort_values(["pixels", "file_size", "path"], ascending=[False, False, True], ignore_index=True)
    same = _by_content(root, items)
    firsts = np.array(sorted(same), np.int64)
    candidates = _candidates(client, info, items, firsts, progress)
    reader = _Reader(root, items, settings)
    thumbnails, failures = _thumbnails(reader, sorted(candidates), progress)
    groups = []
    with threadpool_limits(1):  # The matrices are small, and there are threads enough: more only wait for each other.
        placements = _placements(thumbnails, candidates, progress)
        for star in _stars(thumbnails, placements, reader, progress):
            groups.append(_group(items, same, star))
            for row in star:
                del same[row]
    groups += [_group(items, same, {row: ()}) for row, others in same.items() if len(others) > 1]
    groups.sort(key=lambda group: (-len(group.rows), items["path"][group.rows[0]]))
    return Found(items, groups, gone, failures)


def _by_content(root: Path, items: pd.DataFrame) -> dict[int, list[int]]:
    """Rows of byte-identical files, by the best of them; a file that has changed since its load is by itself."""
    first: dict[str, int] = {}
    same: dict[int, list[int]] = {}
    fields = zip(items["path"], items["file_size"], items["file_mtime_ns"], items["file_digest"], strict=True)
    for row, (path, size, time, digest) in enumerate(fields):
        known = first.setdefault(digest, row) if digest and is_as_loaded(root / path, size, time) else row
        same.setdefault(known, []).append(row)
    return same


def _candidates(
    client: MilvusClient, info: CollectionInfo, items: pd.DataFrame, firsts: NDArray[np.int64], progress: bool
) -> dict[int, set[int]]:
    """Rows that are worth comparing with each row: its nearest neighbours, and those whose neighbour it is."""
    if len(firsts) < 2:
        return {}
    different = np.zeros(len(items), bool)
    different[firsts] = True
    ids = items["id"].to_numpy(np.int64)
    rankings = leave_one_out(client, info, ids, firsts, different, CANDIDATES, progress=progress)
    candidates: dict[int, set[int]] = defaultdict(set)
    for own, neighbours in zip(firsts.tolist(), rankings.neighbours.tolist(), strict=True):
        for other in neighbours:
            if other >= 0:
                candidates[own].add(other)
                candidates[other].add(own)
    return dict(candidates)


class _Reader:
    """Reads the files of items; called by threads."""

    def __init__(self, root: Path, items: pd.DataFrame, settings: Settings) -> None:
        self._root, self._settings = root, settings
        self._paths: list[str] = items["path"].tolist()
        self._sides: list[int] = items[["width", "height"]].max(axis=1).clip(2 * THUMBNAIL, DETAIL).tolist()
        #: (row) -> the picture in detail, or None where the file cannot be read any more.
        self.detail = lru_cache(KEPT)(self._detail)

    def read(self, row: int, side: int) -> Picture | Failure:
        path = self._paths[row]
        try:
            image, whole = open_scaled(self._root / path, side, self._settings)
            return Picture(squashed(image, side), whole)
        except ImageError as error:
            return Failure(path, str(error))

    def _detail(self, row: int) -> Detail | None:
        picture = self.read(row, self._sides[row])
        return Detail.of(picture) if isinstance(picture, Picture) else None


def _in_threads(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], what: str, unit: str, progress: bool
) -> Iterator[Result]:
    threads = processors()
    with (
        ThreadPoolExecutor(threads, what) as pool,
        closing(in_order(pool, function, arguments, 4 * threads)) as results,
    ):
        yield from tqdm(results, total=len(arguments), unit=unit, desc=what, disable=not progress)


def _thumbnails(reader: _Reader, rows: list[int], progress: bool) -> tuple[dict[int, Picture], list[Failure]]:
    thumbnails: dict[int, Picture] = {}
    failures = []
    read = _in_threads(lambda row: reader.read(row, THUMBNAIL), rows, "thumbnails", "image", progress)
    for row, picture in zip(rows, read, strict=True):
        if isinstance(picture, Failure):
            failures.append(picture)
        else:
            thumbnails[row] = picture
    return thumbnails, failures


def _placements(
    thumbnails: Mapping[int, Picture], candidates: Mapping[int, set[int]], progress: bool
) -> dict[tuple[int, int], Placement]:
    """Where candidates lie in each other, if they seem to."""

    def within(outer: int) -> list[tuple[tuple[int, int], Placement]]:
        inners = sorted(row for row in candidates[outer] if row in thumbnails)
        found = find_in(thumbnails[outer], [thumbnails[row] for row in inners])
        pairs = [((outer, inner), place) for inner, place in zip(inners, found, strict=True)]
        return [(pair, place) for pair, place in pairs if place.correlation >= WORTH_A_LOOK]

    found = _in_threads(within, list(thumbnails), "comparing", "image", progress)
    return {pair: place for pairs in found for pair, place in pairs}


def _stars(
    thumbnails: Mapping[int, Picture], placements: _Placements, reader: _Reader, progress: bool
) -> Iterator[_Star]:
    """Rows that are one picture with the best of them."""
    near: dict[int, set[int]] = defaultdict(set)
    for one, other in placements:
        near[one].add(other)
        near[other].add(one)
    differences = partial(_differences, thumbnails=thumbnails, placements=placements, reader=reader)
    for stars in _in_threads(
        lambda rows: _stars_among(rows, near, differences), list(_components(near)), "verifying", "group", progress
    ):
        yield from stars


def _components(near: Mapping[int, set[int]]) -> Iterator[set[int]]:
    """Rows that are joined by any number of steps: no two of different ones need be compared."""
    seen: set[int] = set()
    for row in near:
        if row not in seen:
            component, waiting = {row}, [row]
            while waiting:
                further = near[waiting.pop()] - component
                component |= further
                waiting += further
            seen |= component
            yield component


def _stars_among(
    rows: set[int], near: Mapping[int, set[int]], differences: Callable[[int, int], tuple[str, ...]]
) -> list[_Star]:
    """The best takes what is one picture with it; of what is left, the best does; and so on."""
    stars = []
    free = set(rows)
    for best in sorted(rows):
        if best not in free:
            continue
        star: _Star = {best: ()}
        seen, waiting = {best}, [best]
        while waiting:
            for row in sorted((near[waiting.pop()] & free) - seen):
                seen.add(row)
                words = differences(best, row)
                if words:
                    star[row] = words
                    waiting.append(row)
        free -= star.keys()
        if len(star) > 1:
            stars.append(star)
    return stars


def _differences(
    best: int, row: int, *, thumbnails: Mapping[int, Picture], placements: _Placements, reader: _Reader
) -> tuple[str, ...]:
    """How a picture differs from the best, if they are one; else nothing.

    Each may be a part of the other: of two that are whole, but for a border around one, thumbnails do not tell which.
    """
    places = [(pair, placements.get(pair)) for pair in ((best, row), (row, best))]
    if not any(place for _, place in places):  # They are neighbours of a neighbour.
        places = [(pair, find_in(thumbnails[pair[0]], [thumbnails[pair[1]]])[0]) for pair, _ in places]
    likely = [(pair, place) for pair, place in places if place and place.correlation >= WORTH_A_LOOK]
    for (outer, inner), place in sorted(likely, key=lambda each: -each[1].correlation):
        one, other = reader.detail(outer), reader.detail(inner)
        likeness = compare(one, other, place) if one and other else None
        if likeness:
            return _words(likeness, best_is_outer=outer == best)
    return ()


def _words(likeness: Likeness, *, best_is_outer: bool) -> tuple[str, ...]:
    told = {
        "mirrored": likeness.placement.mirrored,
        "cropped": likeness.is_part and best_is_outer,
        "extended": likeness.is_part and not best_is_outer,
        "resized": likeness.is_resized,
        "recoloured": likeness.recoloured,
        "altered": likeness.altered,
    }
    return tuple(word for word, is_so in told.items() if is_so) or ("re-encoded",)


def _group(items: pd.DataFrame, same: Mapping[int, list[int]], star: _Star) -> Group:
    """A star, with the byte-identical files of its members."""
    best = next(iter(star))
    members = {row: words or ("identical",) for first, words in star.items() for row in same[first]}
    members[best] = ()
    rows = sorted(members)
    return Group(rows, [members[row] for row in rows])
