"""Figures: curves of what was measured. Numbers in, a matplotlib Figure out, readable in greyscale."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from utilities.labels import Labels
from utilities.retrieval_metrics import Estimate
from utilities.verification import Verification

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from utilities.fine_tuning import Losses

#: Colours of different lightness, and markers and dashes beside them, so that a print in grey tells curves apart.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0b3c49", "marker": "o", "linestyle": "-"},
    {"color": "#c8553d", "marker": "s", "linestyle": "--"},
    {"color": "#7a9e7e", "marker": "^", "linestyle": "-."},
)
#: Of databases and libraries, and a marker for each of their indexes.
FAMILY_COLOURS, MARKERS = ("#0b3c49", "#c8553d", "#d9a441", "#7a9e7e", "#9a9a9a", "#6a4c93"), "osD^vP*Xph<>"
#: The part missed that is drawn for nothing missed.
ALL_FOUND = 1e-4
#: Labels whose names are written on a map.
NAMED = 40
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
        side = "left" if enough**2 < dimensions[0] * dimensions[-1] else "right"
        mark = quality.annotate(f" {enough} dimensions ", (enough, 0.02), xycoords=("data", "axes fraction"))
        mark.set(ha=side, color=INK, fontsize=9)
    quality.legend(frameon=False, fontsize=9)
    for axes in (scree, quality):
        _plain_numbers(axes)
    return figure


def speed_and_quality_chart(name: str, points: Mapping[str, tuple[float, Estimate]], metric: str) -> Figure:
    """Networks by how fast and how good they are.

    Args:
        name: of the images.
        points: by a network's name, its images a second and its quality.
        metric: what the quality is called.
    """
    best = max(points, key=lambda each: points[each][1].mean)
    fastest = max(points, key=lambda each: points[each][0])
    statement = f"Better is higher, faster is to the right: {best} finds best"
    statement += f", {fastest} is fastest." if fastest != best else ", and is fastest."
    figure, (axes,) = _panels(f"{name}: speed against quality", statement, 1, width=8.0)
    for network, (speed, quality) in points.items():
        error = [[quality.mean - quality.low], [quality.high - quality.mean]]
        axes.errorbar(speed, quality.mean, yerr=error, color=STYLES[0]["color"], marker="o", markersize=7, capsize=3)
        text = axes.annotate(network, (speed, quality.mean), (9, 0), textcoords="offset points", va="center")
        text.set(fontsize=9, parse_math=False)
    axes.set(xscale="log", xlabel="images a second, from file to vector", ylabel=f"{metric}, 95 % interval")
    axes.margins(x=0.25)
    _plain_numbers(axes)
    return figure


def recall_and_speed_chart(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Indexes by how many of the true neighbours they find, and how many queries a second they answer.

    Args:
        title: what was searched.
        curves: by the name of an index, (recall, queries a second) at several settings, or at its only one.
    """
    statement = "Up and to the right is better; each point is one setting of a search with many queries at once."
    figure, (axes,) = _panels(f"{title}: recall against speed", statement, 1, width=9.0)
    families = list(dict.fromkeys(_family(name) for name in curves))
    for number, (name, points) in enumerate(curves.items()):
        recalls, speeds = zip(*sorted(points), strict=True)
        # What counts is how little is missed; 0.99 and 0.999 are as far apart as 0.9 and 0.99.
        missed = [max(1 - recall, ALL_FOUND) for recall in recalls]
        colour = FAMILY_COLOURS[families.index(_family(name)) % len(FAMILY_COLOURS)]
        (line,) = axes.plot(missed, speeds, label=name, color=colour, linewidth=1.4)
        line.set(marker=MARKERS[number % len(MARKERS)], markersize=7, markeredgecolor="white", markeredgewidth=0.5)
    axes.set(
        xscale="log", yscale="log", ylabel="queries a second", xlabel="recall@20: part of the true 20 nearest found"
    )
    _plain_numbers(axes)
    ticks = {0.5: "0.5", 0.1: "0.9", 0.01: "0.99", 0.001: "0.999", ALL_FOUND: "all"}
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FixedFormatter(list(ticks.values())))
    axes.set_xlim(max(1.3 * axes.get_xlim()[1], 0.02), ALL_FOUND / 1.6)
    axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def roc_chart(name: str, verification: Verification) -> Figure:
    """The receiver operating characteristic of telling whether two vectors are of one person.

    Args:
        name: of the collection.
        verification: what was measured.
    """
    told = verification.non_mated >= 1_000
    where = "Where one in a thousand pairs of two persons matches" if told else "Where no pair of two persons matches"
    statement = f"{where}, {verification.true_match_rate:.1%} of the pairs of one person do."
    figure, (axes,) = _panels(f"{name}: one person, or two?", statement, 1, width=7.2)
    false, true = verification.false_match_rates, verification.true_match_rates
    lowest = 1 / verification.non_mated  # One pair: less than this was not measured.
    axes.plot(np.maximum(false, lowest), true, color=STYLES[0]["color"], linewidth=1.8, drawstyle="steps-post")
    equal = verification.equal_error_rate
    marks = (
        (
            "1 in 1,000" if told else "none",
            verification.false_match_rate,
            verification.true_match_rate,
            verification.threshold,
        ),
        ("equal error", equal, 1 - equal, verification.equal_error_threshold),
    )
    for number, (mark, x, y, threshold) in enumerate(marks):
        place = (max(x, lowest), y)
        axes.plot(*place, color=STYLES[1]["color"], marker=MARKERS[number], markersize=8, clip_on=False)
        text = axes.annotate(f"{mark}, cosine {threshold:.3f}", place, (8, -14), textcoords="offset points")
        text.set(fontsize=9, color=INK)
    axes.set(xscale="log", xlim=(lowest, 1), xlabel="false match rate: part of the pairs of two persons that matches")
    axes.set(ylabel="true match rate: part of the pairs\nof one person that matches")
    _plain_numbers(axes)
    return figure


def loss_chart(name: str, losses: Losses) -> Figure:
    """How the loss of a training fell, epoch by epoch.

    Args:
        name: what was trained.
        losses: of one epoch at least.
    """
    best, epochs = losses.best, len(losses.training)
    statement = f"The {losses.of} loss is lowest after epoch {best} of {epochs} (circle), whose weights are kept."
    figure, (axes,) = _panels(f"{name}: the loss of each epoch", statement, 1, width=7.2)
    for style, (label, values) in zip(
        STYLES, {"training": losses.training, "validation": losses.validation}.items(), strict=False
    ):
        if values:
            axes.plot(range(1, len(values) + 1), values, **style, linewidth=1.8, markersize=5, label=label)
    axes.plot(best, losses.watched[best - 1], marker="o", markersize=12, fillstyle="none", color=INK)
    axes.set(xlabel="epoch", ylabel="mean loss of an image", xlim=(0.7, epochs + 0.3))
    axes.margins(y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=9)
    return figure


def gains_chart(name: str, metric: str, plain: Estimate, gains: Sequence[tuple[str, Estimate, float]]) -> Figure:
    """What ways to search add to a metric, as bars with their intervals, and how much longer they take.

    Args:
        name: of the collection.
        metric: what is gained.
        plain: the metric of the plain search.
        gains: of each way its name, what it adds, and how many times as long it takes.
    """
    best = max(gains, key=lambda each: each[1].mean)
    statement = (
        f"Plain search: {plain.mean:.3f}. {best[0][:1].upper()}{best[0][1:]}: {best[1].mean:+.3f}."
        if best[1].mean > 0
        else f"Plain search: {plain.mean:.3f}; nothing adds to it."
    )
    height = 1.9 + 0.34 * len(gains)
    figure, (axes,) = _panels(f"{name}: what is added to {metric}", statement, 1, width=9.6, height=height)
    for place, (_, gain, times) in enumerate(gains):
        told = gain.low > 0 or gain.high < 0
        axes.barh(place, gain.mean, height=0.62, color=STYLES[0]["color"] if told else PALE)
        axes.plot([gain.low, gain.high], [place, place], color=STYLES[1]["color"], linewidth=2)
        right = max(gain.high, 0)
        text = axes.annotate(
            f"{gain.mean:+.3f} · {times:.1f} × the time", (right, place), (6, 0), textcoords="offset points"
        )
        text.set(fontsize=8.5, color=INK, va="center")
    axes.set(yticks=range(len(gains)), yticklabels=[way for way, *_ in gains], xlabel=f"{metric} gained, 95 % interval")
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    axes.set_xlim(right=1.3 * max(axes.get_xlim()[1], 0.01))
    return figure


def _family(name: str) -> str:
    return name.split(",")[0]


def label_scatter(title: str, method: str, points: NDArray[np.float64], labels: Labels) -> Figure:
    """A map of vectors, each label in a colour and with a marker of its own, and its name where most of it lies.

    Args:
        title: what is mapped.
        method: how, such as `t-SNE`; its axes have no unit.
        points: (n, 2).
        labels: of the n items.
    """
    statement = (
        f"What lies together looks alike to the network; {method} keeps neighbours, not distances between groups."
    )
    figure, (axes,) = _panels(f"{title}, by {method}", statement, 1, width=9.6, height=9.2)
    for code in range(-1, len(labels.names)):
        rows = labels.codes == code
        colour = PALE if code < 0 else _label_colour(code)
        marker = MARKERS[code % len(MARKERS)]
        axes.scatter(points[rows, 0], points[rows, 1], 16, color=colour, marker=marker, linewidths=0, alpha=0.8)
    commonest = np.argsort(-np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.names)), kind="stable")
    for code in commonest[:NAMED]:
        x, y = np.median(points[labels.codes == code], axis=0)
        name = axes.annotate(labels.names[code], (x, y + 0.015), fontsize=8, ha="center", va="center", color=INK)
        name.set(path_effects=[withStroke(linewidth=2.5, foreground="white")], parse_math=False)
    axes.set(xlabel=f"{method}, first axis (no unit)", ylabel=f"{method}, second axis (no unit)", xticks=[], yticks=[])
    return figure


def _label_colour(code: int) -> tuple[float, float, float]:
    """The colour that the page of `explore_page` gives a label: hues far apart for numbers that follow each other."""
    return colorsys.hls_to_rgb((code * 137.5 % 360) / 360, 0.40 + 0.12 * (code % 3), 0.62)


def _panels(
    title: str, statement: str, columns: int, width: float = 10.4, height: float = 4.6
) -> tuple[Figure, Sequence[Axes]]:
    """A figure with a title, a sentence below it, and plots side by side; its size in inches."""
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.7 / height), w_pad=0.12)  # type: ignore[union-attr, call-arg]
    left, top = 0.15 / width, 1 - 0.16 / height
    figure.text(left, top, title, fontsize=13, fontweight="bold", va="top", color=INK, parse_math=False)
    figure.text(left, top - 0.32 / height, statement, fontsize=9.5, va="top", color=GREY, parse_math=False)
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, panels


def _plain_numbers(axes: Axes) -> None:
    """Write 20, 50 and 100 instead of powers of ten."""
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axis.set_minor_formatter(NullFormatter())
