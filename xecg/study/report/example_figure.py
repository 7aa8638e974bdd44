"""An ECG as networks of several depths see it: depths side by side, branches one below the other.

On ECG paper at 25 mm/s, coloured by relevance as every other picture; the same heartbeats in each.
"""

from typing import TYPE_CHECKING

import numpy as np

from xecg.explain import pictures as ecg_paper
from xecg.explain.pictures import (
    INK,
    MM_PER_S,
    QUIET_INK,
    SQUARE_MM,
    display_relevance,
    draw_colour_bar,
    draw_trace,
)
from xecg.explain.relevance import wave_title
from xecg.study.report.cells import depth_title
from xecg.study.report.examples import Example, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARGIN_MM = 6.0
_HEADER_MM = 11.0
_TITLES_MM = 11.0  # above each row of panels
_FOOT_MM = 7.0
_GAP_MM = 4.0
_CLEARANCE_MM = 4.0  # paper above and below a trace
_ACROSS_S = 9.6  # of all panels together, so that they fit A4 across
_SHORTEST_S = 2.4


def draw_example(example: Example) -> "Figure":
    """Draw the middle of a window, a panel for each depth (across) and branch (down)."""
    return _Example(example).draw()


class _Example:
    """Sizes of a figure of panels, in millimetres, and their drawing."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.depths = list(example.looks)
        self.branches = list(example.looks[self.depths[0]])
        whole_s = example.signal.size / example.sampling_rate
        shown_s = min(max(_ACROSS_S / len(self.depths), _SHORTEST_S), whole_s)
        self.start = round((whole_s - shown_s) / 2 * example.sampling_rate)
        self.stop = self.start + round(shown_s * example.sampling_rate)
        self.width = MM_PER_S * shown_s
        self.trace = ecg_paper.amplitude(example.signal, "")
        heights = self.trace.heights_mm[self.start : self.stop]
        self.baseline = SQUARE_MM * np.ceil((_CLEARANCE_MM - heights.min()) / SQUARE_MM)
        self.height = SQUARE_MM * np.ceil(
            (self.baseline + heights.max() + _CLEARANCE_MM) / SQUARE_MM
        )

    def draw(self) -> "Figure":
        columns, rows = len(self.depths), len(self.branches)
        width = 2 * _MARGIN_MM + columns * self.width + (columns - 1) * _GAP_MM
        top = _HEADER_MM + rows * (_TITLES_MM + float(self.height)) + _FOOT_MM
        figure, axes = ecg_paper.new_canvas(width, top)
        self._header(axes, width, top)
        for row, branch in enumerate(self.branches):
            bottom = top - _HEADER_MM - (row + 1) * (_TITLES_MM + float(self.height))
            title = f"{branch.capitalize()} branch"
            y = bottom + self.height + 6.0
            axes.text(_MARGIN_MM, y, title, size=8.5, weight="bold", color=INK)
            for column, depth in enumerate(self.depths):
                left = _MARGIN_MM + column * (self.width + _GAP_MM)
                self._panel(axes, self.example.looks[depth][branch], depth, left, bottom)
        note = (
            f"P, QRS: enrichment over the whole window   ·   {MM_PER_S:g} mm/s   ·   "
            f"{self.trace.text}   ·   ▾ R peak"
        )
        axes.text(width - _MARGIN_MM, 3, note, size=6.5, color=QUIET_INK, ha="right", va="center")
        return figure

    def _header(self, axes: "Axes", width: float, top: float) -> None:
        example = self.example
        start_s = example.start_s + self.start / example.sampling_rate
        stop_s = example.start_s + self.stop / example.sampling_rate
        text = (
            f"{example.rhythm}: record {example.record} of {example.test_set}, "
            f"{start_s:.1f} to {stop_s:.1f} s; networks of seed {example.seed}"
        )
        axes.text(_MARGIN_MM, top - 6.5, text, size=9.5, weight="bold", color=INK)
        draw_colour_bar(axes, width - _MARGIN_MM, top - 7.5)

    def _panel(self, axes: "Axes", look: View, depth: int, left: float, bottom: float) -> None:
        example = self.example
        ecg_paper.draw_paper(axes, left, bottom, self.width, float(self.height))
        shown = slice(self.start, self.stop)
        mm_per_sample = MM_PER_S / example.sampling_rate
        xs = left + np.arange(self.stop - self.start) * mm_per_sample
        ys = bottom + self.baseline + self.trace.heights_mm[shown]
        relevance = display_relevance(look.relevance, example.sampling_rate)[shown]
        draw_trace(axes, np.stack([xs, ys], axis=1), relevance)
        peaks = np.asarray(example.r_peaks) - self.start
        peaks = peaks[(peaks >= 0) & (peaks < self.stop - self.start)]
        axes.plot(
            left + peaks * mm_per_sample,
            np.full(peaks.size, bottom + self.height - 1.2),
            linestyle="none",
            marker="v",
            markersize=3,
            color=QUIET_INK,
            markeredgewidth=0,
        )
        axes.text(left, bottom + self.height + 1.6, self._title(look, depth), size=7, color=INK)

    def _title(self, look: View, depth: int) -> str:
        blocks = f"{depth_title(depth)} frozen"
        waves = [
            f"{wave_title(wave, self.example.rhythm)} {look.enrichment[wave]:.1f}"
            for wave in ("P", "QRS")
        ]
        return "  ·  ".join([blocks, f"p(AF) {look.p_af:.2f}", *waves])
