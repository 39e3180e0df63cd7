"""Tune: which ways to rank pay on a collection, what they cost, and how to have the best of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utilities.errors import InvalidArgument
from utilities.labels import Labels, labelled_sample
from utilities.milvus_utilities import connect, describe_collection, read_embeddings, read_items
from utilities.retrieval_metrics import Estimate, bootstrap
from utilities.sampling import draw_sample
from utilities.settings import Settings
from utilities.splits import were_trained_on
from utilities.tuning import PLAIN, TOP_K, Technique, Tuning, choose, draw_trial, query_milliseconds

#: Items that are searched and searched with.
SAMPLE = 5_000
#: Queries that are timed.
TIMED = 50
METRICS = (f"precision@{TOP_K}", "map")


@dataclass(frozen=True)
class Row:
    """What a technique is worth, on labels that had no part in choosing it."""

    technique: Technique
    precision: Estimate
    map: Estimate
    #: Of each query's precision and average precision, less those of the plain search.
    precision_gain: Estimate
    map_gain: Estimate
    #: Of one search through Milvus, embedding left out.
    milliseconds: float
    #: How many times as long as the plain search takes.
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
    #: The plain search, each technique alone, and the best combination, which comes last.
    rows: list[Row]
    #: What to say to have the best, a command a line; none where the plain search is best.
    commands: list[str]
    chart: Path


def run(
    collection: str,
    *,
    labels: Path | None = None,
    sample: int = SAMPLE,
    slower: float = 3.0,
    out: Path,
    settings: Settings | None = None,
    progress: bool = True,
) -> TuningResult:
    """Try every combination of techniques on a labelled sample, choose by some labels, and report on the others.

    Args:
        collection: its name.
        labels: a CSV with the columns `path` and `label`; by default the folder that holds a file is its label.
        sample: at most so many items, drawn at random, are searched and searched with.
        slower: the best may take at most so many times as long as the plain search.
        out: directory for the chart.
        settings: limits and places; from the environment by default.
        progress: whether to draw progress bars on standard error.

    Raises:
        CollectionNotFound: no such collection.
        InvalidArgument: a collection of videos, one whose vectors were moved already, or too few items with labels.
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
    items, truth = labelled_sample(read_items(client, collection, info.attributes), labels, sample)
    taught = were_trained_on(items, *(each.weights for each in info.fingerprints))
    truth = Labels(np.where(taught, -1, truth.codes), truth.names)
    trial = draw_trial(truth)
    if trial is None:
        raise InvalidArgument(
            f"The labels of {collection!r} tell too little: two of them, at least, need three items each"
            f"{' that the network was not trained on' if taught.any() else ''}; give a CSV with --labels."
        )
    vectors = read_embeddings(client, info, items["id"].to_numpy(np.int64))
    tuning = Tuning({PLAIN.variant: vectors}, truth, trial)
    techniques = list(tuning.techniques(reducible=not info.fingerprint.pca_digest and not info.others))
    timed = vectors[trial.queries[draw_sample(len(trial.queries), TIMED)]]
    milliseconds = query_milliseconds(client, info, timed, techniques)
    quick = [each for each in techniques if milliseconds[each] <= slower * milliseconds[PLAIN]]
    bar = tqdm(techniques, unit="technique", desc=collection, disable=not progress)
    worth = {technique: tuning.try_out(technique) for technique in bar}
    chosen = choose({each: worth[each][METRICS[0]][trial.choosing] for each in quick})
    shown = [PLAIN, *(each for each in techniques if each.parts == 1), *([chosen] if chosen.parts > 1 else [])]

    def row(technique: Technique) -> Row:
        values, plain = ([worth[each][metric][~trial.choosing] for metric in METRICS] for each in (technique, PLAIN))
        taken = milliseconds[technique]
        return Row(
            technique=technique,
            precision=bootstrap(values[0]),
            map=bootstrap(values[1]),
            precision_gain=bootstrap(values[0] - plain[0]),
            map_gain=bootstrap(values[1] - plain[1]),
            milliseconds=taken,
            times_as_long=taken / milliseconds[PLAIN],
        )

    rows = [row(technique) for technique in shown]
    chart = out / "tuning.png"
    _draw(chart, collection, rows)
    codes = truth.codes[trial.queries]
    return TuningResult(
        collection=collection,
        searched=len(trial.searched),
        choosing=int(trial.choosing.sum()),
        reporting=int((~trial.choosing).sum()),
        choosing_labels=len(np.unique(codes[trial.choosing])),
        reporting_labels=len(np.unique(codes[~trial.choosing])),
        tried=len(techniques),
        rows=rows,
        commands=_commands(collection, chosen),
        chart=chart,
    )


def _commands(collection: str, technique: Technique) -> list[str]:
    """What to say to have a technique."""
    commands, name = [], collection
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
    gains_chart(collection, f"precision@{TOP_K}", rows[0].precision, gains).savefig(file)
