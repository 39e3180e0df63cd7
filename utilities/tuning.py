"""Which ways to rank pay on a collection: each tried on some labels, and judged on the others."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from utilities.collection_info import CollectionInfo, in_words
from utilities.embedder import Embedder, load_embedder
from utilities.errors import InvalidArgument
from utilities.item_streams import embed_sample
from utilities.items import ITEM_FIELDS
from utilities.labels import Labels
from utilities.ranking import ORDERS, RERANKED, ranked_items
from utilities.reduction import PrincipalComponents
from utilities.reranking import augmented, expanded
from utilities.retrieval_metrics import average_precision, exact_neighbours_of_each, precision_at_k
from utilities.selections import Selection
from utilities.settings import Settings
from utilities.variants import Variant

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

#: What is tried: dimensions of PCA, neighbours that items and queries are moved towards, and orders of the first 100.
DIMENSIONS, AUGMENTED, EXPANDED, ORDERED = (64, 128, 256), (10,), (10,), ("reciprocal", "diffusion")
#: Of each label at most so many items are searched with, and at most this part of them; the rest is searched.
MOST_QUERIES, QUERIES_PART = 10, 1 / 3
#: Places at which precision is measured.
TOP_K = 20
#: What techniques are judged by; the first chooses.
METRICS = (PRECISE := f"precision@{TOP_K}", "map")
#: Of fewer labels it cannot be told how labels differ.
FEW_LABELS = 10
#: Other ways to embed that are tried.
VARIANTS = (
    Variant(views="crop"),
    Variant(views="pad"),
    Variant(views="squash,mirror"),
    Variant(views="squash,crop"),
    Variant(views="squash,crop,pad,zoom,mirror"),
    Variant(pooling="gem"),
)
#: Queries that are ranked at a time: a bound on memory.
QUERIES_TOGETHER = 512
#: Times that one picture is embedded to see how long it takes.
EMBEDDED = 10


@dataclass(frozen=True)
class Technique:
    """A way to search; what is left at its default is not done."""

    #: How images are embedded, as a `Variant` is called, where that is not as the collection's were.
    variant: str = ""
    #: Dimensions that vectors are projected to.
    pca: int = 0
    #: Neighbours that each item is moved towards.
    augment: int = 0
    #: Neighbours that the query is moved towards.
    expand: int = 0
    #: Into which order the first 100 are put.
    rerank: str = ""

    @property
    def parts(self) -> int:
        """How many things are done."""
        return sum(bool(getattr(self, each.name)) for each in fields(self))

    def __str__(self) -> str:
        said = [
            self.variant,
            f"PCA to {self.pca}" if self.pca else "",
            f"augmented by {self.augment}" if self.augment else "",
            f"expanded by {self.expand}" if self.expand else "",
            f"re-ranked by {self.rerank}" if self.rerank else "",
        ]
        return ", ".join(filter(None, said)) or "plain"


PLAIN = Technique()


@dataclass(frozen=True)
class Trial:
    """What is searched with, what is searched, and which of the queries choose the technique."""

    #: (q,) numbers of the items that are searched with, and (s,) of those that are searched: no item is both.
    queries: NDArray[np.int64]
    searched: NDArray[np.int64]
    #: (q,) which queries choose; the others, of other labels, report.
    choosing: NDArray[np.bool_]


def draw_trial(labels: Labels) -> Trial | None:
    """Draw queries of each label, and half of the labels to choose by, the same at every call.

    Args:
        labels: of n items; one without a label is neither searched nor searched with.

    Returns:
        None where fewer than two labels have items enough.
    """
    random = np.random.default_rng(0)
    queries: list[NDArray[np.int64]] = []
    usable = []
    for code in range(len(labels.names)):
        items = np.flatnonzero(labels.codes == code)
        count = min(MOST_QUERIES, int(len(items) * QUERIES_PART))
        if count:
            queries.append(random.permutation(items)[:count])
            usable.append(code)
    if len(usable) < 2:
        return None
    chosen = random.permutation(usable)[: len(usable) // 2]
    drawn = np.sort(np.concatenate(queries))
    searched = np.setdiff1d(np.flatnonzero(labels.codes >= 0), drawn)
    return Trial(drawn, searched, np.isin(labels.codes[drawn], chosen))


@dataclass(frozen=True)
class Tried:
    """What techniques were worth."""

    #: By technique and metric, as from `Tuning.try_out`.
    worth: dict[Technique, dict[str, NDArray[np.float64]]]
    #: What the queries that choose have chosen, perhaps the plain search.
    best: Technique


class Tuning:
    """Techniques, tried on vectors in memory: what two of them have in common is done once."""

    def __init__(self, vectors: Mapping[str, NDArray[np.float32]], labels: Labels, trial: Trial) -> None:
        """Prepare.

        Args:
            vectors: by `Technique.variant`, (n, dimension) of all items, rows of length 1.
            labels: of the n items.
            trial: from `draw_trial`.
        """
        self.vectors, self.trial = vectors, trial
        self._found = labels.codes[trial.searched]
        self._wanted = labels.codes[trial.queries]
        self._totals = np.bincount(self._found, minlength=len(labels.names))[self._wanted]
        self._components = cache(self._fit)
        self._projected, self._moved = cache(self._project), cache(self._augment)

    def techniques(self, *, reducible: bool = True) -> Iterator[Technique]:
        """Every combination for each way to embed, the plain search first; with PCA if vectors are `reducible`."""
        for variant in self.vectors:
            dimensions = [each for each in DIMENSIONS if reducible and each < self._components(variant).rank]
            for pca, augment, expand, rerank in itertools.product(
                (0, *dimensions), (0, *AUGMENTED), (0, *EXPANDED), ("", *ORDERED)
            ):
                yield Technique(variant, pca, augment, expand, rerank)

    def try_all(self, times: Mapping[Technique, float], slower: float, *, progress: bool = True) -> Tried:
        """Try each technique alone, and the combinations that are quick enough, of other ways to embed only the best's.

        Args:
            times: from `times_as_long`, of all `techniques`.
            slower: the best may take at most so many times as long as a plain query.
            progress: whether to draw progress bars on standard error.
        """
        worth: dict[Technique, dict[str, NDArray[np.float64]]] = {}

        def values(technique: Technique) -> NDArray[np.float64]:
            return worth[technique][PRECISE][self.trial.choosing]

        def try_more(some: Iterable[Technique]) -> None:
            new = [each for each in some if each not in worth]
            bar = tqdm(new, unit="technique", desc="techniques", disable=not (progress and new))
            worth.update({each: self.try_out(each) for each in bar})

        quick = [each for each, taken in times.items() if taken <= slower or each == PLAIN]
        try_more(each for each in times if each.parts <= 1)
        try_more(each for each in quick if not each.variant)
        seen = [each for each in quick if each == Technique(each.variant)]
        sees_best = max(seen, key=lambda each: values(each).mean())
        try_more(each for each in quick if each.variant == sees_best.variant)
        labels = self._wanted[self.trial.choosing]
        return Tried(worth, choose({each: values(each) for each in quick if each in worth}, labels))

    def try_out(self, technique: Technique) -> dict[str, NDArray[np.float64]]:
        """`precision@20` and `map`, of whole rankings, of each query: (q,) each; vectors are compared by cosine."""
        everything, items = self._moved(technique.variant, technique.pca, technique.augment)
        blocks = []
        for start in range(0, len(everything), QUERIES_TOGETHER):
            rows = slice(start, start + QUERIES_TOGETHER)
            nearest = self._ranked(technique, everything[rows], items)
            relevant = self._found[nearest] == self._wanted[rows, None]
            blocks.append((precision_at_k(relevant, TOP_K), average_precision(relevant, self._totals[rows])))
        return dict(zip(METRICS, map(np.concatenate, zip(*blocks, strict=True)), strict=True))

    def _ranked(
        self, technique: Technique, queries: NDArray[np.float32], items: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """(q, s) numbers of the items, the best first."""
        nearest = np.argsort(-(queries @ items.T), axis=1, kind="stable")
        if technique.expand:
            near = items[nearest[:, : technique.expand]]
            queries = np.stack([expanded(query, each) for query, each in zip(queries, near, strict=True)])
            nearest = np.argsort(-(queries @ items.T), axis=1, kind="stable")
        if technique.rerank:
            order = ORDERS[technique.rerank]
            with threadpool_limits(1):  # The matrices are small: more threads only wait for each other.
                for query, row in zip(queries, nearest, strict=True):
                    first = row[:RERANKED].copy()
                    row[:RERANKED] = first[order(query, items[first])]
        return nearest

    def _fit(self, variant: str) -> PrincipalComponents:
        return PrincipalComponents.of(self.vectors[variant][self.trial.searched])

    def _project(self, variant: str, pca: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        vectors = self.vectors[variant]
        queries, items = vectors[self.trial.queries], vectors[self.trial.searched]
        if not pca:
            return queries, items
        projection = self._components(variant).projection(pca)
        return projection(queries), projection(items)

    def _augment(self, variant: str, pca: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        queries, items = self._projected(variant, pca)
        if not count:
            return queries, items
        neighbours = exact_neighbours_of_each(items, count)
        blocks = range(0, len(items), QUERIES_TOGETHER)
        moved = [
            augmented(items[start : start + QUERIES_TOGETHER], items[neighbours[start : start + QUERIES_TOGETHER]])
            for start in blocks
        ]
        return queries, np.concatenate(moved)


def drawn_together(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(q,) groups of queries with these labels: queries of one label gain together, so that labels are what chance has
    drawn; but where there are few labels, each query is a group.
    """
    return labels if len(np.unique(labels)) >= FEW_LABELS else np.arange(len(labels))


def choose(values: Mapping[Technique, NDArray[np.float64]], labels: NDArray[np.int64]) -> Technique:
    """Of the techniques within one standard error of the best, one that does least, and of these the best.

    Breiman et al., Classification and Regression Trees (1984), section 3.4.3: the 1 SE rule. The error is that of the
    difference to the best, by `drawn_together`.

    Args:
        values: of each technique, (q,) a metric of the queries that choose.
        labels: (q,) of these queries.
    """
    numbers = np.unique(drawn_together(labels), return_inverse=True)[1]
    means = {each: np.bincount(numbers, value) / np.bincount(numbers) for each, value in values.items()}
    best = max(means, key=lambda each: means[each].mean())

    def is_as_good(technique: Technique) -> bool:
        differences = means[best] - means[technique]
        return bool(differences.mean() <= differences.std() / np.sqrt(max(1, len(differences) - 1)))

    as_good = [each for each in means if is_as_good(each)]
    least = min(each.parts for each in as_good)
    return max((each for each in as_good if each.parts == least), key=lambda each: means[each].mean())


def search_milliseconds(
    client: MilvusClient, info: CollectionInfo, vectors: NDArray[np.float32], techniques: Sequence[Technique]
) -> dict[Technique, float]:
    """How long a search takes, by what is done of each technique when a query comes; the median of all vectors.

    Args:
        client: from `connect`.
        info: the collection, as it is: its own vectors are searched, whatever a technique would make of them.
        vectors: (n, dimension) to search with, each in turn by every technique.
        techniques: what is timed; those that do the same with a query are timed once.
    """
    selections = {each: Selection(TOP_K, expand=each.expand, rerank=each.rerank) for each in techniques}
    times: dict[Selection, list[float]] = {each: [] for each in selections.values()}
    for vector in vectors:
        for selection, taken in times.items():
            start = time.perf_counter()
            ranked_items(client, info, vector[None], selection, ITEM_FIELDS)
            taken.append(1_000 * (time.perf_counter() - start))
    return {technique: statistics.median(times[selection]) for technique, selection in selections.items()}


def times_as_long(embedding: Mapping[str, float], search: Mapping[Technique, float]) -> dict[Technique, float]:
    """How many times as long as a plain query each technique takes, where its picture is decoded.

    Args:
        embedding: milliseconds that embedding takes, by `Technique.variant`.
        search: from `search_milliseconds`.
    """
    plain = embedding[PLAIN.variant] + search[PLAIN]
    return {each: (embedding[each.variant] + taken) / plain for each, taken in search.items()}


def embedding_milliseconds(embedder: Embedder) -> float:
    """How long it takes to embed one picture that is decoded; the median of `EMBEDDED` times, after the first."""
    pixels = np.zeros((1, *embedder.input_shape), np.uint8)
    times = []
    for _ in range(1 + EMBEDDED):
        start = time.perf_counter()
        embedder.embed(pixels)
        times.append(1_000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def check_variants(info: CollectionInfo) -> None:
    """Refuse a collection whose images cannot be embedded in another way to compare.

    Raises:
        InvalidArgument: it holds faces, or vectors of a network that was fitted to images or is a variant already; or
            nobody knows where its files lie.
    """
    known = info.fingerprint
    if info.root is None:
        raise InvalidArgument(f"--embed reads the files again, and {info.name!r} has no root. Leave it out.")
    if info.of_faces or known.depends_on_images or str(known.variant):
        raise InvalidArgument(
            f"--embed tries other views and pooling beside those of a plain network; {info.name!r} holds "
            f"{'faces' if info.of_faces else f'vectors of {in_words(info.fingerprints)}'}. Leave it out."
        )


def embed_variant(
    info: CollectionInfo, items: pd.DataFrame, variant: Variant, settings: Settings, *, progress: bool
) -> tuple[Embedder, dict[int, NDArray[np.float32]]]:
    """Embed a collection's images in another way.

    Args:
        info: the collection.
        items: the rows of those to embed, with the column `path`.
        variant: how.
        settings: limits and places.
        progress: whether to draw a progress bar on standard error.

    Returns:
        What embeds so, and the vectors by the items' ids; none of a file that cannot be read.

    Raises:
        WeightsUnavailable: the weights cannot be had.
    """
    known = info.fingerprint
    embedder = load_embedder(known.backbone, known.weights, settings, variant=variant)
    root = info.root or Path()
    found, vectors = embed_sample(
        root, items["path"].tolist(), embedder, settings, name=str(variant), progress=progress
    )
    return embedder, {item.id: vector for item, vector in zip(found, vectors, strict=True)}
