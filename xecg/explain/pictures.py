"""Windows of an ECG on ECG paper, the trace coloured by the relevance that each branch gave it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from xecg.errors import DataError
from xecg.files import write_whole
from xecg.networks.xecgarch import FUSED

MM_PER_S, MM_PER_MV, MM_PER_INCH = 25.0, 10.0, 25.4
POINTS_PER_MM = 72 / MM_PER_INCH
SQUARE_MM = 5  # between bold lines
INK, QUIET_INK = "#2b2f36", "#6b7280"
_FINE, _BOLD, _EDGE = "#fae4e0", "#f0b9b0", "#d9968b"  # lines of the paper
# Slate, blue, violet, magenta; darker with relevance, for print and the colour-blind.
_COLOURS = ("#84929e", "#5679b5", "#7146ab", "#7d0048")
RELEVANCE = LinearSegmentedColormap.from_list("relevance", _COLOURS)

_THIN_MM, _THICK_MM = 0.3, 0.9  # of a trace
_LEVELS = 32  # of colour
_MV_PER_UNIT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}

_LEAD_IN_MM, _LEAD_OUT_MM = 15.0, 5.0  # paper before (for the calibration pulse) and after a trace
_MARGIN_MM = 13.5  # 10 s of ECG then fill A4 across, 297 mm
_HEADER_MM, _CAPTION_MM, _TIME_AXIS_MM = 12.0, 6.0, 8.0
_CLEARANCE_MM = 4.0  # paper above and below a trace


def display_relevance(relevance: NDArray[np.floating], sampling_rate: float) -> NDArray[np.float64]:
    """Returns relevance ``(time,)`` for the eye: its mean over 20 ms, scaled to 0 to 1.

    The 99th percentile, or half the largest value if that is more, and all above it become 1.
    """
    width = max(1, round(0.02 * sampling_rate))  # 0.5 mm on paper: what is finer cannot be seen
    positive = np.clip(relevance, 0, None).astype(np.float64)
    smooth = np.convolve(positive, np.ones(width) / width, mode="same")
    high = max(np.percentile(smooth, 99), smooth.max() / 2)  # one outlying beat pales no other
    return np.minimum(smooth / high, 1.0) if high > 0 else smooth


def coloured_runs(
    points: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Cuts a line through ``points (time, 2)`` where its ``values (time,)`` change colour.

    Returns the pieces, each up to the first point of the next, and their values; largest last.
    """
    levels = np.rint(values[:-1] * (_LEVELS - 1)).astype(np.int64)
    starts = np.flatnonzero(np.r_[True, levels[1:] != levels[:-1]])
    stops = np.r_[starts[1:], levels.size]
    order = np.argsort(levels[starts], kind="stable")
    pieces = [points[starts[piece] : stops[piece] + 1] for piece in order]
    return pieces, levels[starts][order] / (_LEVELS - 1)


def draw_trace(axes: Axes, points: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """Draws a line through ``points`` (in mm), darker and thicker where ``values`` are larger."""
    pieces, levels = coloured_runs(points, values)
    widths = (_THIN_MM + (_THICK_MM - _THIN_MM) * levels) * POINTS_PER_MM
    look: dict[str, Any] = {"capstyle": "round", "joinstyle": "round", "linewidths": widths}
    axes.add_collection(LineCollection(pieces, colors=RELEVANCE(levels), **look), autolim=False)


def draw_colour_bar(axes: Axes, right: float, middle: float) -> None:
    """Draws the colour bar as a line that thickens like the trace, with its legend; in mm."""
    xs = np.linspace(right - 40, right, 200)
    draw_trace(axes, np.stack([xs, np.full_like(xs, middle)], axis=1), np.linspace(0, 1, xs.size))
    for text, side, x in (("low", "left", 40), ("relevance", "center", 20), ("high", "right", 0)):
        axes.text(right - x, middle + 1.2, text, size=7, color=QUIET_INK, ha=side, va="bottom")


def amplitude(signal: NDArray[np.floating], unit: str) -> tuple[NDArray[np.float64], float | None]:
    """Returns heights in mm above the baseline (the median), ``(time,)``, and the gain in mm/mV.

    The gain is 10 mm/mV, halved until the trace fits 60 mm. Where ``unit`` is not mV, uV or V, the
    trace is 20 mm high, and the gain is None.
    """
    values = np.array(signal, dtype=np.float64)
    values -= np.median(values)  # as an ECG recorder, which passes no constant
    mv_per_unit, extent = _MV_PER_UNIT.get(unit.strip().lower()), float(np.ptp(values))
    if mv_per_unit is None:
        return values * (20.0 / extent if extent else 0.0), None
    gain = MM_PER_MV
    while extent * mv_per_unit * gain > 60.0:
        gain /= 2  # as on an ECG recorder
    return values * mv_per_unit * gain, gain


def new_canvas(width_mm: float, height_mm: float) -> tuple[Figure, Axes]:
    """Returns a figure with one axes over all of it, in millimetres from bottom left."""
    figure = Figure(figsize=(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width_mm), ylim=(0, height_mm))
    axes.set_axis_off()
    return figure, axes


def draw_paper(axes: Axes, left: float, bottom: float, width: float, height: float) -> None:
    """Draws the grid of a strip of paper; all in mm."""
    for step, colour, line_mm in ((1, _FINE, 0.1), (SQUARE_MM, _BOLD, 0.15)):
        xs = np.arange(0, width + 1e-6, step) + left
        ys = np.arange(0, height + 1e-6, step) + bottom
        lines = [[(x, bottom), (x, bottom + height)] for x in xs]
        lines += [[(left, y), (left + width, y)] for y in ys]
        grid = LineCollection(lines, colors=colour, linewidths=line_mm * POINTS_PER_MM)
        axes.add_collection(grid, autolim=False)
    edge = Rectangle((left, bottom), width, height, fill=False, edgecolor=_EDGE, linewidth=0.6)
    axes.add_patch(edge)


def draw_calibration(axes: Axes, left: float, baseline: float, mm_per_mv: float) -> None:
    """Draws the calibration pulse: 1 mV for 0.2 s from the baseline."""
    xs = np.array([0, 2, 2, 7, 7, 9]) + left
    ys = np.array([0, 0, 1, 1, 0, 0]) * mm_per_mv + baseline
    axes.plot(xs, ys, color=INK, linewidth=1.0, solid_joinstyle="miter")
    axes.text(left + 4.5, baseline - 1.2, "1 mV", size=6, color=QUIET_INK, ha="center", va="top")


@dataclass(frozen=True)
class ExplainedWindow:
    """A window of one lead with what the network makes of it; DataError if shapes disagree."""

    record: str
    lead: str
    start_s: float  # in the record
    signal: NDArray[np.floating]  # (time,) in `unit`
    unit: str  # mV, uV or V; anything else is drawn as scaled
    sampling_rate: float  # Hz
    r_peaks: NDArray[np.integer]  # in samples of the window
    relevance: Mapping[str, NDArray[np.floating]]  # (time,) by branch, in the order of drawing
    p_af: Mapping[str, float]  # probability of AF by branch, and of all under "fused"
    predicted: Mapping[str, str]  # class, by the same names
    note: str = ""  # what else the reader must know, such as why the window cannot be judged

    def __post_init__(self) -> None:
        n, rate, branches = self.signal.size, self.sampling_rate, len(self.relevance)
        if self.signal.ndim != 1 or n < 2:
            self._refuse("a signal (time,)", self.signal.shape)
        if not rate > 0 or not branches:
            wanted = "a sampling rate above 0 and at least one branch"
            self._refuse(wanted, f"{rate:g} Hz and {branches}")
        for name, values in {"signal": self.signal, **self.relevance}.items():
            finite = np.isfinite(values)
            if values.shape != (n,) or not finite.all():
                found = f"shape {values.shape} with {finite.sum()} finite"
                self._refuse(f"{n} finite numbers for {name}", found)
        peaks = np.asarray(self.r_peaks)
        if peaks.size and not 0 <= peaks.min() <= peaks.max() < n:
            found = f"{peaks.min()} to {peaks.max()}"
            self._refuse("R peaks", found, within=f", samples 0 to {n - 1}")

    def _refuse(self, wanted: str, found: Any, within: str = "") -> None:
        where = f"the window at {self.start_s:g} s of record {self.record}{within}"
        raise DataError(f"Expected {wanted} in {where}, found {found}.")


def draw_page(windows: Sequence[ExplainedWindow]) -> Figure:
    """Draws windows one below the other in true size: 25 mm/s, and 10 mm/mV where there are mV.

    Windows of 10 s make the figure as wide as A4 across, 297 mm. Raises DataError without windows.
    """
    if not windows:
        raise DataError("Expected at least one window to draw, found none.")
    plots = [_WindowPlot(window) for window in windows]
    top = sum(plot.height for plot in plots)
    figure, axes = new_canvas(max(plot.width for plot in plots), top)
    for plot in plots:
        plot.draw(axes, top)
        top -= plot.height
    return figure


def save_figure(
    figure: Figure, path: Path | str, *, dpi: float = 254.0, overwrite: bool = False
) -> Path:
    """Writes a figure whole, and returns the path, whose ending chooses PNG, SVG or PDF.

    At 254 dpi a PNG has 10 pixels a millimetre, which keeps the grid even. Raises DataError if the
    ending is another one, or the file exists and ``overwrite`` is false.
    """
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


class _WindowPlot:
    """Header, one strip of paper for each branch, and time axis of a window, in millimetres."""

    def __init__(self, window: ExplainedWindow) -> None:
        self.window = window
        self.trace, self.gain = amplitude(window.signal, window.unit)
        lowest, highest = self.trace.min(), self.trace.max()
        # Bold lines run through the baseline and the upper edge.
        self.baseline = SQUARE_MM * np.ceil((_CLEARANCE_MM - lowest) / SQUARE_MM)
        self.strip = SQUARE_MM * np.ceil((self.baseline + highest + _CLEARANCE_MM) / SQUARE_MM)
        self.duration_s = window.signal.size / window.sampling_rate
        self.paper = _LEAD_IN_MM + MM_PER_S * self.duration_s + _LEAD_OUT_MM
        self.origin, self.right = _MARGIN_MM + _LEAD_IN_MM, _MARGIN_MM + self.paper
        self.width = self.right + _MARGIN_MM
        strips = len(window.relevance) * (_CAPTION_MM + self.strip)
        self.height = float(_HEADER_MM + strips + _TIME_AXIS_MM)

    def draw(self, axes: Axes, top: float) -> None:
        window, y = self.window, top - _HEADER_MM + 2.5
        span = f"{window.start_s:g} to {window.start_s + self.duration_s:g} s"
        parts = [f"lead {window.lead}", span, *self._prediction(FUSED, "predicted")]
        parts += [window.note] if window.note else []
        _draw_title(axes, y, window.record, parts, size=11)
        draw_colour_bar(axes, self.right, y)
        xs = self._across(np.arange(window.signal.size))
        for number, (branch, relevance) in enumerate(window.relevance.items(), start=1):
            bottom = top - _HEADER_MM - number * (_CAPTION_MM + self.strip)
            self._paper(axes, branch, bottom)
            points = np.stack([xs, bottom + self.baseline + self.trace], axis=1)
            draw_trace(axes, points, display_relevance(relevance, window.sampling_rate))
        self._time_axis(axes, top - self.height + _TIME_AXIS_MM)

    def _across(self, samples: NDArray[np.integer]) -> NDArray[np.floating]:
        return self.origin + samples * (MM_PER_S / self.window.sampling_rate)

    def _prediction(self, name: str, verb: str) -> list[str]:
        window = self.window
        parts = [f"{verb} {window.predicted[name]}"] if name in window.predicted else []
        return [*parts, f"p(AF) {window.p_af[name]:.2f}"] if name in window.p_af else parts

    def _paper(self, axes: Axes, branch: str, bottom: float) -> None:
        draw_paper(axes, _MARGIN_MM, bottom, self.paper, self.strip)
        if self.gain is not None:
            draw_calibration(axes, _MARGIN_MM + 3, bottom + self.baseline, self.gain)
        peaks = self._across(np.asarray(self.window.r_peaks))
        heights = np.full(peaks.size, bottom + self.strip - 1.2)
        axes.plot(peaks, heights, "v", markersize=3, color=QUIET_INK, markeredgewidth=0)
        any_evidence = np.any(self.window.relevance[branch] > 0)
        verb = "evidence for" if any_evidence else "no positive evidence for"
        title, parts = f"{branch.capitalize()} branch", self._prediction(branch, verb)
        _draw_title(axes, bottom + self.strip + 1.6, title, parts, size=8.5)

    def _time_axis(self, axes: Axes, bottom: float) -> None:
        for second in range(int(self.duration_s) + 1):
            x = self.origin + second * MM_PER_S
            axes.plot([x, x], [bottom, bottom - 1], color=QUIET_INK, linewidth=0.6)
            text = f"{self.window.start_s + second:g}"
            axes.text(x, bottom - 1.5, text, size=6.5, color=QUIET_INK, ha="center", va="top")
        gain = f"{self.gain:g} mm/mV" if self.gain else "amplitude scaled, not in mV"
        note = f"{MM_PER_S:g} mm/s   ·   {gain}   ·   ▾ R peak   ·   time in s"
        axes.text(self.right, bottom - 4.8, note, size=6.5, color=QUIET_INK, ha="right", va="top")


def _draw_title(axes: Axes, y: float, title: str, parts: Sequence[str], *, size: float) -> None:
    """Draws a bold title and, after it on the same line, its parts; ``$`` is no formula in them."""
    plain: dict[str, Any] = {"size": size, "color": INK, "parse_math": False}
    bold = axes.text(_MARGIN_MM, y, title, weight="bold", **plain)
    behind: dict[str, Any] = {"xy": (1, y), "xycoords": (bold, "data"), "va": "baseline"}
    behind |= {"xytext": (size, 0), "textcoords": "offset points"}
    axes.annotate("   ·   ".join(parts), **behind, **plain)
