"""How fast and how right is a search? Every index of both databases, beside three libraries, at three sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.data import make_vectors, real_vectors
from benchmarks.report import table, verdict
from tests.milvus_server import running_server
from utilities.index_comparison import (
    BUILD_CANDIDATES,
    LINKS,
    QUERIES,
    SEARCH_CANDIDATES,
    TREES,
    Measured,
    Problem,
    measure_libraries,
    measure_milvus,
)
from utilities.milvus_index import choose_index
from utilities.settings import Settings

RIVALS = ("scikit-learn, brute force", "hnswlib", "Annoy")


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


def _row(measured: Measured) -> list[str]:
    built = [measured.what, f"{measured.build_seconds:,.1f}", f"{measured.memory:,.0f}"]
    if np.isnan(measured.recall):
        return [*built, *[""] * 5]
    return [
        *built,
        f"{measured.recall:.4f}",
        f"{measured.p50_milliseconds:.2f}",
        f"{measured.p99_milliseconds:.2f}",
        f"{1_000 / measured.p50_milliseconds:,.0f}",
        f"{1_000 / measured.batch_milliseconds:,.0f}",
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
            problem = Problem.write(scratch, vectors, make_vectors(real, QUERIES, size.dimension, seed=2))
            del vectors
            with running_server(scratch / f"server_{size.items}") as server:
                settings = Settings(home=scratch / "home", milvus_uri=server.uri)
                rows = measure_milvus(problem, "server", settings, size.server, server.pid)
            settings = Settings(home=scratch / f"home_{size.items}")
            rows += measure_milvus(problem, "Milvus Lite", settings, size.lite)
            rows += measure_libraries(problem, RIVALS)
            results[size] = rows
            reports.append(f"### {size}\n\n" + table(HEADER, [_row(row) for row in rows]))
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


def _reached(results: dict[Size, list[Measured]]) -> list[tuple[str, str]]:
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


def _find(rows: Sequence[Measured], what: str) -> Measured:
    return next(row for row in rows if row.what == what)
