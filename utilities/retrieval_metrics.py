"""How good a ranking is: pure numpy.

A ranking is given by which of its places hold what is relevant, and by how much that is relevant there is in all. The
definitions are those of Manning, Raghavan and Schütze, Introduction to Information Retrieval (2008), sections 8.4
(precision and recall at k, mean average precision) and 14.3 (k nearest neighbours).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Similarities that are held at a time: 128 MiB of float32. Ranking all of them takes some seven times as much, so that
#: there it is fewer.
_SIMILARITIES, _RANKED = 2**25, 2**22


def precision_at_k(relevant: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """The part of the first k places that is relevant; a place that holds nothing is not.

    Args:
        relevant: (n, at least k), the first place first.
        k: how many places.

    Returns:
        (n,) from 0 to 1.
    """
    return np.asarray(relevant[:, :k].sum(axis=1) / k)


def recall_at_k(relevant: NDArray[np.bool_], totals: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """The part of what is relevant that stands in the first k places.

    Args:
        relevant: (n, at least k), the first place first.
        totals: (n,) how much is relevant in all, at least 1.
        k: how many places.

    Returns:
        (n,) from 0 to 1; where more than k are relevant, 1 cannot be reached.
    """
    return np.asarray(relevant[:, :k].sum(axis=1) / totals)


def average_precision(
    relevant: NDArray[np.bool_], totals: NDArray[np.int64], k: int | None = None
) -> NDArray[np.float64]:
    """The mean, over what is relevant, of the precision at its place; what was not found counts as 0.

    Args:
        relevant: (n, places), the first place first.
        totals: (n,) how much is relevant in all, at least 1.
        k: look at the first k places only, where k of the relevant, if there are more, make a perfect ranking; None
            for all places.

    Returns:
        (n,) from 0 to 1. Their mean is the mean average precision, mAP or mAP@k.
    """
    relevant = relevant[:, :k]
    places = np.arange(1, relevant.shape[1] + 1)
    precisions = relevant.cumsum(axis=1) / places  # (n, places)
    best = totals if k is None else np.minimum(totals, k)
    return np.asarray((precisions * relevant).sum(axis=1) / best)


def nearest_label(labels: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """What k nearest neighbours vote for; of labels with as many votes, the one whose first voter is nearest.

    Args:
        labels: (n, at least k) of the neighbours, the nearest first; -1 where there was none, which does not vote.
        k: how many vote.

    Returns:
        (n,) labels; -1 where nobody voted.
    """
    voters = labels[:, :k]
    votes = (voters[:, :, None] == voters[:, None, :]).sum(axis=2) * (voters >= 0)  # (n, k): votes of each voter's own
    return np.asarray(np.take_along_axis(voters, votes.argmax(axis=1)[:, None], axis=1)[:, 0])


def overlap_at_k(found: NDArray[np.int64], expected: NDArray[np.int64]) -> float:
    """The part of the expected neighbours that was found, in whatever order: recall@k of an approximate search.

    Args:
        found: (n, k) ids; -1 where there was no k-th.
        expected: (n, k) ids.

    Returns:
        The mean over n of the number of common ids divided by k.
    """
    pairs = zip(found.tolist(), expected.tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / len(other) for one, other in pairs]))


def exact_neighbours(queries: NDArray[np.float32], embeddings: NDArray[np.float32], k: int = 20) -> NDArray[np.int64]:
    """The nearest by cosine, found by comparing everything with everything.

    Args:
        queries: (n, dimension), rows of length 1.
        embeddings: (m, dimension), rows of length 1; m at least k.
        k: how many of each.

    Returns:
        (n, k) row numbers of `embeddings`, nearest first.
    """
    rows = [_largest(similarities, k) for _, similarities in _similarities(queries, embeddings, _SIMILARITIES)]
    return np.concatenate(rows) if rows else np.empty((0, k), np.int64)


def exact_neighbours_of_each(embeddings: NDArray[np.float32], k: int = 20) -> NDArray[np.int64]:
    """The nearest of each vector among the others: itself is left out.

    Args:
        embeddings: (n, dimension), rows of length 1.
        k: how many of each.

    Returns:
        (n, min(k, n - 1)) row numbers, nearest first.
    """
    k = min(k, len(embeddings) - 1)
    rows = []
    for start, similarities in _similarities(embeddings, embeddings, _SIMILARITIES):
        own = np.arange(len(similarities))
        similarities[own, start + own] = -np.inf
        rows.append(_largest(similarities, k))
    return np.concatenate(rows)


def exact_rankings(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    queries: NDArray[np.int64],
    k: int = 20,
    among: NDArray[np.int64] | None = None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Vectors' rankings of all the others, by cosine, compared exactly: the nearest, and the whole one's worth.

    Args:
        embeddings: (n, dimension), rows of length 1.
        labels: (n,); what has the same label is relevant.
        queries: (m,) row numbers of those to rank for, each of which shares its label with another that is ranked.
        k: how many of the nearest.
        among: (l,) row numbers of what is ranked; by default everything.

    Yields:
        For the next of the queries (block, min(k, l)) row numbers, nearest first, and -1 for the query itself, which
        comes last; and (block,) average precisions of whole rankings.
    """
    ranked = np.arange(len(embeddings)) if among is None else among
    for start, similarities in _similarities(embeddings[queries], embeddings[ranked], _RANKED):
        own = queries[start : start + len(similarities), None]
        similarities[ranked == own] = -np.inf
        order = ranked[np.argsort(-similarities, axis=1, kind="stable")]  # (block, l)
        relevant = (labels[order] == labels[own]) & (order != own)
        yield np.where(order == own, -1, order)[:, :k], average_precision(relevant, relevant.sum(axis=1))


def _similarities(
    queries: NDArray[np.float32], embeddings: NDArray[np.float32], most: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The number of a block's first query, and the block's similarities with everything, at most so many."""
    step = max(1, most // max(1, len(embeddings)))
    for start in range(0, len(queries), step):
        yield start, queries[start : start + step] @ embeddings.T


def _largest(similarities: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    nearest = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(similarities, nearest, axis=1), axis=1, kind="stable")
    return np.take_along_axis(nearest, order, axis=1)


@dataclass(frozen=True)
class Estimate:
    """A mean over queries, and the interval in which 95 of 100 such means would lie."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def bootstrap(values: NDArray[np.float64], groups: NDArray[np.int64] | None = None, resamples: int = 1_000) -> Estimate:
    """The mean of what was measured on each query, with its percentile bootstrap interval of 95 %.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. Queries are drawn with replacement,
    seeded: the same values have the same interval.

    Args:
        values: (n,), one of each query; n at least 1.
        groups: (n,) of queries that do well or badly together, such as those of one label: whole groups are drawn,
            which says how the mean would be with other groups. By default each query is drawn by itself.
        resamples: how many means are drawn.
    """
    random = np.random.default_rng(0)
    numbers = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(numbers, values), np.bincount(numbers)
    drawn = [random.integers(0, len(sums), len(sums)) for _ in range(resamples)]
    means = [sums[each].sum() / counts[each].sum() for each in drawn]
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))
