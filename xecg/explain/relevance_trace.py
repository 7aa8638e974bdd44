"""A trace coloured by relevance, and the colour bar that reads it."""

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xecg.explain.ecg_paper import POINTS_PER_MM, QUIET_INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Colormap

COLOURS = ("#84929e", "#5679b5", "#7146ab", "#7d0048")  # slate, blue, violet, magenta

_THIN_MM, _THICK_MM = 0.3, 0.9
_LEVELS = 32
_SMOOTHING_S = 0.02  # 0.5 mm on paper: what is finer cannot be seen


@cache
def relevance_colours() -> "Colormap":
    """The colours of relevance from none to the largest."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("relevance", COLOURS)


def display_relevance(relevance: NDArray[np.floating], sampling_rate: float) -> NDArray[np.float64]:
    """Prepare relevance for the eye: its mean over 20 ms, from 0 to 1.

    1 is the 99th percentile, so that a single outlying beat does not pale the others, but at
    least half the largest value; what is above it is 1 as well.

    Args:
        relevance: ``(time,)``.
        sampling_rate: In Hz.

    Returns:
        Numbers from 0 to 1, ``(time,)``; a map that is all zero stays zero.
    """
    width = max(1, round(_SMOOTHING_S * sampling_rate))
    positive = np.clip(relevance, 0, None).astype(np.float64)
    smooth = np.convolve(positive, np.ones(width) / width, mode="same")
    high = max(np.percentile(smooth, 99), smooth.max() / 2)
    return np.minimum(smooth / high, 1.0) if high > 0 else smooth


def coloured_runs(
    points: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Cut a line into pieces of one colour each: fewer and smoother than one for each sample.

    Args:
        points: ``(time, 2)``.
        values: Relevance at the points, 0 to 1, ``(time,)``.

    Returns:
        The pieces, each reaching the first point of the next one, and the value of each; the
        largest come last, so that they are drawn on top.
    """
    levels = np.rint(values[:-1] * (_LEVELS - 1)).astype(np.int64)
    starts = np.flatnonzero(np.r_[True, levels[1:] != levels[:-1]])
    stops = np.r_[starts[1:], levels.size]
    order = np.argsort(levels[starts], kind="stable")
    pieces = [points[starts[piece] : stops[piece] + 1] for piece in order]
    return pieces, levels[starts][order] / (_LEVELS - 1)


def draw_trace(
    axes: "Axes", points: NDArray[np.float64], values: NDArray[np.float64]
) -> "LineCollection":
    """Draw a line through ``points`` (in mm), darker and thicker where ``values`` are larger."""
    from matplotlib.collections import LineCollection

    pieces, levels = coloured_runs(points, values)
    lines = LineCollection(
        pieces,
        colors=relevance_colours()(levels),
        linewidths=(_THIN_MM + (_THICK_MM - _THIN_MM) * levels) * POINTS_PER_MM,
        capstyle="round",
        joinstyle="round",
    )
    axes.add_collection(lines, autolim=False)
    return lines


def draw_colour_bar(axes: "Axes", right: float, middle: float) -> None:
    """Draw the colour bar as a line that thickens like the trace, with its legend; in mm."""
    length = 40.0
    xs = np.linspace(right - length, right, 200)
    draw_trace(axes, np.stack([xs, np.full_like(xs, middle)], axis=1), np.linspace(0, 1, xs.size))
    legend = {"low": (0.0, "left"), "relevance": (0.5, "center"), "high": (1.0, "right")}
    for text, (place, side) in legend.items():
        x = right - length * (1 - place)
        axes.text(x, middle + 1.2, text, size=7, color=QUIET_INK, ha=side, va="bottom")
