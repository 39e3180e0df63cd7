"""Evaluate: how good the answers of a collection are, by its own labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument
from utilities.evaluation import (
    TOP_K,
    Rankings,
    choose_queries,
    confusions,
    exact_score,
    highest_precision,
    leave_one_out,
    score,
    worst_labels,
)
from utilities.faces import boxes_of
from utilities.labels import Labels, labels_of
from utilities.matches import pictures_of
from utilities.milvus_utilities import connect, describe_collection, read_embeddings, read_items
from utilities.retrieval_metrics import Estimate, bootstrap
from utilities.settings import Settings
from utilities.splits import were_trained_on
from utilities.verification import Verification, rows_to_verify, verify

logger = logging.getLogger(__name__)

#: Queries of the picture, and neighbours of each.
WORST_QUERIES, NEIGHBOURS_SHOWN = 8, 8


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    collection: str
    items: int
    #: How many labels there are, and how many items have none, or one that no other item has: these are no queries.
    labels: int
    not_searched_with: int
    #: Items that the network was trained on, which are not searched with either.
    trained_on: int
    queries: int
    #: Neighbours of each query, and the precision@k of perfect answers: below 1 where labels have few items.
    top_k: int
    highest: float
    #: By metric: `precision@20`, `recall@20`, `map@20`, `accuracy@5` and so on; `map` if it was asked for.
    figures: dict[str, Estimate]
    #: Columns `label`, `queries`, `mean`: precision@k, the lowest first.
    worst: pd.DataFrame
    #: Columns `label`, `found`, `share`: the commonest first.
    confusions: pd.DataFrame
    #: The queries whose neighbours are the least right.
    picture: Path
    #: How well a threshold tells one person's faces from another's, and its chart; None for images.
    verification: Verification | None
    roc: Path | None


def run(
    collection: str,
    *,
    labels: Path | None = None,
    queries: int | None = None,
    top_k: int = TOP_K,
    exact: bool = False,
    out: Path,
    settings: Settings | None = None,
    progress: bool = True,
) -> Evaluation:
    """Search a collection with each of its own items, and count what has the same label.

    Args:
        collection: its name.
        labels: a CSV with the columns `path` and `label`; by default the folder that holds a file is its label.
        queries: at most so many items to search with, drawn at random; by default all of them.
        top_k: neighbours of each; with as many as there are other items `map@k` is that of whole rankings.
        exact: whether to rank everything for each query, without Milvus, which gives the full mAP.
        out: directory for the picture of the worst queries.
        settings: limits and places; from the environment by default.
        progress: whether to draw progress bars on standard error.

    Raises:
        CollectionNotFound: no such collection.
        InvalidArgument: a CSV that cannot be used, no two items with one label, or more neighbours than Milvus gives.
        DatabaseError: Milvus failed.
    """
    settings = settings or Settings.load()
    client = connect(settings=settings, must_exist=True)
    info = describe_collection(client, collection)
    if info.sampling:
        raise InvalidArgument(
            f"{collection!r} holds videos: what one video shows would only find itself; evaluate a collection of "
            "images or of faces in images."
        )
    if info.augmented:
        logger.warning(
            "The items of %r have moved towards each other, also those searched with: what is measured "
            "is too good; `lookalike tune` measures the collection that they are of.",
            collection,
        )
    items = read_items(client, collection, info.attributes)
    ids = items["id"].to_numpy(np.int64)
    truth = labels_of(items, labels)
    taught = were_trained_on(items, *(each.weights for each in info.fingerprints))
    chosen = choose_queries(truth, queries, taught)
    if not len(chosen) and len(choose_queries(truth)):
        raise InvalidArgument(
            f"All {taught.sum():,} items of {collection!r} that could be searched with are images that its network was "
            "trained on; load others, too."
        )
    if not len(chosen):
        raise InvalidArgument(
            f"The labels of the {len(items):,} items of {collection!r} tell nothing: some items must share one, and "
            "not all of them; give a CSV with --labels."
        )
    rankings = leave_one_out(client, info, ids, chosen, truth.codes >= 0, top_k, progress=progress)
    values = score(rankings, truth)
    if exact and info.others:
        logger.warning(
            "map compares by the mean cosine of the networks of %r; all else ranks as a query does, by fusion.",
            collection,
        )
    everything = read_embeddings(client, info, ids) if exact else None
    if everything is not None:
        values["map"] = exact_score(everything, truth, chosen, progress=progress)["map"]
    verification = None
    if info.of_faces:
        rows = rows_to_verify(truth)
        vectors = read_embeddings(client, info, ids[rows]) if everything is None else everything[rows]
        verification = verify(vectors, truth.take(rows))
    precision = values[f"precision@{top_k}"]
    picture = out / "worst_queries.png"
    _draw_worst(picture, info, items, truth, rankings, precision, settings)
    roc = out / "roc.png" if verification else None
    if verification and roc:
        from utilities.charts import roc_chart

        roc_chart(info.name, verification).savefig(roc)
    return Evaluation(
        collection=collection,
        items=len(items),
        labels=len(truth.names),
        not_searched_with=int((truth.others() == 0).sum()),
        trained_on=int(taught.sum()),
        queries=len(chosen),
        top_k=top_k,
        highest=highest_precision(truth, chosen, top_k),
        figures={name: bootstrap(each) for name, each in values.items()},
        worst=worst_labels(precision, chosen, truth),
        confusions=confusions(rankings, truth),
        picture=picture,
        verification=verification,
        roc=roc,
    )


def _draw_worst(
    file: Path,
    info: CollectionInfo,
    items: pd.DataFrame,
    labels: Labels,
    rankings: Rankings,
    precision: np.ndarray[tuple[int], np.dtype[np.float64]],
    settings: Settings,
) -> None:
    from utilities.plots import Tile, neighbour_rows

    paths = items["path"].tolist()
    pictures, boxes = pictures_of(info, items), boxes_of(items)

    def tile(item: int, sign: str) -> Tile:
        label = labels.names[labels.codes[item]] if labels.codes[item] >= 0 else "no label"
        return Tile(pictures[item], sign + label, Path(paths[item]).name, boxes[item])

    rows = []
    for query in np.argsort(precision, kind="stable")[:WORST_QUERIES]:
        own = rankings.queries[query]
        found = [each for each in rankings.neighbours[query, :NEIGHBOURS_SHOWN] if each >= 0]
        signs = ["✓ " if labels.codes[each] == labels.codes[own] else "✗ " for each in found]
        rows.append((tile(own, ""), [tile(each, sign) for each, sign in zip(found, signs, strict=True)]))
    file.parent.mkdir(parents=True, exist_ok=True)
    top_k = rankings.neighbours.shape[1]
    heading = f"{info.name}: the queries with the fewest right among {top_k:,}, and their first neighbours"
    neighbour_rows(rows, heading=heading, settings=settings).savefig(file)
