"""What makes answers better without training, and at what cost? No picture searched with is in the collection."""

from __future__ import annotations

import itertools
import shutil
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import photographs, trained_weights
from benchmarks.report import table, verdict
from pipelines import augment, load, reduce
from utilities.directory_trees import find_images
from utilities.embedder import Embedder, load_embedder
from utilities.ensembles import embedder_of_all
from utilities.item_streams import embed_sample
from utilities.labels import Labels
from utilities.milvus_utilities import connect, describe_collection
from utilities.retrieval_metrics import Estimate, bootstrap
from utilities.sampling import draw_sample
from utilities.selections import Selection
from utilities.settings import Settings
from utilities.several_queries import TOGETHER, Together
from utilities.similar_images import Match, matches_of_several, nearest_matches, search
from utilities.tuning import (
    METRICS,
    PLAIN,
    PRECISE,
    TOP_K,
    VARIANTS,
    Technique,
    Trial,
    Tuning,
    choose,
    embedding_milliseconds,
    search_milliseconds,
    times_as_long,
)
from utilities.variants import PLAIN as PLAIN_VARIANT
from utilities.variants import Variant

#: Pictures of each label that are searched with.
QUERIES = 10
#: Queries whose time is taken, in turn by each way.
TIMED = 200
#: How much longer than a plain query the best may take.
SLOWER = 3.0
#: Other halves of the labels that choose, in turn.
HALVES = 20
#: What was asked for: of precision@20, on labels that had no part in choosing.
ASKED = 0.13


def run() -> str:
    """Every technique alone, every combination, and the best of them once more by way of the commands."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        settings = Settings(home=scratch / "home")
        tree, kind = photographs(scratch)
        paths = find_images(tree)
        labels = Labels.of([Path(path).parent.name for path in paths])
        trial = _split(labels)
        for part, name in ((trial.queries, "queries"), (trial.searched, "collection")):
            for row in part:
                (scratch / name / paths[row]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tree / paths[row], scratch / name / paths[row])
        vectors, embedding = _embedded(tree, paths, settings)
        backbone, weights = trained_weights()
        load.run(scratch / "collection", collection="plain", backbone=backbone, weights=weights, settings=settings)
        tuning = Tuning(vectors, labels, trial)
        with closing(connect(settings=settings)) as client:
            timed = vectors[PLAIN.variant][trial.queries[draw_sample(len(trial.queries), TIMED)]]
            info = describe_collection(client, "plain")
            times = times_as_long(embedding, search_milliseconds(client, info, timed, [*tuning.techniques()]))
        tried = tuning.try_all(times, SLOWER)
        worth, best = tried.worth, tried.best
        plain = worth[PLAIN]
        codes = labels.codes[trial.queries]
        found, queries, searches = _by_commands(scratch, best, [paths[row] for row in trial.queries], settings)
        reported = {each: found[each][~trial.choosing] for each in (PLAIN, best)}
        # Queries of one label gain together, so that whole labels are drawn.
        gain = bootstrap(reported[best] - reported[PLAIN], codes[~trial.choosing])
        shown = [PLAIN, *(each for each in worth if each.parts == 1)]
        shown += sorted(
            (each for each in worth if each.parts > 1), key=lambda each: -worth[each][PRECISE][trial.choosing].mean()
        )[:10]
        shown += [best] if best not in shown else []
        rows = []
        for each in shown:
            values = worth[each]
            difference = bootstrap((values[PRECISE] - plain[PRECISE])[~trial.choosing], codes[~trial.choosing])
            rows.append(
                (
                    f"**{each}**" if each == best else str(each),
                    *(f"{values[metric].mean():.3f}" for metric in METRICS),
                    f"{values[PRECISE][trial.choosing].mean():.3f}",
                    f"{values[PRECISE][~trial.choosing].mean():.3f}",
                    "" if each == PLAIN else _signed(difference),
                    f"{times[each]:.1f}",
                )
            )
        header = ("technique", PRECISE, "mAP", "choosing", "reporting", "gain, reporting (95 %)", "times as long")
        gains = _gains_of_other_halves(
            {each: values[PRECISE] for each, values in worth.items() if times[each] <= SLOWER}, codes
        )
        several = _several(scratch, paths, labels, trial, settings)
    return (
        f"## What makes answers better?\n\nMobileNetV2, {len(trial.searched):,} {kind}, searched with "
        f"{len(trial.queries):,} others, {QUERIES} of each label. Half of the labels choose the best technique, the "
        "other half report. Exact comparison of vectors in memory. Times as long as a plain query: to embed one "
        "decoded picture and to search in Milvus Lite."
        f"\n\n{table(header, rows)}\n\n"
        f"With {HALVES} other halves of the labels choosing in turn, the chosen gain {statistics.median(gains):.3f} on "
        f"the labels that did not choose, as a median; from {min(gains):.3f} to {max(gains):.3f}.\n\n"
        f"### The best by way of the commands\n\n`load`, `reduce --into`, `augment --into`, `query`, in Milvus Lite, "
        f"where everything is warm: {best}.\n\n"
        + table(
            ["way", f"{PRECISE}, reporting labels", "query ms (decode, embed, search)", "search ms"],
            [
                (str(each), f"{reported[each].mean():.3f}", f"{queries[each]:.1f}", f"{searches[each]:.1f}")
                for each in (PLAIN, best)
            ],
        )
        + "\n\n"
        + table(
            ["target", "reached"],
            [
                (f"gain in {PRECISE}, labels that did not choose", verdict(gain.mean, ASKED)),
                ("its 95 % interval", f"{gain.low:+.3f} to {gain.high:+.3f}"),
                ("query time, of a plain query's", verdict(queries[best] / queries[PLAIN], SLOWER, at_most=True)),
                ("search time alone", verdict(searches[best] / searches[PLAIN], SLOWER, at_most=True)),
            ],
        )
        + f"\n\n### Several pictures as one query\n\n{several}"
    )


def _signed(difference: Estimate) -> str:
    return f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def _split(labels: Labels) -> Trial:
    """`QUERIES` of each label, and half of the labels to choose by."""
    random = np.random.default_rng(0)
    drawn = [random.permutation(np.flatnonzero(labels.codes == code))[:QUERIES] for code in range(len(labels.names))]
    queries = np.sort(np.concatenate(drawn))
    chosen = random.permutation(len(labels.names))[: len(labels.names) // 2]
    searched = np.setdiff1d(np.arange(len(labels.codes)), queries)
    return Trial(queries, searched, np.isin(labels.codes[queries], chosen))


def _gains_of_other_halves(values: dict[Technique, NDArray[np.float64]], codes: NDArray[np.int64]) -> list[float]:
    """What the technique that half of the labels choose gains on the others, of some halves."""
    random = np.random.default_rng(1)
    gains = []
    for _ in range(HALVES):
        choosing = np.isin(codes, random.permutation(np.unique(codes))[::2])
        best = choose({each: value[choosing] for each, value in values.items()}, codes[choosing])
        gains.append(float((values[best] - values[PLAIN])[~choosing].mean()))
    return gains


def _embedded(
    tree: Path, paths: list[str], settings: Settings
) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """Vectors of all pictures, and the time that one takes, by the name of each way to embed."""
    vectors, times = {}, {}
    for variant in (PLAIN_VARIANT, *VARIANTS):
        embedder = _embedder(variant, settings)
        _, vectors[str(variant)] = embed_sample(tree, paths, embedder, settings, name=str(variant) or "plain")
        times[str(variant)] = embedding_milliseconds(embedder)
    return vectors, times


def _embedder(variant: Variant, settings: Settings) -> Embedder:
    return load_embedder(*trained_weights(), settings, variant=variant)


def _by_commands(
    scratch: Path, best: Technique, queries: list[str], settings: Settings
) -> tuple[dict[Technique, NDArray[np.float64]], dict[Technique, float], dict[Technique, float]]:
    """Precision of each query through Milvus, and median milliseconds of a query and of its search, plain and best."""
    name = "plain"
    if best.variant:
        backbone, weights = trained_weights()
        variant = next(each for each in VARIANTS if str(each) == best.variant)
        name = "seen"
        load.run(
            scratch / "collection",
            collection=name,
            backbone=backbone,
            weights=weights,
            views=variant.views,
            pooling=variant.pooling,
            settings=settings,
        )
    if best.pca:
        reduce.run(name, into="reduced", pca=best.pca, out=scratch / "reports", settings=settings)
        name = "reduced"
    if best.augment:
        augment.run(name, into="augmented", neighbours=best.augment, settings=settings)
        name = "augmented"
    client = connect(settings=settings)
    ways = {PLAIN: ("plain", Selection(TOP_K)), best: (name, Selection(TOP_K, expand=best.expand, rerank=best.rerank))}
    made_by = {way: describe_collection(client, each).fingerprints for way, (each, _) in ways.items()}
    embedders = {way: embedder_of_all(each, settings) for way, each in made_by.items()}
    found: dict[Technique, list[float]] = {way: [] for way in ways}
    times: dict[Technique, list[float]] = {way: [] for way in ways}
    searches: dict[Technique, list[float]] = {way: [] for way in ways}
    timed = {queries[row] for row in draw_sample(len(queries), TIMED)}
    for path in queries:
        picture = scratch / "queries" / path
        for way, (collection, selection) in ways.items():
            start = time.perf_counter()
            (answer,) = search(
                [picture], collection, selection, client=client, embedder=embedders[way], settings=settings
            )
            taken = time.perf_counter() - start
            found[way].append(sum(match.label == picture.parent.name for match in answer.matches) / TOP_K)
            if path in timed:
                times[way].append(1_000 * taken)
                _, vector = embed_sample(
                    scratch / "queries", [path], embedders[way], settings, name="one", progress=False
                )
                info = describe_collection(client, collection)
                start = time.perf_counter()
                nearest_matches(client, info, vector, selection)
                searches[way].append(1_000 * (time.perf_counter() - start))
    client.close()
    medians = [{way: statistics.median(each) for way, each in taken.items()} for taken in (times, searches)]
    return {way: np.array(each) for way, each in found.items()}, medians[0], medians[1]


def _several(scratch: Path, paths: list[str], labels: Labels, trial: Trial, settings: Settings) -> str:
    """Pictures of one label one by one and together, and together without those of the label that is taken for it."""
    client = connect(settings=settings)
    info = describe_collection(client, "plain")
    embedder = embedder_of_all(info.fingerprints, settings)
    names = [paths[row] for row in trial.queries]
    _, vectors = embed_sample(scratch / "queries", names, embedder, settings, name="queries")
    own = labels.codes[trial.queries]
    of_label = [vectors[own == code] for code in range(len(labels.names))]
    alone = nearest_matches(client, info, vectors, Selection(TOP_K))

    def share(matches: list[Match], code: int) -> float:
        return float(np.mean([match.label == labels.names[code] for match in matches]))

    def together(some: NDArray[np.float32], by: str, unlike: int = 0) -> list[Match]:
        return matches_of_several(client, info, some, Selection(TOP_K), Together(by, unlike))

    rows = [("one by one", f"{np.mean([share(*each) for each in zip(alone, own, strict=True)]):.3f}", "")]
    for count, by in itertools.product((2, 5), TOGETHER):
        shares = [
            share(together(some[start : start + count], by), code)
            for code, some in enumerate(of_label)
            for start in range(0, len(some) - count + 1, count)
        ]
        rows.append((f"{count} pictures, by {by}", f"{np.mean(shares):.3f}", ""))
    unlike = _taken_for(alone, own, labels)
    for by, count in (("vector", 0), ("vector", 1), ("ranks", 1)):
        pictures = [np.concatenate([some[:2], of_label[unlike[code]][:count]]) for code, some in enumerate(of_label)]
        found = [together(each, by, count) for each in pictures]
        wanted = np.mean([share(each, code) for code, each in enumerate(found)])
        unwanted = np.mean([share(each, unlike[code]) for code, each in enumerate(found)])
        how = "the first 2 pictures" + (", not 1 of the label most taken for theirs" if count else "")
        rows.append((f"{how}, by {by}", f"{wanted:.3f}", f"{unwanted:.3f}"))
    client.close()
    return table(["query", f"precision@{TOP_K}", "of that other label among them"], rows)


def _taken_for(alone: list[list[Match]], own: NDArray[np.int64], labels: Labels) -> list[int]:
    """Of each label the other that its queries find most."""
    counts = np.zeros((len(labels.names), len(labels.names)))
    codes = {name: code for code, name in enumerate(labels.names)}
    for found, code in zip(alone, own, strict=True):
        for match in found:
            counts[code, codes[match.label]] += 1
    np.fill_diagonal(counts, -1)
    return [int(row.argmax()) for row in counts]
