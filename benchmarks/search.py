"""How fast and how right is a search? Every index of both databases, beside three libraries, at three sizes."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.data import make_vectors, real_vectors
from benchmarks.report import table, verdict
from tests.milvus_server import running_server
from utilities.fingerprint import Fingerprint
from utilities.items import Item, item_id
from utilities.milvus_index import choose_index, current_index
from utilities.milvus_utilities import (
    connect,
    create_collection,
    flush_and_index,
    insert_items,
    nearest_neighbours,
)
from utilities.retrieval_metrics import exact_neighbours, overlap_at_k

#: Searches one by one end after so many, or after so many seconds; those in a batch are as many as the queries.
SINGLY, SECONDS, BATCH = 1_000, 15.0, 1_000
TOP_K = 20
#: The graph of HNSW and the trees of Annoy: the libraries get what Milvus gets.
LINKS, BUILD_CANDIDATES, SEARCH_CANDIDATES, TREES = 16, 200, 128, 50

Search = Callable[[NDArray[np.float32]], list[list[int]]]


@dataclass(frozen=True)
class Size:
    """A collection to be searched, and what is tried on it; at the largest, what is known to lose is left out."""

    items: int
    dimension: int
    lite: tuple[str, ...]
    server: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.items:,} × {self.dimension:,}"


SIZES = [
    Size(10_000, 2_048, ("flat", "ivf_flat", "ivf_sq8", "hnsw"), ("flat", "ivf_flat", "ivf_sq8", "hnsw")),
    Size(100_000, 2_048, ("ivf_flat", "hnsw"), ("flat", "ivf_flat", "hnsw")),
    Size(1_000_000, 256, ("ivf_flat",), ("flat", "ivf_flat", "hnsw")),
]


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    what: str
    build_seconds: float
    #: MiB that it holds in the end, in this process or in the server's: vectors, ids, index, and what Milvus has not
    #: given back yet of what it used to build.
    memory: float
    recall: float
    p50_milliseconds: float
    p99_milliseconds: float
    batch_milliseconds: float

    def row(self) -> list[str]:
        built = [self.what, f"{self.build_seconds:,.1f}", f"{self.memory:,.0f}"]
        if np.isnan(self.recall):
            return [*built, *[""] * 5]
        return [
            *built,
            f"{self.recall:.4f}",
            f"{self.p50_milliseconds:.2f}",
            f"{self.p99_milliseconds:.2f}",
            f"{1_000 / self.p50_milliseconds:,.0f}",
            f"{1_000 / self.batch_milliseconds:,.0f}",
        ]


HEADER = ["index", "build s", "memory MiB", "recall@20", "p50 ms", "p99 ms", "queries a s", "in batches of 1,000"]


def run() -> str:
    """Measure each size; whatever holds vectors in its own process is given a fresh one."""
    reports, results = [], {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        real = real_vectors(scratch)
        for size in SIZES:
            vectors = make_vectors(real, size.items, size.dimension, seed=1)
            queries = make_vectors(real, BATCH, size.dimension, seed=2)
            np.save(scratch / "vectors.npy", vectors)
            np.save(scratch / "queries.npy", queries)
            np.save(scratch / "truth.npy", exact_neighbours(queries, vectors, TOP_K))
            del vectors
            with running_server(scratch / f"server_{size.items}") as server:
                rows = _apart(_milvus, size, scratch, server.uri, server.pid, size.server)
            rows += _apart(_milvus, size, scratch, str(scratch / f"{size.items}.db"), None, size.lite)
            for library in (_scikit_learn, _hnswlib, _annoy):
                rows += _apart(library, size, scratch)
            results[size] = rows
            reports.append(f"### {size}\n\n" + table(HEADER, [row.row() for row in rows]))
    return (
        f"## How fast and how right is a search?\n\n{len(real):,} real vectors, moved a little to make as many as are "
        "wanted; 256 dimensions by PCA, 2,048 by turning 1,280. Top 20 by cosine; recall against comparing everything. "
        "Milvus by `nearest_neighbours`, ids and attributes included, with the parameters of `utilities.milvus_index`; "
        f"the libraries' ids alone, HNSW with M = {LINKS}, efConstruction = {BUILD_CANDIDATES} and "
        f"ef = {SEARCH_CANDIDATES}, Annoy with {TREES} trees. Building an index of Milvus does not count the "
        "insertion, which has a row of its own. Milvus Lite searches no sooner than it has looked at the id of every "
        "item in Python: that is most of its time.\n\n"
        + "\n\n".join(reports)
        + "\n\n"
        + table(["figure", "reached"], _reached(results))
    )


def _reached(results: dict[Size, list[Result]]) -> list[tuple[str, str]]:
    small, _, large = SIZES
    lite = _find(results[small], f"Milvus Lite, {choose_index(small.items, embedded=True)}")
    server = _find(results[small], f"server, {choose_index(small.items, embedded=False)}")
    million = _find(results[large], f"server, {choose_index(large.items, embedded=False)}")
    return [
        (f"{small}, Milvus Lite, p50", verdict(lite.p50_milliseconds, 6, at_most=True, unit=" ms")),
        (f"{small}, server, p50", verdict(server.p50_milliseconds, 3, at_most=True, unit=" ms")),
        (f"{large}, server, recall@20", verdict(million.recall, 0.98)),
        (f"{large}, server, p99", verdict(million.p99_milliseconds, 20, at_most=True, unit=" ms")),
        (f"{large}, server, in batches", verdict(1_000 * million.batch_milliseconds, 500, at_most=True, unit=" µs")),
    ]


def _find(rows: Sequence[Result], what: str) -> Result:
    return next(row for row in rows if row.what == what)


def _apart(measure: Callable[..., list[Result]], *arguments: object) -> list[Result]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *arguments).result()


def _milvus(size: Size, scratch: Path, uri: str, server: int | None, indexes: Sequence[str]) -> list[Result]:
    vectors = np.load(scratch / "vectors.npy", mmap_mode="r")
    name = "Milvus Lite" if server is None else "server"
    client = connect(uri)
    fingerprint = Fingerprint("benchmark", "0" * 32, "", size.dimension)
    info = create_collection(client, "benchmark", dimension=size.dimension, fingerprint=fingerprint, root=scratch)
    numbers = {}
    before, start = _memory(server), time.perf_counter()
    for first in range(0, size.items, 1_000):
        block = np.ascontiguousarray(vectors[first : first + 1_000])
        items = [_item(first + row) for row in range(len(block))]
        numbers.update({item.id: first + row for row, item in enumerate(items)})
        insert_items(client, info, items, block)
    client.flush(info.name)
    rows = [Result(f"{name}, insertion", time.perf_counter() - start, _memory(server) - before, *[float("nan")] * 4)]
    for index in indexes:
        start = time.perf_counter()
        info = flush_and_index(client, replace(info, index=index), size.items)
        seconds = time.perf_counter() - start
        assert current_index(client, info) == index

        def search(queries: NDArray[np.float32], info: object = info) -> list[list[int]]:
            found = nearest_neighbours(client, info, queries, TOP_K)  # type: ignore[arg-type]
            return [[numbers[row["id"]] for row in each] for each in found]

        rows.append(_measure(f"{name}, {index}", scratch, seconds, _memory(server) - before, search))
    return rows


def _item(number: int) -> Item:
    path = f"{number % 1_000:03}/{number:07}.jpg"
    return Item(item_id(path, ""), path, "", path[:3], 640, 480, 100_000, number)


def _scikit_learn(size: Size, scratch: Path) -> list[Result]:
    from sklearn.neighbors import NearestNeighbors

    before = _memory(None)
    vectors = np.load(scratch / "vectors.npy")
    start = time.perf_counter()
    index = NearestNeighbors(n_neighbors=TOP_K, algorithm="brute", metric="cosine").fit(vectors)
    seconds = time.perf_counter() - start
    return [
        _measure(
            "scikit-learn, brute force",
            scratch,
            seconds,
            _memory(None) - before,
            lambda queries: index.kneighbors(queries, return_distance=False).tolist(),
        )
    ]


def _hnswlib(size: Size, scratch: Path) -> list[Result]:
    import hnswlib

    before = _memory(None)
    vectors = np.load(scratch / "vectors.npy")
    start = time.perf_counter()
    index = hnswlib.Index("cosine", size.dimension)
    index.init_index(size.items, M=LINKS, ef_construction=BUILD_CANDIDATES)
    index.add_items(vectors)
    index.set_ef(SEARCH_CANDIDATES)
    seconds = time.perf_counter() - start
    return [
        _measure(
            "hnswlib",
            scratch,
            seconds,
            _memory(None) - before,
            lambda queries: index.knn_query(queries, TOP_K)[0].tolist(),
        )
    ]


def _annoy(size: Size, scratch: Path) -> list[Result]:
    from annoy import AnnoyIndex

    before = _memory(None)
    vectors = np.load(scratch / "vectors.npy")
    start = time.perf_counter()
    index = AnnoyIndex(size.dimension, "angular")
    for row, vector in enumerate(vectors):
        index.add_item(row, vector)
    index.build(TREES)
    seconds = time.perf_counter() - start
    return [
        _measure(
            "Annoy",
            scratch,
            seconds,
            _memory(None) - before,
            lambda queries: [index.get_nns_by_vector(query, TOP_K) for query in queries],
        )
    ]


def _measure(what: str, scratch: Path, seconds: float, memory: float, search: Search) -> Result:
    queries, truth = np.load(scratch / "queries.npy"), np.load(scratch / "truth.npy")
    for query in queries[:5]:  # What is loaded lazily is loaded now.
        search(query[None])
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    for query in queries[:SINGLY]:
        start = time.perf_counter()
        search(query[None])
        times.append(1_000 * (time.perf_counter() - start))
        if time.perf_counter() > end:
            break
    batches = []
    for _ in range(3):
        start = time.perf_counter()
        found = search(queries)
        batches.append(1_000 * (time.perf_counter() - start) / len(queries))
    padded = np.array([[*each, *[-1] * (TOP_K - len(each))] for each in found])
    recall = overlap_at_k(padded, truth)
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return Result(what, seconds, memory, recall, float(p50), float(p99), float(np.median(batches)))


def _memory(server: int | None) -> float:
    """What this process holds, or a server with all its children, in MiB."""
    process = psutil.Process(server)
    family = [process, *process.children(recursive=True)] if server else [process]
    return float(sum(each.memory_info().rss for each in family)) / 2**20
