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
        *((f"lookalike load, {way.split()[-1]}", rate) for way, rate in loads[:7] if way.startswith("whole load")),
    ]
    chosen.sort(key=lambda each: each[1])
    cold = [(row["whole process"], float(row["seconds"])) for row in read_table("query", "whole process")]
    search = [row for row in read_table("search", "index", which=2) if row["recall@20"]]

    plt.rcParams.update({"font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": OTHERS})
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12.5, 3.6), width_ratios=[1.15, 0.9, 1.3])
    _bars(left, chosen, "{:.0f}", ours="lookalike")
    left.set_title("A load: images a second", loc="left", fontweight="bold")
    _bars(middle, [(name, seconds) for name, seconds in reversed(cold)], "{:.1f} s", ours="lookalike")
    middle.set_title("A query from a cold start: seconds", loc="left", fontweight="bold")
    for row in search:
        name, ours = row["index"], row["index"].startswith(("server", "Milvus Lite"))
        x, y = float(row["queries a s"].replace(",", "")), float(row["recall@20"])
        right.scatter(x, y, s=42, color=OURS if ours else OTHERS, zorder=3)
        right.annotate(name, (x, y), xytext=(5, -11), textcoords="offset points", fontsize=7.5)
    right.set_xscale("log")
    right.margins(x=0.3, y=0.25)
    right.set_xlabel("queries a second, one after another")
    right.set_ylabel("recall@20")
    right.grid(color="#e6e9ec", zorder=0)
    right.set_title("A search in 1,000,000 × 256", loc="left", fontweight="bold")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(w_pad=2.5)
    figure.savefig(RESULTS / "chart.png", dpi=150)
    plt.close(figure)


def _bars(axes: Axes, values: list[tuple[str, float]], text: str, *, ours: str) -> None:
    names, heights = zip(*values, strict=True)
    bars = axes.barh(names, heights, color=[OURS if ours in name else OTHERS for name in names])
    axes.bar_label(bars, [text.format(height) for height in heights], padding=3)
    axes.set_xlim(0, max(heights) * 1.18)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


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
