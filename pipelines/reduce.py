"""Reduce: how many dimensions a collection's vectors need, and a new collection with so many."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from utilities.errors import InvalidArgument
from utilities.evaluation import TOP_K, choose_queries, exact_score, highest_precision
from utilities.labels import Labels, labelled_sample
from utilities.milvus_utilities import connect, describe_collection, read_embeddings, read_items
from utilities.reduced_collections import check_copy, copy_reduced
from utilities.reduction import FIT_SAMPLE, PrincipalComponents, dimensions_to_try
from utilities.retrieval_metrics import exact_neighbours_of_each, overlap_at_k
from utilities.settings import Settings
from utilities.splits import were_trained_on

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: The part of the full quality that has to be kept.
KEPT = 0.99


@dataclass(frozen=True)
class Worth:
    """What vectors of one number of dimensions are worth."""

    dimension: int
    #: Part of the variance along these axes.
    variance: float
    #: Mean part of each top 20 that stays the same; without labels, of the top 20 by all axes: centring alone moves
    #: neighbours, and nobody can tell then whether to worse ones.
    overlap: float
    #: By label; None where no two items share one.
    precision: float | None
    map: float | None


@dataclass(frozen=True)
class Reduction:
    """What was measured, and what was made."""

    collection: str
    #: Vectors that PCA was fitted to and that were searched with, and their dimensions.
    sample: int
    #: The precision@20 of perfect vectors: below 1 where labels have few items; None without labels.
    highest: float | None
    full: Worth
    reduced: list[Worth]
    #: The smallest number tried that keeps `KEPT` of the full quality; None if none does.
    enough: int | None
    #: The number tried with the highest mAP; None without labels.
    best: int | None
    chart: Path
    #: The new collection, its items and their dimensions; None if none was asked for.
    into: tuple[str, int, int] | None


def run(
    collection: str,
    *,
    into: str | None = None,
    pca: int | None = None,
    whiten: bool = False,
    labels: Path | None = None,
    sample: int = FIT_SAMPLE,
    out: Path,
    settings: Settings | None = None,
    progress: bool = True,
) -> Reduction:
    """Fit PCA to a collection's vectors, measure what each number of dimensions is worth, and copy it in so many.

    Nothing is embedded again: vectors are read back from Milvus.

    Args:
        collection: its name.
        into: a collection to make, or to complete, of the same items with fewer dimensions; None to measure only.
        pca: how many; by default the smallest number tried that keeps `KEPT` of the full quality, or all if none does.
        whiten: whether all dimensions are made to vary alike.
        labels: a CSV with the columns `path` and `label`; by default the folder that holds a file is its label.
        sample: at most so many vectors, drawn at random, are fitted to and searched with; with `labels`, of the items
            that it names.
        out: directory for the chart.
        settings: limits and places; from the environment by default.
        progress: whether to draw progress bars on standard error.

    Raises:
        CollectionNotFound: no such collection.
        EmbedderMismatch: the collection to complete is another one.
        InvalidArgument: a collection that is reduced already, a number of dimensions that cannot be had, too few items.
        WeightsUnavailable: the network that made the vectors is not here, so that no new one can be made of it.
        DatabaseError: Milvus failed.
    """
    settings = settings or Settings.load()
    client = connect(settings=settings, must_exist=True)
    info = describe_collection(client, collection)
    if pca and not into:
        raise InvalidArgument("--pca says how many dimensions the new collection has; name that one with --into.")
    if into:
        existing = check_copy(client, info, into, pca, settings, whiten=whiten)
        pca = pca or (existing.fingerprint.dimension if existing else None)
    items, truth = labelled_sample(read_items(client, collection, info.attributes), labels, sample)
    if info.sampling and not labels:  # Frames of one video find each other, which tells nothing of the folder's name.
        truth = Labels.of([None] * len(items))
    if len(items) <= TOP_K + 1:
        raise InvalidArgument(
            f"{collection!r} holds {len(items)} items{' with a label' if labels else ''}, too few to fit PCA to; "
            f"{TOP_K + 2} are needed."
        )
    embeddings = read_embeddings(client, info, items["id"].to_numpy(np.int64))
    components = PrincipalComponents.of(embeddings)
    if pca:
        components.projection(pca)  # which may be impossible: better now than after a minute
    queries = choose_queries(truth, but=were_trained_on(items, *(each.weights for each in info.fingerprints)))
    if not len(queries) and len(choose_queries(truth)):
        logger.warning("The network was trained on all items that could be searched with: labels are passed over.")
    full, reduced = _measure(embeddings, components, truth, queries, whiten, progress)
    enough = next((each.dimension for each in reduced if _is_enough(each, full)), None)
    best = max(reduced, key=lambda each: each.map or 0.0).dimension if full.map is not None else None
    chart = out / "reduction.png"
    _draw(chart, collection, components, full, reduced, enough, best)
    copied = None
    if into:
        dimension = pca or enough or components.rank
        projection = components.projection(dimension, whiten=whiten)
        copied = (into, copy_reduced(client, info, into, projection, settings, progress=progress), dimension)
    highest = highest_precision(truth, queries) if len(queries) else None
    return Reduction(collection, len(items), highest, full, reduced, enough, best, chart, copied)


def _measure(
    embeddings: NDArray[np.float32],
    components: PrincipalComponents,
    labels: Labels,
    queries: NDArray[np.int64],
    whiten: bool,
    progress: bool,
) -> tuple[Worth, list[Worth]]:
    reference = embeddings if len(queries) else components.projection(components.rank, whiten=whiten)(embeddings)
    neighbours = exact_neighbours_of_each(reference, TOP_K)
    variances = np.cumsum(components.variances) / components.variances.sum()

    def worth(vectors: NDArray[np.float32], variance: float) -> Worth:
        values = exact_score(vectors, labels, queries, progress=False) if len(queries) else {}
        return Worth(
            vectors.shape[1],
            variance,
            overlap_at_k(exact_neighbours_of_each(vectors, TOP_K), neighbours),
            float(values[f"precision@{TOP_K}"].mean()) if values else None,
            float(values["map"].mean()) if values else None,
        )

    tried = tqdm(dimensions_to_try(components.rank), unit="number", desc="dimensions", disable=not progress)
    reduced = [
        worth(components.projection(each, whiten=whiten)(embeddings), float(variances[each - 1])) for each in tried
    ]
    return worth(embeddings, 1.0), reduced


def _is_enough(reduced: Worth, full: Worth) -> bool:
    if reduced.precision is None or reduced.map is None or full.precision is None or full.map is None:
        return reduced.overlap >= KEPT
    return reduced.precision >= KEPT * full.precision and reduced.map >= KEPT * full.map


def _draw(
    file: Path,
    name: str,
    components: PrincipalComponents,
    full: Worth,
    reduced: list[Worth],
    enough: int | None,
    best: int | None,
) -> None:
    from utilities.charts import reduction_chart

    curves = {f"{TOP_K} nearest kept": ([each.overlap for each in reduced], full.overlap)}
    if full.precision is not None and full.map is not None:
        curves = {
            f"precision@{TOP_K}": ([each.precision or 0.0 for each in reduced], full.precision),
            "mAP": ([each.map or 0.0 for each in reduced], full.map),
            **curves,
        }
    statement = (
        f"No number that was tried keeps {KEPT:.0%} of what all {full.dimension:,} dimensions are worth (dotted)"
        if enough is None
        else f"{enough:,} of {full.dimension:,} dimensions keep {KEPT:.0%} of what all are worth (dotted), or more"
        + (f"; {best:,} have the highest mAP." if best is not None else ".")
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    dimensions = [each.dimension for each in reduced]
    variances = components.variances[: components.rank]
    reduction_chart(name, variances, dimensions, curves, enough, statement).savefig(file)
