"""How fast and how right other ways to find neighbours are, beside Milvus's own, on the same vectors.

Whatever holds vectors is measured in a process of its own, so that its memory can be told.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.errors import LookalikeError, MissingPackage
from utilities.fingerprint import Fingerprint
from utilities.items import Item, item_id
from utilities.milvus_connection import is_server
from utilities.milvus_utilities import (
    connect,
    create_collection,
    drop_collection,
    find_collection,
    flush,
    flush_and_index,
    insert_items,
    nearest_neighbours,
)
from utilities.retrieval_metrics import exact_neighbours, overlap_at_k
from utilities.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP_K = 20
#: Queries; searches one by one, and those in a batch, end after so many seconds if they are slow.
QUERIES, SECONDS = 1_000, 15.0
#: The graph of HNSW and the trees of Annoy: the libraries get what Milvus gets.
LINKS, BUILD_CANDIDATES, SEARCH_CANDIDATES, TREES = 16, 200, 128, 50
#: What else a search is tried with: candidates that HNSW keeps, lists that IVF looks into, nodes that Annoy inspects.
CANDIDATES, LISTS, NODES = (20, 40, 80, 128, 256, 512), (1, 2, 4, 8, 16, 32, 64), (500, 1_000, 2_000, 5_000, 10_000)
#: How far a made-up vector lies from the real one it was made of: a cosine of about 0.94.
JITTER = 0.35

#: Queries, (n, dimension) float32, to the row numbers of their neighbours.
Search = Callable[["NDArray[np.float32]"], Sequence[Sequence[int]]]


@dataclass(frozen=True)
class Built:
    """An index that was built, and ways to search it: from few candidates to many, or only one."""

    search: Search
    #: More and less thorough ones, for the curve.
    others: tuple[Search, ...] = ()


@dataclass(frozen=True)
class Measured:
    """One row of the table."""

    what: str
    build_seconds: float = float("nan")
    #: MiB that it holds in the end: vectors, ids and index. NaN where it lies in a process that cannot be asked.
    memory: float = float("nan")
    recall: float = float("nan")
    p50_milliseconds: float = float("nan")
    p99_milliseconds: float = float("nan")
    #: Of each query, where all are asked at once.
    batch_milliseconds: float = float("nan")
    #: (recall, queries a second in a batch) at more and less thorough settings, this one among them.
    curve: list[tuple[float, float]] = field(default_factory=list)
    #: Why it could not be measured; empty if it was.
    reason: str = ""


def jittered(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """As many vectors as are wanted, each a real one that was moved a little.

    Args:
        vectors: (n, dimension), rows of length 1.
        count: how many.
        seed: of the choice and of the movement.

    Returns:
        (count, dimension) float32, rows of length 1.
    """
    random = np.random.default_rng(seed)
    made = np.empty((count, vectors.shape[1]), np.float32)
    for start in range(0, count, 10_000):  # so that there is one copy of them in memory, not five
        block = made[start : start + 10_000]
        random.standard_normal(dtype=np.float32, out=block)
        block *= np.float32(JITTER / np.sqrt(vectors.shape[1]))
        block += vectors[random.integers(0, len(vectors), len(block))]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return made


@dataclass(frozen=True)
class Problem:
    """Vectors, queries and the right answers, as files that other processes read."""

    folder: Path

    @classmethod
    def write(cls, folder: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> Problem:
        """Find the answers by comparing everything, and write all three.

        Args:
            folder: where to.
            vectors: (n, dimension), rows of length 1; n at least `TOP_K`.
            queries: (m, dimension), rows of length 1.
        """
        np.save(folder / "vectors.npy", vectors)
        np.save(folder / "queries.npy", queries)
        np.save(folder / "truth.npy", exact_neighbours(queries, vectors, TOP_K))
        return cls(folder)

    def vectors(self, *, in_memory: bool = True) -> NDArray[np.float32]:
        """(n, dimension) float32."""
        found: NDArray[np.float32] = np.load(self.folder / "vectors.npy", mmap_mode=None if in_memory else "r")
        return found

    def queries(self) -> NDArray[np.float32]:
        """(m, dimension) float32."""
        found: NDArray[np.float32] = np.load(self.folder / "queries.npy")
        return found

    def truth(self) -> NDArray[np.int64]:
        """(m, TOP_K) row numbers of `vectors`."""
        found: NDArray[np.int64] = np.load(self.folder / "truth.npy")
        return found


def measure_libraries(problem: Problem, names: Iterable[str]) -> Iterable[Measured]:
    """Measure libraries, one after another; one that cannot be has its reason.

    Args:
        problem: what to search.
        names: of `LIBRARIES`.
    """
    for name in names:
        yield from apart([name], _measure_library, problem, name)


def measure_milvus(
    problem: Problem, name: str, settings: Settings, indexes: Sequence[str], server: int | None = None
) -> list[Measured]:
    """Measure indexes of Milvus, one after another, in a collection of their own, which a server is rid of in the end.

    Memory is that of the database, so that each index is charged with what it has not given back of those before.

    Args:
        problem: what to search.
        name: how to call the database in the table.
        settings: where the database is; an embedded one in a folder of its own, for whoever made that to delete.
        indexes: of `utilities.milvus_index.INDEXES`.
        server: process id of the server, if it runs on this machine and its memory is to be told.
    """
    rows = [f"{name}, {index}" for index in indexes]
    collection = f"lookalike_comparison_{item_id(str(problem.folder))}"
    try:
        return apart(rows, _measure_milvus, problem, name, settings, collection, tuple(indexes), server)
    finally:
        if is_server(settings.database_uri):  # Here, since the process that filled it may have been ended.
            client = connect(settings=settings)
            if find_collection(client, collection):
                drop_collection(client, collection)
            client.close()


def apart(rows: Sequence[str], measure: Callable[..., list[Measured]], *arguments: object) -> list[Measured]:
    """Call in a process of its own; what fails there is told in each of the rows that were wanted."""
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            return process.submit(measure, *arguments).result()
    except BrokenProcessPool:
        reason = "its process was ended by the system, probably for lack of memory"
    except Exception as error:  # of whatever library: what others have shown is not lost for it
        reason = str(error) or type(error).__name__
    return [Measured(row, reason=reason) for row in rows]


def _measure_library(problem: Problem, name: str) -> list[Measured]:
    build = LIBRARIES[name]
    try:
        build(np.array(problem.vectors(in_memory=False)[:64]))  # What the library itself weighs is not the index's.
    except ImportError as error:
        raise MissingPackage(f"it cannot be imported ({error}): .venv/bin/pip install -e '.[compare]'") from error
    before = memory_of(None)
    vectors = problem.vectors()
    start = time.perf_counter()
    built = build(vectors)
    seconds = time.perf_counter() - start
    del vectors  # An index that needs them has kept them.
    held = memory_of(None) - before
    return [replace(_measure(problem, built), what=name, build_seconds=seconds, memory=held)]


def _measure_milvus(
    problem: Problem, name: str, settings: Settings, collection: str, indexes: Sequence[str], server: int | None
) -> list[Measured]:
    vectors = problem.vectors(in_memory=False)
    count, dimension = vectors.shape
    client = connect(settings=settings)
    fingerprint = Fingerprint("comparison", "0" * 32, "", dimension)
    info = create_collection(client, collection, dimension=dimension, fingerprint=fingerprint, root=problem.folder)
    tellable = server is not None or not is_server(settings.database_uri)

    def held() -> float:
        return memory_of(server) - before if tellable else float("nan")

    before, start = memory_of(server) if tellable else 0.0, time.perf_counter()
    numbers = {}
    for first in range(0, count, 1_000):
        block = np.ascontiguousarray(vectors[first : first + 1_000])
        items = [_item(first + row) for row in range(len(block))]
        numbers.update({item.id: first + row for row, item in enumerate(items)})
        insert_items(client, info, items, block)
    flush(client, info)
    rows = [Measured(f"{name}, insertion", time.perf_counter() - start, held())]

    def search(queries: NDArray[np.float32]) -> list[list[int]]:
        return [[numbers[row["id"]] for row in each] for each in nearest_neighbours(client, info, queries, TOP_K)]

    for index in indexes:
        what = f"{name}, {index}"
        start = time.perf_counter()
        try:
            info = flush_and_index(client, replace(info, index=index), count)
            seconds = time.perf_counter() - start
            rows.append(replace(_measure(problem, Built(search)), what=what, build_seconds=seconds, memory=held()))
        except LookalikeError as error:
            rows.append(Measured(what, reason=str(error)))
    client.close()
    return rows


def _item(number: int) -> Item:
    path = f"{number % 1_000:03}/{number:07}.jpg"
    return Item(item_id(path), path, "", path[:3], 640, 480, 100_000, number)


def _measure(problem: Problem, built: Built) -> Measured:
    queries, truth = problem.queries(), problem.truth()
    for query in queries[:5]:  # What is loaded lazily is loaded now.
        built.search(query[None])
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    for query in queries:
        start = time.perf_counter()
        built.search(query[None])
        times.append(1_000 * (time.perf_counter() - start))
        if time.perf_counter() > end:
            break
    p50, p99 = np.quantile(times, [0.5, 0.99])
    # A batch of those that are slow is smaller.
    together = int(np.clip(1_000 * SECONDS / p50, 1, len(queries)))
    recall, batch = _in_a_batch(built.search, queries[:together], truth[:together])
    curve = [_in_a_batch(search, queries[:together], truth[:together]) for search in built.others]
    points = sorted((each, 1_000 / milliseconds) for each, milliseconds in [*curve, (recall, batch)])
    return Measured("", float("nan"), float("nan"), recall, float(p50), float(p99), batch, points)


def _in_a_batch(search: Search, queries: NDArray[np.float32], truth: NDArray[np.int64]) -> tuple[float, float]:
    """Recall, and milliseconds of each query: the median of three batches."""
    milliseconds = []
    for _ in range(3):
        start = time.perf_counter()
        found = search(queries)
        milliseconds.append(1_000 * (time.perf_counter() - start) / len(queries))
    padded = np.array([[*each, *[-1] * (TOP_K - len(each))] for each in found])
    return overlap_at_k(padded, truth), float(np.median(milliseconds))


def memory_of(process: int | None) -> float:
    """What this process holds, or another with all its children, in MiB."""
    import psutil

    found = psutil.Process(process)
    family = [found, *found.children(recursive=True)] if process else [found]
    return float(sum(each.memory_info().rss for each in family)) / 2**20


def _brute_force(vectors: NDArray[np.float32]) -> Built:
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=TOP_K, algorithm="brute", metric="cosine").fit(vectors)
    return Built(lambda queries: index.kneighbors(queries, return_distance=False).tolist())


def _kd_tree(vectors: NDArray[np.float32]) -> Built:
    from sklearn.neighbors import KDTree

    index = KDTree(vectors)  # Of unit vectors the nearest by Euclid are the nearest by cosine.
    return Built(lambda queries: index.query(queries, TOP_K, return_distance=False).tolist())


def _annoy(vectors: NDArray[np.float32]) -> Built:
    from annoy import AnnoyIndex

    index = AnnoyIndex(vectors.shape[1], "angular")
    for row, vector in enumerate(vectors):
        index.add_item(row, vector)
    index.build(TREES)

    def search(queries: NDArray[np.float32], nodes: int = -1) -> list[list[int]]:
        return [index.get_nns_by_vector(query, TOP_K, nodes) for query in queries]

    return Built(search, tuple(partial(search, nodes=nodes) for nodes in NODES))


def _hnswlib(vectors: NDArray[np.float32]) -> Built:
    import hnswlib

    index = hnswlib.Index("cosine", vectors.shape[1])
    index.init_index(len(vectors), M=LINKS, ef_construction=BUILD_CANDIDATES)
    index.add_items(vectors)

    def search(queries: NDArray[np.float32], candidates: int = SEARCH_CANDIDATES) -> Any:
        index.set_ef(candidates)
        return index.knn_query(queries, TOP_K)[0].tolist()

    return Built(search, tuple(partial(search, candidates=each) for each in CANDIDATES))


def _faiss_flat(vectors: NDArray[np.float32]) -> Built:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return Built(lambda queries: index.search(queries, TOP_K)[1].tolist())


def _faiss_ivf(vectors: NDArray[np.float32]) -> Built:
    import faiss

    # As many lists as Milvus's documentation recommends; FAISS advises on standard error to cluster more than there is.
    lists = max(1, round(4 * np.sqrt(len(vectors))))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)

    def search(queries: NDArray[np.float32], looked_into: int = 16) -> Any:
        index.nprobe = min(looked_into, lists)
        return index.search(queries, TOP_K)[1].tolist()

    return Built(search, tuple(partial(search, looked_into=each) for each in LISTS))


def _faiss_hnsw(vectors: NDArray[np.float32]) -> Built:
    import faiss

    index = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILD_CANDIDATES
    index.add(vectors)

    def search(queries: NDArray[np.float32], candidates: int = SEARCH_CANDIDATES) -> Any:
        index.hnsw.efSearch = candidates
        return index.search(queries, TOP_K)[1].tolist()

    return Built(search, tuple(partial(search, candidates=each) for each in CANDIDATES))


#: What builds an index of (n, dimension) vectors, by the name it has in the table.
LIBRARIES: dict[str, Callable[[NDArray[np.float32]], Built]] = {
    "scikit-learn, brute force": _brute_force,
    "scikit-learn, k-d tree": _kd_tree,
    "Annoy": _annoy,
    "hnswlib": _hnswlib,
    "FAISS, flat": _faiss_flat,
    "FAISS, IVF": _faiss_ivf,
    "FAISS, HNSW": _faiss_hnsw,
}
