"""Search among videos: those that show what a clip, an image or a face shows, and where.

Videos are ranked by Chamfer similarity: each frame of the query is compared with the frame of the video that is most
like it, and these similarities are averaged (Kordopatis-Zilos et al., "ViSiL", ICCV 2019, section 3.2). Which videos
are worth that is told by Fagin's threshold algorithm (Fagin, Lotem and Naor, "Optimal aggregation algorithms for
middleware", 2003).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.collection_info import CollectionInfo
from utilities.faces import Face
from utilities.items import ITEM_FIELDS
from utilities.matches import FoundFrame, Match, Span, match_of
from utilities.milvus_utilities import (
    MAX_TOP_K,
    first_of_each_file,
    nearest_neighbours,
    nearest_that,
    path_is,
)
from utilities.selections import NEAREST, Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

#: Frames of a video that are told of one picture, and the fewest that are of each frame of a clip.
NEAR, NEAR_EACH = 16, 3
#: Videos that each frame of the query looks for at least, and the frames of each that it is expected to meet.
LEAST_FILES, FRAMES_OF_VIDEO = 50, 16
#: Where many videos are about as little alike as each other, no more than so many are compared beyond those that are
#: wanted, nor are more rows looked at: the last ranks may then go to others than a comparison with all would give.
MOST_COMPARED, ROWS_LOOKED_AT = 30, 50_000
#: Another frame matches, too, if its squared distance is larger than that of the best by at most this part of it and a
#: little, or by this much where the best is far away itself.
AS_NEAR, A_LITTLE, AT_MOST = 0.5, 0.01, 0.05
#: The video shows a frame of the query, if its squared distance is at most so many times that of the one that it shows
#: best, and a little.
SHOWN_AT_ALL, A_LITTLE_MORE = 4.0, 0.1
#: A stretch that fewer of the query's frames are in than this part of those in the first is chance.
LEAST_SUPPORT = 1 / 3
#: Stretches whose distance is less than this times that of sampled frames are one.
GAP = 1.5
#: Frames that are told of each video.
TOLD = 3

_Rows = list[dict[str, Any]]


def nearest_videos(
    client: MilvusClient,
    info: CollectionInfo,
    frames: NDArray[np.float32],
    selection: Selection = NEAREST,
    *,
    step: float = 0.0,
) -> list[Match]:
    """The videos of a collection that show most of what the frames of one query show.

    Args:
        client: from `connect`.
        info: a collection of videos.
        frames: (n, dimension) float32, in their order; one for an image or a face.
        selection: which videos; its filter is one that their frames satisfy.
        step: seconds from one of the query's frames to the next.

    Returns:
        At most `selection.top_k` videos, the most similar first. Similarities are exact; so are the ranks, but for last
        ones among which there is little to choose (`MOST_COMPARED`).

    Raises:
        LookalikeError: as for `nearest_neighbours`.
    """
    selection.check(info)
    filter, offset, least = selection.filter, selection.offset, selection.min_similarity
    wanted = offset + selection.top_k
    sign = _sign(info)
    found: dict[str, tuple[float, list[_Rows]]] = {}
    files = max(wanted, LEAST_FILES)

    def is_settled(at_most: float) -> bool:
        """Whether what is no more similar than that cannot be among those that are wanted; or it is enough."""
        return _last(found, wanted) >= at_most or len(found) >= wanted + MOST_COMPARED

    while True:
        at_most, unseen = _bounds(client, info, frames, files, filter)
        for path in sorted(at_most, key=lambda path: -at_most[path]):
            if is_settled(at_most[path]):
                break
            if path not in found:
                rows = _frames_of(client, info, path, frames, filter)
                if any(rows):  # Or they were deleted meanwhile.
                    scores = [sign * each[0]["score"] if each else at_most[path] for each in rows]
                    found[path] = float(np.mean(scores)), [each for each in rows if each]
        if is_settled(unseen) or len(frames) * FRAMES_OF_VIDEO * files >= ROWS_LOOKED_AT:
            break
        files *= 4
    gap = GAP * max(step, (info.sampling and info.sampling.every) or 1.0)
    ranked = sorted(found.values(), key=lambda each: -each[0])[offset:wanted]
    ranked = [each for each in ranked if least is None or each[0] >= least]
    return [_match(info, rank, sign * score, rows, gap) for rank, (score, rows) in enumerate(ranked, start=offset + 1)]


def _sign(info: CollectionInfo) -> float:
    """What makes of a score one that is larger where it is nearer."""
    return -1.0 if info.metric == "L2" else 1.0


def _bounds(
    client: MilvusClient, info: CollectionInfo, frames: NDArray[np.float32], files: int, filter: str
) -> tuple[dict[str, float], float]:
    """How similar videos can be at most, larger being nearer: those that are found nearest to any frame, and others."""
    sign = _sign(info)
    files = min(files, MAX_TOP_K)
    depth = min(MAX_TOP_K, FRAMES_OF_VIDEO * files)
    nearest = nearest_that(first_of_each_file, client, info, frames, files, filter, ["path"], depth=depth)
    # What a frame has not found of a video is no nearer than the last that it has found, and there is nothing else
    # where it has found fewer than it might.
    last = np.array([sign * rows[-1]["score"] if rows else -np.inf for rows in nearest])
    unseen = float(last.mean()) if all(len(rows) == files for rows in nearest) else -np.inf
    known: dict[str, NDArray[np.float64]] = {}
    for number, rows in enumerate(nearest):
        for row in rows:
            known.setdefault(row["path"], last.copy())[number] = sign * row["score"]
    return {path: float(scores.mean()) for path, scores in known.items()}, unseen


def _last(found: dict[str, tuple[float, list[_Rows]]], wanted: int) -> float:
    """The similarity of the last video that is wanted, as far as they are known."""
    return heapq.nlargest(wanted, (score for score, _ in found.values()))[-1] if len(found) >= wanted else -np.inf


def _frames_of(
    client: MilvusClient, info: CollectionInfo, path: str, frames: NDArray[np.float32], filter: str
) -> list[_Rows]:
    """For each frame of the query the nearest of one video."""
    both = f"({filter}) and {path_is(path)}" if filter else path_is(path)
    depth = max(NEAR // len(frames), NEAR_EACH)
    return nearest_neighbours(client, info, frames, depth, both, [*ITEM_FIELDS, *info.attributes])


def _match(info: CollectionInfo, rank: int, score: float, found: Sequence[_Rows], gap: float) -> Match:
    shown = _shown(info, found)
    spans = _spans([[(row["time"], row["until"]) for row in rows] for rows in shown], gap)
    sign = _sign(info)
    within = [row for rows in shown for row in rows if any(each.start <= row["time"] <= each.end for each in spans)]
    nearest: dict[int, dict[str, Any]] = {}
    for row in sorted(within, key=lambda row: -sign * row["score"]):
        nearest.setdefault(row["id"], row)
    best = list(nearest.values())[:TOLD]
    frames = tuple(
        FoundFrame(row["id"], row["time"], row["score"], Face.of(row))
        for row in sorted(best, key=lambda row: float(row["time"]))
    )
    return match_of(info, rank, best[0], score, spans, frames)


def _shown(info: CollectionInfo, found: Sequence[_Rows]) -> list[_Rows]:
    """For each frame of the query that the video shows, the frames that show it."""

    def squared_distance(row: dict[str, Any]) -> float:
        return float(row["score"] ** 2 if info.metric == "L2" else 2 - 2 * row["score"])

    best = [squared_distance(rows[0]) for rows in found]
    return [
        [row for row in rows if squared_distance(row) <= nearest + min(AS_NEAR * nearest + A_LITTLE, AT_MOST)]
        for rows, nearest in zip(found, best, strict=True)
        if nearest <= SHOWN_AT_ALL * min(best) + A_LITTLE_MORE
    ]


def _spans(shown: Sequence[Sequence[tuple[float, float]]], gap: float) -> tuple[Span, ...]:
    """Stretches of a video, those first that most of the query's frames are in.

    Args:
        shown: for each frame of the query, beginnings and ends of the frames that show it.
        gap: seconds between two stretches that are one nevertheless.
    """
    pieces = sorted((start, end, number) for number, places in enumerate(shown) for start, end in places)
    stretches: list[tuple[float, float, set[int]]] = []
    for start, end, number in pieces:
        if stretches and start <= stretches[-1][1] + gap:
            begun, until, numbers = stretches[-1]
            stretches[-1] = begun, max(until, end), numbers | {number}
        else:
            stretches.append((start, end, {number}))
    most = max(len(numbers) for *_, numbers in stretches)
    supported = [each for each in stretches if len(each[2]) >= LEAST_SUPPORT * most]
    return tuple(Span(start, end) for start, end, _ in sorted(supported, key=lambda each: (-len(each[2]), each[0])))
