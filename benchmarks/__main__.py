"""`make bench`: run every benchmark, or those that are named, and write their tables under benchmarks/results."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import answers, chart, decode, duplicates, faces, load, precision, query, reload, search, serve, videos
from benchmarks.report import RESULTS, write

BENCHMARKS: dict[str, Callable[[], str]] = {
    "decode": decode.run,
    "precision": precision.run,
    "load": load.run,
    "faces": faces.run,
    "videos": videos.run,
    "duplicates": duplicates.run,
    "query": query.run,
    "reload": reload.run,
    "search": search.run,
    "answers": answers.run,
    "serve": serve.run,
}


def main(names: list[str]) -> None:
    """Run them one after another, so that none disturbs another."""
    for name in names or BENCHMARKS:
        write(name, BENCHMARKS[name]())
    if all((RESULTS / f"{name}.md").exists() for name in BENCHMARKS):
        chart.draw()


if __name__ == "__main__":
    main(sys.argv[1:])
