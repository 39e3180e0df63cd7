"""The chart a reader looks at first, drawn from the tables under benchmarks/results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import RESULTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Ways that are ours, and ways that are others', told apart by colour and by their names.
OURS, OTHERS, INK = "#0b6e75", "#b9c0c7", "#22303a"


def draw() -> None:
    """Write `benchmarks/results/chart.png`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    loads = [(row["way"], float(row["images a second"])) for row in read_table("load", "way")]
    chosen = [
        ("Keras, one by one", next(rate for way, rate in loads if way.startswith("one by one"))),
        ("Keras, batches of 32", next(rate for way, rate in loads if way.startswith("batches"))),
        *((f"lookalike load, {way.split()[-1]}", rate) for way, rate in loads if way.startswith("whole load")),
    ]
    chosen.sort(key=lambda each: each[1])
    cold = [(row["whole process"], float(row["seconds"])) for row in read_table("query", "whole process")]
    search = [row for row in read_table("search", "index", which=2) if row["recall@20"]]

    plt.rcParams.update({"font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": OTHERS})
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 3.6), width_ratios=[1.1, 0.9, 1.3])
    _bars(left, chosen, "{:.0f}", ours="lookalike")
    left.set_title("A load: images a second", loc="left", fontweight="bold")
    _bars(middle, [(name, seconds) for name, seconds in reversed(cold)], "{:.1f} s", ours="lookalike")
    middle.set_title("A query from a cold start: seconds", loc="left", fontweight="bold")
    _dots(right, sorted(search, key=lambda row: -_milliseconds(row)))
    right.set_title("A search in 1,000,000: p50, recall@20", loc="left", fontweight="bold")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(w_pad=2.5)
    figure.savefig(RESULTS / "chart.png", dpi=150)
    plt.close(figure)


def _bars(axes: Axes, values: list[tuple[str, float]], text: str, *, ours: str) -> None:
    names, heights = zip(*values, strict=True)
    bars = axes.barh(names, heights, color=[OURS if name.startswith(ours) else OTHERS for name in names])
    axes.bar_label(bars, [text.format(height) for height in heights], padding=3)
    axes.set_xlim(0, max(heights) * 1.18)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _dots(axes: Axes, rows: list[dict[str, str]]) -> None:
    """Times over four orders of magnitude: dots, since the length of a bar means nothing on such a scale."""
    for row in rows:
        ours = row["index"].startswith(("server", "Milvus Lite"))
        axes.scatter(_milliseconds(row), row["index"], s=42, color=OURS if ours else OTHERS, zorder=3)
        text = f"{_milliseconds(row):.3g} ms, {float(row['recall@20']):.3f}"
        axes.annotate(text, (_milliseconds(row), row["index"]), xytext=(8, -3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlim(0.05, 300_000)
    axes.tick_params(length=0, which="both")
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _milliseconds(row: dict[str, str]) -> float:
    return float(row["p50 ms"].replace(",", ""))


def read_table(report: str, first: str, which: int = 0) -> list[dict[str, str]]:
    """The rows of a table of a report.

    Args:
        report: name of the benchmark.
        first: head of the table's first column.
        which: 0 for the first such table of the report.
    """
    lines = (RESULTS / f"{report}.md").read_text().splitlines()
    start = [number for number, line in enumerate(lines) if line.startswith(f"| {first} |")][which]
    header, _, *rest = lines[start:]
    rows = []
    for line in rest:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(_cells(header), _cells(line), strict=True)))
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
