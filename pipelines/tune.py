"""Tune: which ways to rank pay on a collection, what they cost, and how to have the best of them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utilities.collection_info import CollectionInfo, in_words
from utilities.ensembles import embedder_of_all
from utilities.errors import InvalidArgument
from utilities.labels import Labels, labelled_sample
from utilities.milvus_utilities import connect, describe_collection, read_embeddings, read_items
from utilities.retrieval_metrics import Estimate, bootstrap
from utilities.sampling import draw_sample
from utilities.settings import Settings
from utilities.splits import were_trained_on
from utilities.tuning import (
    FEW_LABELS,
    METRICS,
    PLAIN,
    PRECISE,
    VARIANTS,
    Technique,
    Tuning,
    check_variants,
    draw_trial,
    drawn_together,
    embed_variant,
    embedding_milliseconds,
    search_milliseconds,
    times_as_long,
)

if TYPE_CHECKING:
    pass

#: Items that are searched and searched with.
SAMPLE = 5_000
#: Queries that are timed.
TIMED = 50


@dataclass(frozen=True)
class Row:
    """What a technique is worth, on labels that had no part in choosing it."""

    technique: Technique
    precision: Estimate
    map: Estimate
    #: Of each query's precision and average precision, less those of the plain search.
    precision_gain: Estimate
    map_gain: Estimate
    #: Of one query where everything is warm: of embedding one decoded picture, and of searching through Milvus.
    embedding: float
    search: float
    #: How many times as long as a plain query it takes.
    times_as_long: float

    @property
    def pays(self) -> bool:
        """Whether the gain in precision is larger than its interval."""
        return self.precision_gain.low > 0


@dataclass(frozen=True)
class TuningResult:
    """What was measured."""

    collection: str
    #: Items that were searched, queries that chose, queries that report, and the labels of these.
    searched: int
    choosing: int
    reporting: int
    choosing_labels: int
    reporting_labels: int
    #: How many combinations were tried.
    tried: int
    #: The plain search, each technique alone, and the best, if that is several together.
    rows: list[Row]
    #: What the queries that choose have chosen; perhaps the plain search.
    best: Technique
    #: What to say to have it, a command a line; none where the plain search is best.
    commands: list[str]
    chart: Path

    @property
    def has_few_labels(self) -> bool:
        """Whether intervals are of other pictures of these labels, and not of other labels."""
        return min(self.choosing_labels, self.reporting_labels) < FEW_LABELS

    @property
    def pays(self) -> bool:
        """Whether the best pays on the labels that had no part in choosing it."""
        return next(row for row in self.rows if row.technique == self.best).pays


def run(
    collection: str,
    *,
    labels: Path | None = None,
    sample: int = SAMPLE,
    slower: float = 3.0,
    embed: bool = False,
    out: Path,
    settings: Settings | None = None,
    progress: bool = True,
) -> TuningResult:
    """Try every combination of techniques on a labelled sample, choose by some labels, and report on the others.

    Args:
        collection: its name.
        labels: a CSV with the columns `path` and `label`; by default the folder that holds a file is its label.
        sample: at most so many items, drawn at random, are searched and searched with.
        slower: the best may take at most so many times as long as a plain query.
        embed: whether to embed the sample anew, too, with other views and pooling.
        out: directory for the chart.
        settings: limits and places; from the environment by default.
        progress: whether to draw progress bars on standard error.

    Raises:
        CollectionNotFound: no such collection.
        InvalidArgument: a collection of videos, of several networks, one whose vectors were moved already or keep their
            length, too few items with labels, or a collection whose images cannot be embedded in another way.
        WeightsUnavailable: the collection's network cannot be had.
        DatabaseError: Milvus failed.
    """
    settings = settings or Settings.load()
    client = connect(settings=settings, must_exist=True)
    info = describe_collection(client, collection)
    if info.sampling:
        raise InvalidArgument(
            f"{collection!r} holds videos, whose frames find each other; tune images, or faces in them."
        )
    if info.augmented:
        raise InvalidArgument(
            f"The vectors of {collection!r} were moved towards their neighbours, which know their labels; tune the "
            "collection that they are of."
        )
    if info.others or info.fingerprint.keep_length:
        raise InvalidArgument(
            f"tune compares unit vectors of one network; {collection!r} holds those of {in_words(info.fingerprints)}."
        )
    if embed:
        check_variants(info)
    embedder = embedder_of_all(info.fingerprints, settings)
    items, truth = labelled_sample(read_items(client, collection, info.attributes), labels, sample)
    taught = were_trained_on(items, *(each.weights for each in info.fingerprints))
    truth = Labels(np.where(taught, -1, truth.codes), truth.names)
    ids = items["id"].to_numpy(np.int64)
    vectors = {PLAIN.variant: read_embeddings(client, info, ids)}
    embedding = {PLAIN.variant: embedding_milliseconds(embedder)}
    for variant in VARIANTS if embed else ():
        other, found = embed_variant(info, items, variant, settings, progress=progress)
        nothing = np.zeros(other.dimension, np.float32)
        vectors[str(variant)] = np.stack([found.get(id_, nothing) for id_ in ids])
        embedding[str(variant)] = embedding_milliseconds(other)
        truth = Labels(np.where(np.isin(ids, [*found]), truth.codes, -1), truth.names)
    trial = draw_trial(truth)
    if trial is None:
        raise InvalidArgument(
            f"The labels of {collection!r} tell too little: two of them, at least, need three items each"
            f"{' that the network was not trained on' if taught.any() else ''}; give a CSV with --labels."
        )
    tuning = Tuning(vectors, truth, trial)
    techniques = [*tuning.techniques(reducible=_is_reducible(info))]
    timed = vectors[PLAIN.variant][trial.queries[draw_sample(len(trial.queries), TIMED)]]
    search = search_milliseconds(client, info, timed, techniques)
    times = times_as_long(embedding, search)
    tried = tuning.try_all(times, slower, progress=progress)
    worth, chosen = tried.worth, tried.best
    codes = truth.codes[trial.queries]
    shown = [PLAIN, *(each for each in worth if each.parts == 1), *([chosen] if chosen.parts > 1 else [])]

    estimate = partial(bootstrap, groups=drawn_together(codes[~trial.choosing]))

    def row(technique: Technique) -> Row:
        values, plain = ([worth[each][metric][~trial.choosing] for metric in METRICS] for each in (technique, PLAIN))
        return Row(
            technique=technique,
            precision=estimate(values[0]),
            map=estimate(values[1]),
            precision_gain=estimate(values[0] - plain[0]),
            map_gain=estimate(values[1] - plain[1]),
            embedding=embedding[technique.variant],
            search=search[technique],
            times_as_long=times[technique],
        )

    rows = [row(technique) for technique in shown]
    chart = out / "tuning.png"
    _draw(chart, collection, rows)
    return TuningResult(
        collection=collection,
        searched=len(trial.searched),
        choosing=int(trial.choosing.sum()),
        reporting=int((~trial.choosing).sum()),
        choosing_labels=len(np.unique(codes[trial.choosing])),
        reporting_labels=len(np.unique(codes[~trial.choosing])),
        tried=len(worth),
        rows=rows,
        best=chosen,
        commands=_commands(info, chosen),
        chart=chart,
    )


def _is_reducible(info: CollectionInfo) -> bool:
    """Whether `lookalike reduce` could make a copy with fewer dimensions."""
    return not info.fingerprint.pca_digest


def _commands(info: CollectionInfo, technique: Technique) -> list[str]:
    """What to say to have a technique."""
    commands, name = [], info.name
    if technique.variant:
        known, variant = info.fingerprint, next(each for each in VARIANTS if str(each) == technique.variant)
        name += "_tuned"
        commands.append(
            f"lookalike load {shlex.quote(str(info.root))} --collection {name} --backbone {known.backbone} "
            f"--weights {shlex.quote(known.weights)} --views {variant.views} --pooling {variant.pooling} "
            f"--metric {info.metric.lower()}"
        )
    if technique.pca:
        commands.append(f"lookalike reduce {name} --into {name}_{technique.pca} --pca {technique.pca}")
        name += f"_{technique.pca}"
    if technique.augment:
        commands.append(f"lookalike augment {name} --into {name}_augmented --neighbours {technique.augment}")
        name += "_augmented"
    flags = [f"--expand {technique.expand}"] if technique.expand else []
    flags += [f"--rerank {technique.rerank}"] if technique.rerank else []
    if technique == PLAIN:
        return []
    return [*commands, " ".join(["lookalike query IMAGE --collection", name, *flags])]


def _draw(file: Path, collection: str, rows: list[Row]) -> None:
    from utilities.charts import gains_chart

    file.parent.mkdir(parents=True, exist_ok=True)
    gains = [(str(row.technique), row.precision_gain, row.times_as_long) for row in rows[1:]]
    gains_chart(collection, PRECISE, rows[0].precision, gains).savefig(file)
