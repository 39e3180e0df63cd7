"""`make bench`: run every benchmark, print its table, and write it under benchmarks/results."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

from benchmarks import load

RESULTS = Path(__file__).parent / "results"
BENCHMARKS: dict[str, Callable[[], str]] = {"load": load.run}


def describe_machine() -> str:
    """One line: processor, cores, memory, Python."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def main() -> None:
    """Run them one after another."""
    RESULTS.mkdir(exist_ok=True)
    for name, run in BENCHMARKS.items():
        table = f"{run()}\n\nMeasured on {describe_machine()}.\n"
        print(table)
        (RESULTS / f"{name}.md").write_text(table)


if __name__ == "__main__":
    main()
