"""A panel with frozen depth below: rungs joined by a line, training from scratch apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xecg.explain.pictures import INK, QUIET_INK
from xecg.study.report.cells import SCRATCH
from xecg.study.report.ladder import Ladder
from xecg.study.report.measures import DepthMean
from xecg.study.report.references import ORIGINAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEPTH_LABEL = "frozen blocks, counted from the input"
REFERENCE_DASHES = (0, (5, 3))

_GAP = 1.7  # from the first rung to training from scratch
_ASIDE = 0.16  # from a mean to the dots of its seeds
_DOT = 2.4
_SMALL = 8.0


@dataclass(frozen=True)
class Look:
    """How one line is drawn: distinct in colour, lightness and marker.

    Args:
        label: In the legend.
        colour: Of line, markers and intervals.
        marker: Of the means.
        shift: To the right, so that the intervals of several lines stand side by side.
    """

    label: str
    colour: str
    marker: str = "o"
    shift: float = 0.0


def new_figure(
    title: str, n_rows: int, n_columns: int, *, panel: tuple[float, float] = (3.4, 2.5)
) -> "Figure":
    """A figure for small multiples, with what it is of above it; panels in inches."""
    from matplotlib.figure import Figure

    size = (0.9 + panel[0] * n_columns, 1.15 + panel[1] * n_rows)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=QUIET_INK)
    return figure


def tidy(axes: "Axes") -> None:
    """Quiet spines and ticks, a light grid across."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET_INK)
    axes.tick_params(colors=QUIET_INK, labelsize=_SMALL)
    axes.grid(axis="y", color="#eceef1", linewidth=0.7)
    axes.set_axisbelow(True)


def place(depth: int, depths: Sequence[int]) -> float:
    """Where a depth stands on the axis."""
    if depth != SCRATCH:
        return float(depth)
    return min((d for d in depths if d != SCRATCH), default=0) - _GAP


def set_depth_axis(axes: "Axes", depths: Sequence[int], *, labelled: bool = True) -> None:
    """Ticks at the depths; training from scratch at the left, behind a gap."""
    rungs = [depth for depth in depths if depth != SCRATCH]
    places = [place(depth, depths) for depth in depths]
    titles = ["scratch" if depth == SCRATCH else str(depth) for depth in depths]
    axes.set_xticks(places, titles)
    axes.set_xlim(min(places) - 0.6, max(places) + 0.5)
    if rungs and SCRATCH in depths:
        middle = (min(rungs) + place(SCRATCH, depths)) / 2 + 0.15
        axes.axvline(middle, color="#d5d8dd", linewidth=0.8)
    if labelled:
        axes.set_xlabel(DEPTH_LABEL, fontsize=9, color=INK)


def draw_means(axes: "Axes", means: Sequence[DepthMean], look: Look) -> None:
    """Means with their intervals, joined over the rungs, and the seeds beside them."""
    depths = [mean.depth for mean in means]
    rungs = [mean for mean in means if mean.depth != SCRATCH]
    for group, line in ((rungs, "-"), ([m for m in means if m not in rungs], "none")):
        values = np.array([mean.value for mean in group])
        below = values - [mean.low for mean in group]
        above = [mean.high for mean in group] - values
        axes.errorbar(
            [place(mean.depth, depths) + look.shift for mean in group],
            values,
            # Rounding must not make a length negative.
            yerr=np.clip([below, above], 0, None) if group else None,
            linestyle=line,
            marker=look.marker,
            markersize=4.5,
            linewidth=1.5,
            elinewidth=1.0,
            color=look.colour,
            label=look.label if line == "-" or not rungs else None,
            zorder=3,
        )
    _draw_seeds(axes, means, look)


def draw_reference(axes: "Axes", value: float | None, colour: str = QUIET_INK) -> None:
    """A dashed line at what others found; nothing where it is not known."""
    if value is not None:
        axes.axhline(value, color=colour, linewidth=1.0, linestyle=REFERENCE_DASHES, zorder=2)


def add_legend(
    figure: "Figure", looks: Sequence[Look], ladder: Ladder, *, original: bool, seeds: bool = True
) -> None:
    """A legend below the panels: lines, what the marks are, reference.

    Args:
        figure: The figure.
        looks: The lines that one has to tell apart; none where the panels say what they show.
        ladder: Whose cells are drawn.
        original: Whether there is a line of reference.
        seeds: Whether the seeds are drawn as dots.
    """
    from matplotlib.lines import Line2D

    def handle(label: str, **style: Any) -> Line2D:
        line = Line2D([], [], color=QUIET_INK, markersize=4.5, label=label)
        line.set(**style)
        return line

    several = len(ladder.seeds) > 1
    what = "mean over seeds" if several else "network"
    handles = [handle(look.label, color=look.colour, marker=look.marker) for look in looks]
    interval = f"{what}, 95 % interval over persons or records"
    handles.append(handle(interval, marker="|", markersize=9, linestyle="none"))
    if several and seeds:
        handles.append(handle("each seed", marker="o", markersize=_DOT, linestyle="none"))
    if original:
        handles.append(handle(ORIGINAL, linestyle=REFERENCE_DASHES, linewidth=1.0))
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=len(handles),
        frameon=False,
        fontsize=_SMALL,
        labelcolor=INK,
    )


def _draw_seeds(axes: "Axes", means: Sequence[DepthMean], look: Look) -> None:
    """A dot for each seed's network beside the mean; none where there is a single one."""
    depths = [mean.depth for mean in means]
    aside = look.shift + (_ASIDE if look.shift >= 0 else -_ASIDE)
    dots = [
        (place(mean.depth, depths) + aside, value)
        for mean in means
        for value in mean.by_seed.values()
        if len(mean.by_seed) > 1
    ]
    axes.plot(
        [x for x, _ in dots],
        [y for _, y in dots],
        linestyle="none",
        marker="o",
        markersize=_DOT,
        color=look.colour,
        markeredgewidth=0,
        alpha=0.6,
        zorder=4,
    )
