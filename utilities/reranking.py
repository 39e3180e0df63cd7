"""Better rankings of the same vectors: what the neighbours of a query know of it. Pure numpy.

Vectors are made of length 1 where their directions are compared, so that an inner product is a cosine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utilities.reduction import unit_length

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The power of a neighbour's similarity that it counts with when a query is expanded (Radenović et al., section 5.1).
ALPHA = 3.0
#: Of k-reciprocal encoding (Zhong et al., section 4.2): neighbours, neighbours by which a neighbourhood is smoothed,
#: and the part that the original distance has in the result.
K1, K2, ORIGINAL = 20, 6, 0.3
#: Of diffusion (Iscen et al., sections 3 and 5.1): neighbours of an item in the graph, and of the query; the power of
#: similarities; and how much is passed on. Where theirs, 0.99, goes round a graph of a whole collection, a hundred
#: candidates would soon have forgotten the query.
GRAPH_NEIGHBOURS, QUERY_NEIGHBOURS, GAMMA, PASSED_ON = 10, 10, 3.0, 0.9
#: What ranks are counted from when they are fused: the k of Cormack, Clarke and Büttcher, Reciprocal rank fusion
#: outperforms Condorcet and individual rank learning methods, SIGIR 2009.
RRF_K = 60


def expanded(query: NDArray[np.float32], neighbours: NDArray[np.float32], alpha: float = ALPHA) -> NDArray[np.float32]:
    """A query moved to where its neighbours lie: alpha query expansion.

    Radenović, Tolias and Chum, Fine-tuning CNN image retrieval with no human annotation, TPAMI 2019, section 5.1: the
    sum of the query and its neighbours, each times its similarity to the power of alpha.

    Args:
        query: (dimension,).
        neighbours: (n, dimension), of the first matches; n may be 0.
        alpha: 0 counts all neighbours alike.

    Returns:
        (dimension,) float32, as long as the query is.
    """
    own, others = unit_length(query[None]), unit_length(neighbours)
    weights = np.clip(others @ own[0], 0, None) ** alpha  # (n,)
    return np.asarray(unit_length(own + weights @ others)[0] * np.linalg.norm(query), np.float32)


def augmented(vectors: NDArray[np.float32], neighbours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Items' vectors moved to where their neighbours lie: database-side augmentation.

    Turcot and Lowe, Better matching with fewer features, 2009; of k neighbours the r-th counts (k + 1 - r) / (k + 1),
    as in Gordo, Almazán, Revaud and Larlus, End-to-end learning of deep visual representations for image retrieval,
    IJCV 2017, section 6.1, where the item itself is counted as one of k + 1.

    Args:
        vectors: (n, dimension).
        neighbours: (n, k, dimension), the nearest first, the item itself left out; zeros where there is no k-th.

    Returns:
        (n, dimension) float32 of length 1.
    """
    count = neighbours.shape[1]
    weights = 1 - np.arange(1, count + 1, dtype=np.float32) / (count + 1)  # (k,)
    return unit_length(unit_length(vectors) + np.einsum("k,nkd->nd", weights, unit_length(neighbours)))


def reciprocal_order(query: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.int64]:
    """Candidates by how many neighbours they share with the query: k-reciprocal encoding.

    Zhong, Zheng, Cao and Li, Re-ranking person re-identification with k-reciprocal encoding, CVPR 2017, sections 3.2 to
    3.5. Neighbours are looked for among the query and its candidates alone.

    Args:
        query: (dimension,).
        candidates: (n, dimension), the first matches.

    Returns:
        (n,) positions of the candidates, the best first.
    """
    vectors = unit_length(np.concatenate([query[None], candidates]))  # (m, dimension), the query first
    distances = np.clip(2 - 2 * (vectors @ vectors.T), 0, None)  # (m, m)
    distances /= np.maximum(distances.max(axis=1, keepdims=True), 1e-12)  # As the authors' own code has it.
    nearer = distances - np.eye(len(distances), dtype=np.float32)  # Itself first, also among vectors that are the same.
    ranks = nearer.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")

    def reciprocal(k: int) -> NDArray[np.bool_]:
        near = ranks <= k
        return np.asarray(near & near.T)  # (m, m): which are among the k nearest of each other

    near, half = reciprocal(K1), reciprocal(round(K1 / 2))
    # Equation 5: the neighbours of a neighbour are added, if two thirds of them are neighbours already.
    shared = near.astype(np.float32) @ half.T  # (m, m): how many of j's half neighbours i has
    takes = near & (shared > 2 / 3 * half.sum(axis=1))
    encoded = np.exp(-distances) * (near | (takes.astype(np.float32) @ half > 0))
    encoded /= encoded.sum(axis=1, keepdims=True)
    smooth = (ranks < K2).astype(np.float32)
    encoded = smooth @ encoded / smooth.sum(axis=1, keepdims=True)
    overlap = np.minimum(encoded[0], encoded[1:]).sum(axis=1)  # (n,)
    jaccard = 1 - overlap / (2 - overlap)
    return np.asarray((ORIGINAL * distances[0, 1:] + (1 - ORIGINAL) * jaccard).argsort(kind="stable"))


def diffusion_order(query: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.int64]:
    """Candidates by how much of the query reaches them through the graph of neighbours: diffusion.

    Iscen, Tolias, Avrithis, Furon and Chum, Efficient diffusion on region manifolds, CVPR 2017, sections 3 and 4: items
    that are among each other's nearest are linked, the query feeds its own nearest, and the linear system is solved.
    Here the graph is that of the candidates alone.

    Args:
        query: (dimension,).
        candidates: (n, dimension), the first matches.

    Returns:
        (n,) positions of the candidates, the best first.
    """
    vectors = unit_length(candidates).astype(np.float64)
    similarities = np.clip(vectors @ vectors.T, 0, None) ** GAMMA  # (n, n)
    np.fill_diagonal(similarities, 0)
    near = (-similarities).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable") < GRAPH_NEIGHBOURS
    affinity = np.where(near & near.T, similarities, 0)
    degrees = np.sqrt(np.maximum(affinity.sum(axis=1), 1e-12))
    normalised = affinity / degrees[:, None] / degrees
    own = np.clip(vectors @ unit_length(query[None])[0], 0, None) ** GAMMA  # (n,)
    source = np.where((-own).argsort(kind="stable").argsort(kind="stable") < QUERY_NEIGHBOURS, own, 0)
    reached = np.linalg.solve(np.eye(len(vectors)) - PASSED_ON * normalised, source)
    # What nothing reaches keeps the order of its similarity, behind the others.
    return np.lexsort((-own, -np.round(reached, 12)))


def vote_of_measures(query: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.int64]:
    """Candidates by a vote of cosine, Euclidean distance and inner product: their ranks, fused reciprocally.

    Of vectors of length 1 the three agree.

    Args:
        query: (dimension,), of whatever length.
        candidates: (n, dimension), of whatever lengths.

    Returns:
        (n,) positions of the candidates, the best first.
    """
    products = candidates @ query
    cosines = products / np.maximum(np.linalg.norm(candidates, axis=1), 1e-12)
    distances = np.linalg.norm(candidates - query, axis=1)
    worst_last = np.stack([-cosines, distances, -products])  # (3, n)
    ranks = worst_last.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable") + 1
    return np.asarray((-(1 / (RRF_K + ranks)).sum(axis=0)).argsort(kind="stable"))
