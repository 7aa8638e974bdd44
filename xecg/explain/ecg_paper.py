"""ECG paper in true millimetres: 25 mm/s, 10 mm/mV, a fine line every 1 mm, a bold one every 5 mm.

A canvas is one axes over a whole figure whose data unit is the millimetre, so that whatever is
drawn at 25 mm/s measures 25 mm/s when the figure is printed at its own size.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MM_PER_S = 25.0
MM_PER_MV = 10.0
MM_PER_INCH = 25.4
POINTS_PER_MM = 72 / MM_PER_INCH
SQUARE_MM = 5  # between bold lines

LEAD_IN_MM = 15.0  # paper before the trace, for the calibration pulse
LEAD_OUT_MM = 5.0

INK = "#2b2f36"
QUIET_INK = "#6b7280"
_FINE, _BOLD, _EDGE = "#fae4e0", "#f0b9b0", "#d9968b"

_TALLEST_MM = 60.0  # of a trace; beyond it the gain is halved, as on an ECG recorder
_SCALED_MM = 20.0  # of a trace that has no millivolts
_MV_PER_UNIT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}


@dataclass(frozen=True)
class Amplitude:
    """How a signal is set on paper.

    Args:
        heights_mm: The signal in millimetres above its baseline (its median), ``(time,)``.
        mm_per_mv: The gain; None where the signal is scaled and has no millivolts.
    """

    heights_mm: NDArray[np.float64]
    mm_per_mv: float | None

    @property
    def text(self) -> str:
        """What stands beside the paper speed."""
        return (
            "amplitude scaled, not in mV" if self.mm_per_mv is None else f"{self.mm_per_mv:g} mm/mV"
        )


def amplitude(signal: NDArray[np.floating], unit: str) -> Amplitude:
    """Choose the gain: 10 mm/mV, halved until the trace fits; 20 mm in all where it is scaled.

    Args:
        signal: ``(time,)`` in ``unit``.
        unit: ``"mV"``, ``"uV"`` or ``"V"``; anything else is taken as scaled.

    Returns:
        The signal in millimetres and its gain.
    """
    values = np.array(signal, dtype=np.float64)
    mv_per_unit = _MV_PER_UNIT.get(unit.strip().lower())
    extent = float(np.ptp(values))
    values -= np.median(values)  # as an ECG recorder, which passes no constant
    if mv_per_unit is None:
        return Amplitude(values * (_SCALED_MM / extent if extent else 0.0), None)
    gain = MM_PER_MV
    while extent * mv_per_unit * gain > _TALLEST_MM and gain > MM_PER_MV / 64:
        gain /= 2
    return Amplitude(values * mv_per_unit * gain, gain)


def new_canvas(width_mm: float, height_mm: float) -> "tuple[Figure, Axes]":
    """Make a figure of this size with one axes over all of it, in millimetres from bottom left."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width_mm), ylim=(0, height_mm))
    axes.set_axis_off()
    return figure, axes


def draw_paper(axes: "Axes", left: float, bottom: float, width: float, height: float) -> None:
    """Draw the grid of a strip of paper; all in millimetres."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    for step, colour, line_mm in ((1, _FINE, 0.1), (SQUARE_MM, _BOLD, 0.15)):
        xs = np.arange(0, width + 1e-6, step) + left
        ys = np.arange(0, height + 1e-6, step) + bottom
        lines = [[(x, bottom), (x, bottom + height)] for x in xs]
        lines += [[(left, y), (left + width, y)] for y in ys]
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=line_mm * POINTS_PER_MM), autolim=False
        )
    axes.add_patch(
        Rectangle((left, bottom), width, height, fill=False, edgecolor=_EDGE, linewidth=0.6)
    )


def draw_calibration(axes: "Axes", left: float, baseline: float, mm_per_mv: float) -> None:
    """Draw the calibration pulse: 1 mV for 0.2 s from the baseline."""
    xs = np.array([0, 2, 2, 7, 7, 9]) + left
    ys = np.array([0, 0, 1, 1, 0, 0]) * mm_per_mv + baseline
    axes.plot(xs, ys, color=INK, linewidth=1.0, solid_joinstyle="miter")
    axes.text(left + 4.5, baseline - 1.2, "1 mV", size=6, color=QUIET_INK, ha="center", va="top")
