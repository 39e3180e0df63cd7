"""The items that answer vectors, as a selection wants them: searched, expanded, re-ranked, grouped, and cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.collection_info import CollectionInfo
from utilities.milvus_utilities import first_of_each, nearest_neighbours, nearest_that, take_vectors
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
    if selection.min_similarity is not None:
        least = selection.min_similarity
        answers = [[row for row in rows if row["score"] >= least] for rows in answers]
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
        embedding = expanded(embedding, take_vectors(info, rows))
    reordered = None
    if selection.rerank:  # Vectors of these alone: a page may end thousands of matches further.
        (rows,) = nearest_neighbours(
            client, info, embedding[None], RERANKED, filter, info.vector_fields, weights=weights
        )
        order = ORDERS[selection.rerank](embedding, take_vectors(info, rows))
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
    if not (reordered or info.of_faces or selection.group_by):
        return nearest_neighbours(client, info, embeddings, top_k, filter, fields, offset, weights)
    first = first_of_groups(info, selection)

    def keep(_: int, rows: _Rows) -> _Rows:
        return first(reordered(rows) if reordered else rows)

    wanted = offset + top_k
    depth = max(wanted, RERANKED) if reordered else wanted
    nearest = nearest_that(keep, client, info, embeddings, wanted, filter, fields, depth, weights)
    return [rows[offset:] for rows in nearest]


def first_of_groups(info: CollectionInfo, selection: Selection) -> Callable[[_Rows], _Rows]:
    """What keeps of rows those that come first of their image, where the items are faces, and of their group."""
    by_image: Callable[[dict[str, Any]], object] | None = itemgetter("path") if info.of_faces else None
    keys = [key for key in (by_image, selection.group) if key]

    def keep(rows: _Rows) -> _Rows:
        for key in keys:
            rows = first_of_each(key, rows)
        return rows

    return keep
