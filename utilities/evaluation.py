"""How good a collection's answers are: each item is searched for among the others, with its label as the truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from utilities.collection_info import CollectionInfo
from utilities.labels import Labels
from utilities.milvus_utilities import nearest_that, stored_embeddings
from utilities.retrieval_metrics import (
    average_precision,
    exact_rankings,
    nearest_label,
    precision_at_k,
    recall_at_k,
)
from utilities.sampling import draw_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

#: Places at which precision, recall and accuracy are measured; the last is that of mAP@k unless another is asked for.
PLACES = (1, 5, 10, 20)
TOP_K = PLACES[-1]
#: Labelled items, if not all are, up to which Milvus is asked for these alone.
FEW = 2_000


@dataclass(frozen=True)
class Rankings:
    """What n queries, which are items themselves, found among all other items."""

    #: (n,) numbers of the items that were searched with.
    queries: NDArray[np.int64]
    #: (n, k) numbers of the items that were found, the nearest first; -1 where there was no k-th.
    neighbours: NDArray[np.int64]


def choose_queries(labels: Labels, count: int | None = None, but: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Numbers of the items that can be searched with: those that share their label with another.

    Args:
        labels: of all items.
        count: at most so many, drawn at random, the same at every call; None for all.
        but: (n,) items that must not be searched with, since the network was trained on them.

    Returns:
        (n,) sorted; none where all items have one and the same label, since then every answer would be right.
    """
    if len(labels.names) < 2:
        return np.empty(0, np.int64)
    possible = np.flatnonzero((labels.others() > 0) & ~(np.False_ if but is None else but))
    return possible if count is None else possible[draw_sample(len(possible), count)]


def leave_one_out(
    client: MilvusClient,
    info: CollectionInfo,
    ids: NDArray[np.int64],
    queries: NDArray[np.int64],
    labelled: NDArray[np.bool_],
    k: int = TOP_K,
    *,
    progress: bool = True,
) -> Rankings:
    """Search a collection, through Milvus, with the vectors of its own items; each is left out of its own answer.

    So is what has no label, since nobody knows whether it would be right, as in Philbin et al., Object retrieval with
    large vocabularies (2007). The vectors are read back as a stream: nothing is embedded again, and memory holds the
    answers alone.

    Args:
        client: from `connect`.
        info: the collection.
        ids: (n,) of its items.
        queries: (m,) numbers of those to search with, as positions in `ids`.
        labelled: (n,) which items have a label.
        k: neighbours of each.
        progress: whether to draw a progress bar on standard error.

    Returns:
        Rankings of the queries, in their order.

    Raises:
        DatabaseError: Milvus failed.
    """
    number = {int(each): row for row, each in enumerate(ids) if labelled[row]}
    # Among many others few would be met late, or never.
    few = f"id in {list(number)}" if len(number) < min(FEW, len(ids)) else ""
    place = {int(ids[query]): row for row, query in enumerate(queries)}
    neighbours = np.full((len(queries), k), -1, np.int64)
    with tqdm(total=len(queries), unit="query", desc=info.name, disable=not progress) as bar:
        for page, vectors in stored_embeddings(client, info):
            wanted = [row for row, each in enumerate(page) if each["id"] in place]
            own = [page[row]["id"] for row in wanted]

            def others(query: int, rows: list[dict[str, Any]], own: list[int] = own) -> list[dict[str, Any]]:
                return [row for row in rows if row["id"] != own[query] and row["id"] in number]

            # One more than is asked for, since an item's nearest neighbour is itself.
            search = partial(nearest_that, others, client, info, filter=few, depth=k + 1, fields=["id"])
            answers = search(vectors[wanted], min(k, len(number) - 1)) if wanted else []
            for each, answer in zip(own, answers, strict=True):
                found = [number[row["id"]] for row in answer]
                neighbours[place[each], : len(found)] = found
            bar.update(len(wanted))
    return Rankings(queries, neighbours)


def score(
    rankings: Rankings, labels: Labels, totals: NDArray[np.int64] | None = None
) -> dict[str, NDArray[np.float64]]:
    """What each query's ranking is worth, where everything with the query's label is relevant.

    Args:
        rankings: of n queries, each of which shares its label with another item.
        labels: of all items.
        totals: (n,) how much each query could find at most; by default all others with its label.

    Returns:
        Of each metric, (n,): `precision@k` and `recall@k` at as many neighbours as there are and at fewer `PLACES`,
        `accuracy@k` at `PLACES` alone, which is 1 where the k nearest neighbours vote for the query's label, and
        `map@k`, which is each query's average precision, of all neighbours.
    """
    own = labels.codes[rankings.queries]
    found = _labels_found(rankings, labels)
    relevant = found == own[:, None]
    totals = labels.others()[rankings.queries] if totals is None else totals
    top_k = relevant.shape[1]
    fewer = [k for k in PLACES if k < top_k]
    values = {f"precision@{k}": precision_at_k(relevant, k) for k in (*fewer, top_k)}
    values |= {f"recall@{k}": recall_at_k(relevant, totals, k) for k in (*fewer, top_k)}
    values[f"map@{top_k}"] = average_precision(relevant, totals, top_k)
    voting = [k for k in PLACES if k <= top_k]
    return values | {f"accuracy@{k}": (nearest_label(found, k) == own).astype(float) for k in voting}


def highest_precision(labels: Labels, queries: NDArray[np.int64], k: int = TOP_K) -> float:
    """The precision@k of perfect rankings: below 1 where labels have no more than k items."""
    return float(np.minimum(labels.others()[queries], k).mean() / k)


def exact_score(
    embeddings: NDArray[np.float32],
    labels: Labels,
    queries: NDArray[np.int64],
    among: NDArray[np.bool_] | None = None,
    *,
    progress: bool = True,
) -> dict[str, NDArray[np.float64]]:
    """As `score`, vectors with a label compared with each other by cosine, and `map`, the worth of whole rankings.

    Args:
        embeddings: (n, dimension) of all items, rows of length 1.
        labels: of all items.
        queries: (m,) numbers of the items to search with, from `choose_queries`.
        among: (n,) which items are searched; by default all.
        progress: whether to draw a progress bar on standard error.
    """
    searched = np.flatnonzero((labels.codes >= 0) & (np.True_ if among is None else among))
    neighbours, worth = [], []
    with tqdm(total=len(queries), unit="query", desc="exact search", disable=not progress) as bar:
        for nearest, values in exact_rankings(embeddings, labels.codes, queries, TOP_K, searched):
            neighbours.append(nearest)
            worth.append(values)
            bar.update(len(values))
    found = np.full((len(queries), TOP_K), -1, np.int64)
    found[:, : neighbours[0].shape[1]] = np.concatenate(neighbours)
    own = labels.codes[queries]
    totals = np.bincount(labels.codes[searched], minlength=len(labels.names))[own] - np.isin(queries, searched)
    return score(Rankings(queries, found), labels, totals) | {"map": np.concatenate(worth)}


def worst_labels(values: NDArray[np.float64], queries: NDArray[np.int64], labels: Labels) -> pd.DataFrame:
    """The mean of a metric for each label, the lowest first.

    Args:
        values: (n,) of each query.
        queries: (n,) numbers of the items that were searched with.
        labels: of all items.

    Returns:
        Columns `label`, `queries` (how many), `mean`.
    """
    table = pd.DataFrame({"label": labels.codes[queries], "mean": values})
    means = table.groupby("label")["mean"].agg(["size", "mean"]).reset_index().rename(columns={"size": "queries"})
    means["label"] = [labels.names[code] for code in means["label"]]
    return means.sort_values(["mean", "label"], ignore_index=True)


def confusions(rankings: Rankings, labels: Labels) -> pd.DataFrame:
    """Which labels are taken for which, the commonest first.

    Args:
        rankings: of n queries.
        labels: of all items.

    Returns:
        Columns `label`, `found` (another label) and `share`: the part of the label's neighbours that have the other.
    """
    own = np.repeat(labels.codes[rankings.queries], rankings.neighbours.shape[1])
    there = rankings.neighbours.ravel() >= 0
    pairs = pd.DataFrame({"label": own[there], "found": _labels_found(rankings, labels).ravel()[there]})
    totals = pairs.groupby("label").size()
    wrong = pairs[(pairs["found"] >= 0) & (pairs["found"] != pairs["label"])]
    counts = wrong.groupby(["label", "found"]).size().rename("count").reset_index()
    counts["share"] = counts["count"] / counts["label"].map(totals)
    counts = counts.sort_values(["share", "label", "found"], ascending=[False, True, True], ignore_index=True)
    for column in ("label", "found"):
        counts[column] = [labels.names[code] for code in counts[column]]
    return counts[["label", "found", "share"]]


def _labels_found(rankings: Rankings, labels: Labels) -> NDArray[np.int64]:
    """(n, k) labels of the neighbours; -1 for one without, and where there is none."""
    return np.where(rankings.neighbours >= 0, labels.codes[rankings.neighbours], -1)
