"""What every benchmark's report has: a Markdown table, and the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def describe_machine() -> str:
    """One line: processor, cores, what it computes in, memory, Python."""
    processor = platform.processor() or platform.machine()
    flags = ""
    if Path("/proc/cpuinfo").exists():
        fields = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
        found = {name.strip(): value.strip() for name, value in fields}
        processor = found.get("model name", processor)
        known = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bf16", "avx512_vnni": "int8", "amx_tile": "AMX"}
        flags = " with " + ", ".join(name for flag, name in known.items() if flag in found.get("flags", "").split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}{flags}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown; the first column is text, the others are numbers."""
    lines = [" | ".join(header), "|".join(["---", *(["---:"] * (len(header) - 1))])]
    lines += [" | ".join(str(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def verdict(reached: float, asked: float, *, at_most: bool = False, unit: str = "") -> str:
    """How a figure compares with what was asked for."""
    good = reached <= asked if at_most else reached >= asked
    sign = "≤" if at_most else "≥"
    return f"{reached:.3g}{unit} (asked: {sign} {asked:g}{unit}{'' if good else '; not reached'})"


def write(name: str, text: str) -> None:
    """Print a report, and keep it."""
    RESULTS.mkdir(exist_ok=True)
    report = f"{text.strip()}\n\nMeasured on {describe_machine()}.\n"
    print(report, flush=True)
    (RESULTS / f"{name}.md").write_text(report)
