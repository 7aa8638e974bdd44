"""Windows of an ECG on ECG paper, the trace coloured by the relevance that each branch gave it.

Low relevance is a thin slate line, high relevance a thick dark magenta one. The colours darken
steadily, so that they also tell in print without colour and to a colour-blind reader.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xecg.errors import DataError
from xecg.explain import ecg_paper
from xecg.explain.ecg_paper import INK, MM_PER_S, QUIET_INK, SQUARE_MM
from xecg.explain.relevance_trace import display_relevance, draw_colour_bar, draw_trace
from xecg.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

FUSED = "fused"

_MARGIN_MM = 13.5  # 10 s of ECG then fill A4 across, 297 mm
_HEADER_MM = 12.0
_CAPTION_MM = 6.0
_TIME_AXIS_MM = 8.0
_CLEARANCE_MM = 4.0  # paper above and below a trace


@dataclass(frozen=True)
class ExplainedWindow:
    """A window of one lead with what the network makes of it.

    Args:
        record: Name of the record.
        lead: Name of the lead.
        start_s: Where the window starts in the record, in seconds.
        signal: ``(time,)`` in ``unit``.
        unit: ``"mV"``, ``"uV"`` or ``"V"``; anything else is drawn as scaled.
        sampling_rate: Of signal and relevance, in Hz.
        r_peaks: R peaks, in samples of the window.
        relevance: Relevance by each branch, ``(time,)``, in the order in which to draw them.
        p_af: Probability of AF by each branch, and under ``"fused"`` by the whole network.
        predicted: Predicted class, by the same names.
    """

    record: str
    lead: str
    start_s: float
    signal: NDArray[np.floating]
    unit: str
    sampling_rate: float
    r_peaks: NDArray[np.integer]
    relevance: Mapping[str, NDArray[np.floating]]
    p_af: Mapping[str, float]
    predicted: Mapping[str, str]

    def __post_init__(self) -> None:
        where = f"the window at {self.start_s:g} s of record {self.record}"
        if self.signal.ndim != 1 or self.signal.size < 2:
            raise DataError(f"Expected a signal (time,) in {where}, found {self.signal.shape}.")
        if not self.sampling_rate > 0:
            raise DataError(f"Expected a sampling rate above 0 in {where}.")
        if not self.relevance:
            raise DataError(f"Expected the relevance of at least one branch in {where}.")
        for name, values in {"signal": self.signal, **self.relevance}.items():
            if values.shape != self.signal.shape or not np.isfinite(values).all():
                raise DataError(
                    f"Expected {self.signal.size} finite numbers for {name} in {where}, found "
                    f"shape {values.shape} with {np.isfinite(values).sum()} finite."
                )
        peaks = np.asarray(self.r_peaks)
        if peaks.size and not 0 <= peaks.min() <= peaks.max() < self.signal.size:
            raise DataError(
                f"Expected R peaks in samples of {where}, 0 to {self.signal.size - 1}, found "
                f"{peaks.min()} to {peaks.max()}."
            )

    @property
    def duration_s(self) -> float:
        """Length of the window, in seconds."""
        return self.signal.size / self.sampling_rate


def draw_window(window: ExplainedWindow) -> "Figure":
    """Draw one window; see :func:`draw_page`."""
    return draw_page([window])


def draw_page(windows: Sequence[ExplainedWindow]) -> "Figure":
    """Draw windows one below the other in true size: 25 mm/s, and 10 mm/mV where there are mV.

    Args:
        windows: What to draw.

    Returns:
        A figure without pyplot's state; windows of 10 s make it as wide as A4 across, 297 mm.

    Raises:
        DataError: There is no window.
    """
    figure, axes = draw_ground(windows)
    draw_traces(axes, windows)
    return figure


def draw_ground(windows: Sequence[ExplainedWindow]) -> "tuple[Figure, Axes]":
    """Draw all but the traces: what stays the same where the relevance alone changes.

    Args:
        windows: As for :func:`draw_page`.

    Raises:
        DataError: There is no window.
    """
    if not windows:
        raise DataError("Expected at least one window to draw, found none.")
    placed = _placed(windows)
    width, (_, height) = max(plot.width for plot, _ in placed), placed[0]
    figure, axes = ecg_paper.new_canvas(width, height)
    for plot, top in placed:
        plot.draw_ground(axes, top)
    return figure, axes


def draw_traces(axes: "Axes", windows: Sequence[ExplainedWindow]) -> "list[LineCollection]":
    """Draw the traces on the ground that the same windows have, and return them."""
    return [trace for plot, top in _placed(windows) for trace in plot.draw_traces(axes, top)]


def save_figure(
    figure: "Figure", path: Path | str, *, dpi: float = 254.0, overwrite: bool = False
) -> Path:
    """Write a figure to a file, whole or not at all.

    Args:
        figure: The figure.
        path: Its file; the ending chooses PNG, SVG or PDF.
        dpi: Resolution of a PNG; 254 is 10 pixels to the millimetre, which keeps the grid even.
        overwrite: Replace a file that exists.

    Returns:
        The path.

    Raises:
        DataError: The ending is another one, or the file exists.
    """
    from matplotlib import rc_context

    path = Path(path)
    undated = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    if path.suffix not in undated:
        raise DataError(f"Expected a picture that ends in {', '.join(undated)}, found {path}.")
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists: choose another name or allow it to be overwritten.")
    content = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "xecg"}):
        figure.savefig(content, format=path.suffix[1:], dpi=dpi, metadata=undated[path.suffix])
    write_whole(path, content.getvalue())
    return path


def _placed(windows: Sequence[ExplainedWindow]) -> "list[tuple[_WindowPlot, float]]":
    """Windows one below the other, each with the height of its upper edge, in millimetres."""
    plots = [_WindowPlot(window) for window in windows]
    heights = [plot.height for plot in plots]
    return [(plot, sum(heights[number:])) for number, plot in enumerate(plots)]


class _WindowPlot:
    """Header, one strip of paper for each branch, and time axis of a window, in millimetres."""

    def __init__(self, window: ExplainedWindow) -> None:
        self.window = window
        self.trace = ecg_paper.amplitude(window.signal, window.unit)
        lowest, highest = self.trace.heights_mm.min(), self.trace.heights_mm.max()
        # Bold lines run through the baseline and the upper edge.
        self.baseline = SQUARE_MM * np.ceil((_CLEARANCE_MM - lowest) / SQUARE_MM)
        self.strip = SQUARE_MM * np.ceil((self.baseline + highest + _CLEARANCE_MM) / SQUARE_MM)
        self.paper = ecg_paper.LEAD_IN_MM + MM_PER_S * window.duration_s + ecg_paper.LEAD_OUT_MM
        self.origin = _MARGIN_MM + ecg_paper.LEAD_IN_MM
        self.right = _MARGIN_MM + self.paper
        self.width = self.right + _MARGIN_MM
        strips = len(window.relevance) * (_CAPTION_MM + self.strip)
        self.height = float(_HEADER_MM + strips + _TIME_AXIS_MM)

    def draw_ground(self, axes: "Axes", top: float) -> None:
        self._header(axes, top - _HEADER_MM + 2.5)
        for branch, bottom in self._strips(top):
            self._paper(axes, branch, bottom)
        self._time_axis(axes, top - self.height + _TIME_AXIS_MM)

    def draw_traces(self, axes: "Axes", top: float) -> "Iterator[LineCollection]":
        window = self.window
        xs = self._across(np.arange(window.signal.size))
        for branch, bottom in self._strips(top):
            points = np.stack([xs, bottom + self.baseline + self.trace.heights_mm], axis=1)
            shown = display_relevance(window.relevance[branch], window.sampling_rate)
            yield draw_trace(axes, points, shown)

    def _strips(self, top: float) -> Iterator[tuple[str, float]]:
        """Each branch with the lower edge of its strip of paper."""
        step = _CAPTION_MM + self.strip
        for number, branch in enumerate(self.window.relevance, start=1):
            yield branch, top - _HEADER_MM - number * step

    def _across(self, samples: NDArray[np.integer]) -> NDArray[np.floating]:
        across: NDArray[np.floating] = self.origin + samples * (
            MM_PER_S / self.window.sampling_rate
        )
        return across

    def _header(self, axes: "Axes", y: float) -> None:
        window = self.window
        parts = [
            f"lead {window.lead}",
            f"{window.start_s:g} to {window.start_s + window.duration_s:g} s",
            *self._prediction(FUSED, "predicted"),
        ]
        _draw_title(axes, y, window.record, parts, size=11)
        draw_colour_bar(axes, self.right, y)

    def _prediction(self, name: str, verb: str) -> list[str]:
        window = self.window
        parts = [f"{verb} {window.predicted[name]}"] if name in window.predicted else []
        return [*parts, f"p(AF) {window.p_af[name]:.2f}"] if name in window.p_af else parts

    def _paper(self, axes: "Axes", branch: str, bottom: float) -> None:
        ecg_paper.draw_paper(axes, _MARGIN_MM, bottom, self.paper, self.strip)
        if self.trace.mm_per_mv is not None:
            baseline = bottom + self.baseline
            ecg_paper.draw_calibration(axes, _MARGIN_MM + 3, baseline, self.trace.mm_per_mv)
        peaks = self._across(np.asarray(self.window.r_peaks))
        axes.plot(
            peaks,
            np.full(peaks.size, bottom + self.strip - 1.2),
            linestyle="none",
            marker="v",
            markersize=3,
            color=QUIET_INK,
            markeredgewidth=0,
        )
        title, parts = f"{branch.capitalize()} branch", self._prediction(branch, "evidence for")
        _draw_title(axes, bottom + self.strip + 1.6, title, parts, size=8.5)

    def _time_axis(self, axes: "Axes", bottom: float) -> None:
        for second in range(int(self.window.duration_s) + 1):
            x = self.origin + second * MM_PER_S
            axes.plot([x, x], [bottom, bottom - 1], color=QUIET_INK, linewidth=0.6)
            text = f"{self.window.start_s + second:g}"
            axes.text(x, bottom - 1.5, text, size=6.5, color=QUIET_INK, ha="center", va="top")
        note = f"{MM_PER_S:g} mm/s   ·   {self.trace.text}   ·   ▾ R peak   ·   time in s"
        axes.text(self.right, bottom - 4.8, note, size=6.5, color=QUIET_INK, ha="right", va="top")


def _draw_title(axes: "Axes", y: float, title: str, parts: Sequence[str], *, size: float) -> None:
    """Draw a bold title and, after it on the same line, its parts."""
    bold = axes.text(_MARGIN_MM, y, title, size=size, weight="bold", color=INK)
    axes.annotate(
        "   ·   ".join(parts),
        xy=(1, y),
        xycoords=(bold, "data"),
        xytext=(size, 0),
        textcoords="offset points",
        size=size,
        color=INK,
        va="baseline",
    )
