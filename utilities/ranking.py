"""The items that answer vectors, as a selection wants them: searched, expanded, re-ranked, grouped, and cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.collection_info import CollectionInfo
from utilities.milvus_utilities import by_field, first_of_each, nearest_neighbours, nearest_that, take_vectors
from utilities.reduction import unit_length
from utilities.reranking import diffusion_order, expanded, reciprocal_order, vote_of_measures
from utilities.selections import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

#: Matches that are re-ranked; those behind them keep their order.
RERANKED = 100
ORDERS = {"reciprocal": reciprocal_order, "diffusion": diffusion_order, "measures": vote_of_measures}

_Rows = list[dict[str, Any]]


def ranked_items(
    client: MilvusClient,
    info: CollectionInfo,
    embeddings: NDArray[np.float32],
    selection: Selection,
    fields: Sequence[str],
) -> list[_Rows]:
    """The items that answer each of several vectors.

    Args:
        client: from `connect`.
        info: a collection of images, or of faces in them, of which the nearest stands for its image; as
            `selection.check` returned it.
        embeddings: (n, dimension), of an ensemble each query's vectors side by side.
        selection: which are wanted.
        fields: what to read of each, beside its id.

    Returns:
        n lists as `nearest_neighbours` returns them. `score` is that of the search, of an expanded query its own; after
        re-ranking it need not fall.

    Raises:
        LookalikeError: as for `nearest_neighbours`.
    """
    if selection.expand or selection.rerank:
        # With each of these, vectors of its neighbours are read: one at a time bounds memory.
        answers = [_refined(client, info, embedding, selection, fields) for embedding in embeddings]
    else:
        answers = _nearest(client, info, embeddings, selection, fields)
    return answers


def _refined(
    client: MilvusClient,
    info: CollectionInfo,
    embedding: NDArray[np.float32],
    selection: Selection,
    fields: Sequence[str],
) -> _Rows:
    filter, weights = selection.filter, selection.weights
    if selection.expand:
        (rows,) = nearest_neighbours(
            client, info, embedding[None], selection.expand, filter, info.vector_fields, weights=weights
        )
        own, near = by_field(info, embedding), by_field(info, take_vectors(info, rows))
        embedding = np.concatenate([expanded(own[each], near[each]) for each in info.vector_fields])
    reordered = None
    if selection.rerank:  # Vectors of these alone: a page may end thousands of matches further.
        (rows,) = nearest_neighbours(
            client, info, embedding[None], RERANKED, filter, info.vector_fields, weights=weights
        )
        vectors = take_vectors(info, rows)
        if info.others:
            embedding_of_all, vectors = (_balanced(info, each, weights) for each in (embedding[None], vectors))
            order = ORDERS[selection.rerank](embedding_of_all[0], vectors)
        else:
            order = ORDERS[selection.rerank](embedding, vectors)
        places = {rows[row]["id"]: place for place, row in enumerate(order)}
        reordered = partial(sorted, key=lambda row: places.get(row["id"], RERANKED))
    (rows,) = _nearest(client, info, embedding[None], selection, fields, reordered)
    return rows


def _nearest(
    client: MilvusClient,
    info: CollectionInfo,
    embeddings: NDArray[np.float32],
    selection: Selection,
    fields: Sequence[str],
    reordered: Callable[[_Rows], _Rows] | None = None,
) -> list[_Rows]:
    """The page that is asked for of the nearest, in another order perhaps, or of the first of each group."""
    top_k, offset, filter, weights = selection.top_k, selection.offset, selection.filter, selection.weights
    least = selection.min_similarity
    if not (reordered or info.of_faces or selection.group_by):
        nearest = nearest_neighbours(client, info, embeddings, top_k, filter, fields, offset, weights)
        return [[row for row in rows if least is None or row["score"] >= least] for rows in nearest]
    first = first_of_groups(info, selection)

    def keep(_: int, rows: _Rows) -> _Rows:
        return first(reordered(rows) if reordered else rows)

    wanted = offset + top_k
    depth = max(wanted, RERANKED) if reordered else wanted
    nearest = nearest_that(keep, client, info, embeddings, wanted, filter, fields, depth, weights, least)
    return [rows[offset:] for rows in nearest]


def _balanced(info: CollectionInfo, vectors: NDArray[np.float32], weights: Sequence[float]) -> NDArray[np.float32]:
    """Vectors of an ensemble whose cosine is the mean, or the weighted mean, of the networks' cosines.

    Args:
        info: the ensemble.
        vectors: (n, dimension), side by side and of any lengths.
        weights: of the networks, not all 0; empty if they count alike.
    """
    roots = np.sqrt(weights or [1.0] * len(info.vector_fields))
    parts = zip(roots, by_field(info, vectors).values(), strict=True)
    return np.concatenate([np.float32(root) * unit_length(part) for root, part in parts], axis=1)


def first_of_groups(info: CollectionInfo, selection: Selection) -> Callable[[_Rows], _Rows]:
    """What keeps of rows those that come first of their image, where the items are faces, and of their group."""
    by_image: Callable[[dict[str, Any]], object] | None = itemgetter("path") if info.of_faces else None
    keys = [key for key in (by_image, selection.group) if key]

    def keep(rows: _Rows) -> _Rows:
        for key in keys:
            rows = first_of_each(key, rows)
        return rows

    return keep
