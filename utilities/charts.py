"""Figures: curves of what was measured. Numbers in, a matplotlib Figure out, readable in greyscale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

#: Colours of different lightness, and markers and dashes beside them, so that a print in grey tells curves apart.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0b3c49", "marker": "o", "linestyle": "-"},
    {"color": "#c8553d", "marker": "s", "linestyle": "--"},
    {"color": "#7a9e7e", "marker": "^", "linestyle": "-."},
)
INK, GREY, PALE = "#22303a", "#6b6b6b", "#d9dde0"


def reduction_chart(
    name: str,
    variances: NDArray[np.float64],
    dimensions: Sequence[int],
    curves: Mapping[str, tuple[Sequence[float], float]],
    enough: int | None,
    statement: str,
) -> Figure:
    """The scree plot beside what each number of dimensions is worth.

    Args:
        name: of the collection.
        variances: along each axis, the largest first.
        dimensions: the numbers that were tried.
        curves: by the name of a metric, its values at each of them, and its value without PCA, which is dotted.
        enough: the number to mark; None for none.
        statement: a sentence that says what to see.
    """
    figure, (scree, quality) = _panels(f"{name}: how many dimensions are enough?", statement, 2)
    numbers = np.arange(1, len(variances) + 1)
    share = 100 * variances / variances.sum()
    scree.plot(numbers, share, color=STYLES[0]["color"], linewidth=1.8)
    scree.set(xscale="log", yscale="log", xlabel="axis", ylabel="variance along it, % of all", title="Scree plot")
    scree.set_ylim(bottom=max(share.min(), 1e-4) / 2)
    whole = scree.twinx()
    whole.plot(numbers, np.cumsum(share), color=STYLES[1]["color"], linestyle="--", linewidth=1.8)
    whole.set(ylabel="variance along the first axes, % (dashed)", ylim=(0, 103))
    whole.spines[["top"]].set_visible(False)
    for (label, (values, full)), style in zip(curves.items(), STYLES, strict=False):
        quality.plot(dimensions, values, label=label, markersize=4, linewidth=1.8, **style)
        quality.axhline(full, color=style["color"], linewidth=0.9, linestyle=":")
    quality.set(xscale="log", xlabel="dimensions", ylabel="metric, 0 to 1", title="What they are worth")
    if enough is not None:
        quality.axvline(enough, color=INK, linewidth=1, linestyle=":")
        text = f" {enough} dimensions"
        quality.annotate(text, (enough, 0.02), xycoords=("data", "axes fraction"), color=INK, fontsize=9)
    quality.legend(frameon=False, fontsize=9)
    for axes in (scree, quality):
        _plain_numbers(axes)
    return figure


def _panels(title: str, statement: str, columns: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(5.2 * columns, 4.6), dpi=110, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1, 0.85), w_pad=0.12)  # type: ignore[union-attr, call-arg]
    figure.text(0.015, 0.965, title, fontsize=13, fontweight="bold", va="top", color=INK, parse_math=False)
    figure.text(0.015, 0.895, statement, fontsize=9.5, va="top", color=GREY, parse_math=False)
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, panels


def _plain_numbers(axes: Axes) -> None:
    """Write 100 instead of 10 to the power of 2."""
    from matplotlib.ticker import FuncFormatter

    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
