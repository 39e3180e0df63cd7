"""Search: the nearest items of vectors."""

from __future__ import annotations

import contextlib
import json
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument
from utilities.filters import check_filter
from utilities.items import ITEM_FIELDS
from utilities.milvus_client import (
    AnnSearchRequest,
    LoadState,
    MilvusClient,
    MilvusException,
    RRFRanker,
    WeightedRanker,
)
from utilities.milvus_collections import describe_collection
from utilities.milvus_connection import MESSAGE_BYTES, PAGE_ROWS, milvus_errors
from utilities.milvus_index import is_embedded, quiet, search_params
from utilities.reranking import RRF_K
from utilities.streams import in_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A server returns no more matches than this (`proxy.limits`, `quotaAndLimits.limits.topK`).
MAX_TOP_K = 16_384
#: Rows that are looked through at a time, where only some are kept: a bound on memory.
ROWS_TOGETHER = 100_000
#: Matches of each ranking that are fused, always as many, so that pages fit together; no page goes further.
FUSED = 1_000
#: Queries of one message to a server.
QUERIES_TOGETHER = 256

#: Collections of each connection that were found, or put, in use.
_in_use: weakref.WeakKeyDictionary[MilvusClient, set[str]] = weakref.WeakKeyDictionary()


def nearest_neighbours(
    client: MilvusClient,
    collection: str | CollectionInfo,
    embeddings: NDArray[np.floating[Any]],
    top_k: int = 20,
    filter: str = "",
    fields: Sequence[str] = ITEM_FIELDS,
    offset: int = 0,
    weights: Sequence[float] = (),
) -> list[list[dict[str, Any]]]:
    """The nearest items of each of several vectors.

    In an ensemble each network has a ranking of its own, and Milvus fuses them: by reciprocal rank (`reranking.RRF_K`),
    or, with `weights`, by the weighted sum of similarities, each brought to 0 to 1.

    Args:
        client: from `connect`.
        collection: its name, or what `describe_collection` said of it, which saves asking again.
        embeddings: (n, dimension), of an ensemble each query's vectors side by side; n may be any number, they are sent
            in messages of at most `MESSAGE_BYTES`.
        top_k: matches for each, 1 to `MAX_TOP_K`, or in an ensemble to `FUSED`.
        filter: a Milvus expression that the matches satisfy, such as `label == "cup"`; empty for none.
        fields: what to read of each match, beside its id; where many are asked for, most of the time goes there.
        offset: how many of the nearest to pass over; with `top_k` at most as many.
        weights: of an ensemble's networks, from 0 to 1 each; empty to fuse by rank.

    Returns:
        n lists, nearest first, each of at most `top_k` dictionaries: these fields, `id`, and `score`, which is the
        cosine or inner product, or for L2 the Euclidean distance; of an ensemble what the fusion came to.

    Raises:
        InvalidArgument: `top_k` or `offset` out of range, vectors of another dimension, or an expression that Milvus
            cannot read, or that names a field which the collection has not.
        CollectionNotFound: no such collection.
        DatabaseError: Milvus failed.
    """
    info = collection if isinstance(collection, CollectionInfo) else describe_collection(client, collection)
    check_depth(top_k, offset, fused=bool(info.others))
    check_filter(filter, info.filter_fields, info.name)
    embeddings = np.asarray(embeddings, dtype=np.float32)
    dimension = info.dimension
    if embeddings.ndim != 2 or embeddings.shape[1] != dimension:
        raise InvalidArgument(
            f"The collection {info.name!r} holds vectors of {dimension} dimensions; embeddings of shape "
            f"{embeddings.shape} cannot be compared with them."
        )
    step = min(PAGE_ROWS, max(1, MESSAGE_BYTES // (4 * dimension)))
    ahead = 1
    if not is_embedded(client):
        # While one answer is read the server works on the next; Milvus Lite has a cost of its own for each message.
        step, ahead = min(step, QUERIES_TOGETHER), 2
    search = partial(_search, client, info, top_k, filter, list(fields), offset, weights)
    messages = [embeddings[start : start + step] for start in range(0, len(embeddings), step)]
    with loaded(client, info.name, "search", filter):
        if len(messages) == 1:
            return search(messages[0])
        with ThreadPoolExecutor(ahead, "search") as pool, closing(in_order(pool, search, messages, ahead)) as answers:
            return [rows for answer in answers for rows in answer]


def check_depth(top_k: int, offset: int = 0, *, fused: bool = False) -> None:
    """Refuse more matches than Milvus returns, or than are fused.

    Raises:
        InvalidArgument: `top_k` or `offset` out of range.
    """
    most = FUSED if fused else MAX_TOP_K
    if not 1 <= top_k <= most:
        returns = "fused rankings have" if fused else "Milvus returns"
        raise InvalidArgument(f"A top-k of {top_k} cannot be had; {returns} from 1 to {most:,} matches.")
    if not 0 <= offset <= most - top_k:
        looks = "fused rankings go" if fused else "Milvus looks"
        raise InvalidArgument(
            f"{top_k:,} matches after the first {offset:,} cannot be had; {looks} no further than the first {most:,}."
        )


def nearest_that(
    keep: Callable[[int, list[dict[str, Any]]], list[dict[str, Any]]],
    client: MilvusClient,
    info: CollectionInfo,
    embeddings: NDArray[np.floating[Any]],
    top_k: int,
    filter: str = "",
    fields: Sequence[str] = ITEM_FIELDS,
    depth: int | None = None,
    weights: Sequence[float] = (),
    min_similarity: float | None = None,
) -> list[list[dict[str, Any]]]:
    """The nearest items that are kept, of each of several vectors: where too few are, it is looked further.

    Args:
        keep: given a vector's number and its nearest items, returns those of them that count, in their order.
        client: from `connect`.
        info: the collection.
        embeddings: (n, dimension).
        top_k: items for each, as for `nearest_neighbours`.
        filter: as for `nearest_neighbours`.
        fields: as for `nearest_neighbours`.
        depth: how many items to look at first; by default as many as are wanted.
        weights: as for `nearest_neighbours`.
        min_similarity: what is less similar is not shown to `keep`, nor is it looked further then.

    Returns:
        n lists as `nearest_neighbours` returns them; shorter ones where no more are kept among as many as can be had.

    Raises:
        LookalikeError: as for `nearest_neighbours`.
    """
    found: dict[int, list[dict[str, Any]]] = {}
    wanted, most = list(range(len(embeddings))), FUSED if info.others else MAX_TOP_K
    depth = min(depth or top_k, most)
    while wanted:
        further = []
        together = max(1, ROWS_TOGETHER // depth)
        for start in range(0, len(wanted), together):
            some = wanted[start : start + together]
            answers = nearest_neighbours(client, info, embeddings[some], depth, filter, fields, weights=weights)
            for number, rows in zip(some, answers, strict=True):
                near = [row for row in rows if min_similarity is None or row["score"] >= min_similarity]
                found[number] = keep(number, near)[:top_k]
                if len(found[number]) < top_k and len(near) == depth < most:
                    further.append(number)
        wanted, depth = further, min(2 * depth, most)
    return [found[number] for number in range(len(embeddings))]


def first_of_each_file(_: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For `nearest_that`: of items that come nearest first, those that are the first of their files."""
    return first_of_each(itemgetter("path"), rows)


def first_of_each(key: Callable[[dict[str, Any]], object], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of some rows that are the first with their key."""
    first: dict[object, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(key(row), row)
    return list(first.values())


def by_field(info: CollectionInfo, vectors: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Vectors by the fields that they are for: (…, dimension) is taken apart where those of one network end."""
    ends = np.cumsum([each.dimension for each in info.fingerprints])[:-1]
    return dict(zip(info.vector_fields, np.split(vectors, ends, axis=-1), strict=True))


def take_vectors(info: CollectionInfo, rows: Sequence[dict[str, Any]]) -> NDArray[np.float32]:
    """The vectors out of rows that were read with `info.vector_fields`: (n, dimension) float32, side by side."""
    columns = [np.array([row.pop(field) for row in rows], np.float32) for field in info.vector_fields]
    return np.concatenate(columns, axis=1) if rows else np.empty((0, info.dimension), np.float32)


def path_is(path: str) -> str:
    """The filter that the items of one file satisfy."""
    return f"path == {json.dumps(path, ensure_ascii=False)}"


def _search(
    client: MilvusClient,
    info: CollectionInfo,
    top_k: int,
    filter: str,
    fields: list[str],
    offset: int,
    weights: Sequence[float],
    embeddings: NDArray[np.float32],
) -> list[list[dict[str, Any]]]:
    """One message, and another where an index that does not look everywhere has found too few."""

    def row(hit: Mapping[str, Any]) -> dict[str, Any]:
        distance = float(hit["distance"])
        # Milvus returns the square of the Euclidean distance.
        score = math.sqrt(max(distance, 0.0)) if info.metric == "L2" and not info.others else distance
        return {**hit["entity"], "id": hit["id"], "score": score}

    def ask(queries: NDArray[np.float32], parameters: dict[str, Any]) -> list[list[dict[str, Any]]]:
        parts = by_field(info, queries)
        if not info.others:
            ((field, vectors),) = parts.items()
            answer = client.search(
                info.name,
                data=list(vectors),
                anns_field=field,
                limit=top_k,
                offset=offset,
                filter=filter,
                output_fields=fields,
                search_params=parameters,
            )
        else:
            requests = [
                AnnSearchRequest(list(vectors), field, parameters, looked_at, expr=filter or None)
                for field, vectors in parts.items()
            ]
            ranker = WeightedRanker(*weights) if weights else RRFRanker(RRF_K)
            answer = client.hybrid_search(info.name, requests, ranker, limit=top_k, offset=offset, output_fields=fields)
        return [[row(hit) for hit in hits] for hits in answer]

    looked_at = FUSED if info.others else offset + top_k
    quick, thorough = (search_params(client, info, looked_at, filter, thorough=each) for each in (False, True))
    found = ask(embeddings, quick)
    too_few = [number for number, rows in enumerate(found) if len(rows) < top_k]
    if too_few and quick != thorough:
        for number, rows in zip(too_few, ask(embeddings[too_few], thorough), strict=True):
            found[number] = rows
    return found


@contextlib.contextmanager
def loaded(client: MilvusClient, name: str, doing: str, filter: str = "") -> Iterator[None]:
    """Have a collection in use, and tell a filter that cannot be read from a database that failed."""
    with milvus_errors(f"{doing} {name!r}"):
        in_use = _in_use.setdefault(client, set())
        # The embedded database forgets at every start which collections are in use; a server remembers.
        if name not in in_use:
            if client.get_load_state(name)["state"] != LoadState.Loaded:
                with quiet(client):
                    client.load_collection(name)
            in_use.add(name)
        try:
            yield
        except MilvusException as error:
            in_use.discard(name)  # Perhaps another process took it out of use; the next call will see to it.
            if not filter:
                raise
            # Milvus has one kind of error for both. If it answers without the filter, the filter is at fault.
            client.query(name, filter="", output_fields=["id"], limit=1)
            reason = error.message.strip().splitlines()[0][:200].rstrip(".?")
            raise InvalidArgument(f"The filter {filter!r} cannot be applied to {name!r}: {reason}.") from error
