"""Like these, not like those: several query pictures as one query, by a combined vector or by fused rankings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.errors import InvalidArgument
from utilities.milvus_utilities import by_field
from utilities.reduction import unit_length
from utilities.reranking import RRF_K

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utilities.collection_info import CollectionInfo

#: How several pictures can be one query.
TOGETHER = ("vector", "ranks")
#: How much a picture that is not wanted counts, beside one that is.
UNWANTED = 0.5


@dataclass(frozen=True)
class Together:
    """That all pictures of a search are one query, but the last ones are what is not wanted."""

    #: One of `TOGETHER`.
    by: str = "vector"
    #: How many of the pictures, the last ones, are not wanted.
    unlike: int = 0

    def check(self, pictures: int) -> None:
        """Refuse what cannot be one query of so many pictures.

        Raises:
            InvalidArgument: not one of `TOGETHER`, or nothing is wanted.
        """
        if self.by not in TOGETHER:
            raise InvalidArgument(f"There is no --together {self.by!r}; choose one of {', '.join(TOGETHER)}.")
        if not 0 <= self.unlike < pictures:
            raise InvalidArgument("Nothing is wanted; give pictures to be like, too.")


def combined_vector(
    info: CollectionInfo, like: NDArray[np.float32], unlike: NDArray[np.float32]
) -> NDArray[np.float32]:
    """One vector for several pictures: the mean of what is wanted, less half the mean of what is not.

    Rocchio, Relevance feedback in information retrieval, in: The SMART retrieval system (1971), on unit vectors, in an
    ensemble for each network by itself.

    Args:
        info: the collection that is searched.
        like: (n, dimension), n at least 1.
        unlike: (m, dimension); m may be 0.

    Returns:
        (dimension,) float32, for each network as long as the wanted are on average.
    """
    wanted, unwanted = by_field(info, like), by_field(info, unlike)
    parts = []
    for field, vectors in wanted.items():
        part = unit_length(vectors).mean(axis=0)
        if len(unlike):
            part = part - UNWANTED * unit_length(unwanted[field]).mean(axis=0)
        parts.append(unit_length(part[None])[0] * np.linalg.norm(vectors, axis=1).mean())
    return np.asarray(np.concatenate(parts), np.float32)


def fused_rankings(
    like: Sequence[Sequence[dict[str, Any]]], unlike: Sequence[Sequence[dict[str, Any]]], key: str = "id"
) -> list[dict[str, Any]]:
    """One ranking of several: each item by the mean of its reciprocal ranks, less half of that where it is not wanted.

    Cormack, Clarke and Büttcher (see `reranking.RRF_K`), who add them up; means let one picture that is not wanted
    count as much as three. An item that a ranking does not name gets nothing from it.

    Args:
        like: rankings, each the rows of a search, the best first.
        unlike: rankings of what is not wanted.
        key: the field by which rows are of one item; a ranking has one of each.

    Returns:
        The rows that `like` names, once each, the best first, with what their ranks came to as `score`; of those of one
        item that which was ranked best.
    """
    ranked = [(rank, row) for ranking in like for rank, row in enumerate(ranking)]
    rows = {row[key]: row for _, row in sorted(ranked, key=lambda each: -each[0])}  # The best comes last, and stays.
    scores = dict.fromkeys((row[key] for _, row in ranked), 0.0)
    for rankings, sign in ((like, 1.0), (unlike, -UNWANTED)):
        for ranking in rankings:
            for rank, row in enumerate(ranking, start=1):
                if row[key] in scores:
                    scores[row[key]] += sign / (RRF_K + rank) / len(rankings)
    best = sorted(scores, key=lambda each: -scores[each])
    return [{**rows[each], "score": scores[each]} for each in best]
