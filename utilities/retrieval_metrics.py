"""How good a ranking is: pure numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def exact_neighbours(queries: NDArray[np.float32], embeddings: NDArray[np.float32], k: int = 20) -> NDArray[np.int64]:
    """The nearest by cosine, found by comparing everything with everything.

    Args:
        queries: (n, dimension), rows of length 1.
        embeddings: (m, dimension), rows of length 1; m at least k.
        k: how many of each.

    Returns:
        (n, k) row numbers of `embeddings`, nearest first.
    """
    rows = []
    step = max(1, 2**25 // max(1, len(embeddings)))  # Similarities of 128 MiB at a time.
    for start in range(0, len(queries), step):
        similarities = queries[start : start + step] @ embeddings.T  # (step, m)
        nearest = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(similarities, nearest, axis=1), axis=1, kind="stable")
        rows.append(np.take_along_axis(nearest, order, axis=1))
    return np.concatenate(rows) if rows else np.empty((0, k), np.int64)


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
