"""Windows of an ECG on ECG paper, the trace coloured by the relevance that each branch gave it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from xecg.errors import DataError
from xecg.explain.figures import INK, MM_PER_INCH, QUIET_INK, png, save_svg
from xecg.files import write_whole
from xecg.networks import FUSED
from xecg.signal.waves import QRS, P, codes_around_r_peaks, runs_of

MM_PER_S, MM_PER_MV = 25.0, 10.0
PIXELS_PER_MM = 8  # of a PNG; a whole number keeps the grid even
# Slate, blue, violet, magenta; darker with relevance, for print and the colour-blind.
_SHADES = ("#84929e", "#5679b5", "#7146ab", "#7d0048")
RELEVANCE = LinearSegmentedColormap.from_list("relevance", _SHADES)
_DPI = PIXELS_PER_MM * MM_PER_INCH
_POINTS_PER_MM = 72 / MM_PER_INCH
_SQUARE_MM = 5  # between bold lines of the paper
_FINE, _BOLD, _EDGE = "#fae4e0", "#f0b9b0", "#d9968b"  # its lines
_THIN_MM, _THICK_MM = 0.3, 0.9  # of a trace
_LEVELS = 32  # of colour
_MV_PER_UNIT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}
_MARGIN_MM = 13.5  # 10 s of ECG then fill A4 across, 297 mm
_ORIGIN_MM = _MARGIN_MM + 15.0  # of a trace, behind paper for the calibration pulse
_HEADER_MM, _CAPTION_MM, _FOOTER_MM = 13.5, 5.5, 11.0
_CLEARANCE_MM = 4.0  # paper above and below a trace

_WAVES = {P: ("$\\mathsf{P}$", 3.6, "#8fc1e3"), QRS: ("$\\mathsf{QRS}$", 8.5, "#b7b4c2")}
_DOUBT = 3.0  # factor between the odds of AF and those of the threshold, below which it is doubtful
_READS = {"morphology": "shape of each beat", "rhythm": "order of the beats"}
_IN_AF = "AF has no P waves: QRS complexes count by their shape here, not by their timing"
_COLOUR = (
    "Colour and thickness: how strongly a part of the trace speaks for what the branch says, "
    "relative to the strongest part of this window and branch; strips cannot be compared."
)
_USUAL = (
    "P, QRS: where these waves usually lie around an R peak, not measured; in AF, P is where a P "
    "wave would be."
)
_BETWEEN = "   ·   "
_UP_AND_DOWN, _AROUND = np.array([0, 1, 1, 0, 0]), [Outline.MOVETO, *[Outline.LINETO] * 4]


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
    explained: str = ""  # class that the maps explain; by default what each branch predicts
    threshold: float | None = None  # of AF, if it is known
    band_hz: tuple[float | None, float | None] = (None, None)  # that was left by the filter
    waves: NDArray[np.uint8] | None = None  # annotated codes (time,); by default around R peaks

    def __post_init__(self) -> None:
        n, arrays = self.signal.size, [self.signal, *self.relevance.values()]
        fit = n > 1 and self.sampling_rate > 0 and len(arrays) > 1
        fit = fit and all(one.shape == (n,) and np.isfinite(one).all() for one in arrays)
        fit = fit and (self.waves is None or self.waves.shape == (n,))
        if not fit or not all(0 <= peak < n for peak in self.r_peaks):
            raise DataError(
                f"the window at {self.start_s:g} s of record {self.record}: expected a signal, "
                "relevance of one or more branches and, if any, waves of one length (time,), "
                "finite, with R peaks within it; found others"
            )

    @property
    def doubtful(self) -> bool:
        """Whether the odds of AF are within three times those of the threshold."""
        if self.threshold is None or FUSED not in self.p_af:
            return False
        for_af = self.p_af[FUSED] * (1 - self.threshold)
        against = (1 - self.p_af[FUSED]) * self.threshold
        return max(for_af, against) < _DOUBT * min(for_af, against)

    def remarks(self) -> Iterator[str]:
        """Yields the sentences that a reader of the class needs: note, doubt, disagreement."""
        if self.note:
            yield self.note
        if self.doubtful:
            yield "P(AF) is close to the threshold"
        said = {name: self.predicted[name] for name in self.relevance if name in self.predicted}
        if len(set(said.values())) > 1 and "disagree" not in self.note:
            each = ", ".join(f"{name} says {called}" for name, called in said.items())
            yield f"the branches disagree: {each}"

    def caption(self, branch: str) -> Iterator[str]:
        """Yields what a branch reads, what it says, and what is coloured."""
        called = self.predicted.get(branch)
        if branch in self.p_af:
            yield (f"says {called}, " if called else "") + f"P(AF) {self.p_af[branch]:.2f}"
        if what := self.explained or called:
            any_evidence = np.any(self.relevance[branch] > 0)
            yield f"coloured: {'its' if any_evidence else 'no positive'} evidence for {what}"
            if any_evidence and what == "AF" and branch == "morphology":
                yield _IN_AF


def draw_page(windows: Sequence[ExplainedWindow]) -> Figure:
    """Draws windows one below the other in true size: 25 mm/s, and 10 mm/mV where there are mV.

    Windows of 10 s make the figure as wide as A4 across, 297 mm. Raises DataError without windows.
    """
    if not windows:
        raise DataError("Expected at least one window to draw, found none.")
    figure = _blank(forms := tuple(map(_form, windows)))
    for artist in _written(forms, windows):
        figure.axes[0].add_artist(artist)
    return figure


def save_page(windows: Sequence[ExplainedWindow], path: Path) -> Path:
    """Writes a page as :func:`draw_page` draws it, as SVG or, in a third of its time, as PNG."""
    if path.suffix != ".png":
        return save_svg(draw_page(windows), path)
    printed = _printed(forms := tuple(map(_form, windows)))
    height, width, _ = printed.shape
    figure = Figure((width / _DPI, height / _DPI), _DPI)
    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    pixels = np.asarray(renderer.buffer_rgba())
    pixels[:] = printed
    per_mm = Affine2D().scale(_DPI / MM_PER_INCH)
    for artist in sorted(_written(forms, windows), key=Artist.get_zorder):
        artist.set_figure(figure)
        artist.set_transform(per_mm)
        artist.draw(renderer)
    write_whole(path, png(pixels, _DPI))
    return path


@dataclass(frozen=True)
class _Form:
    """The form that a window is drawn on: paper, and what is printed around it; in mm."""

    titles: tuple[str, ...]  # of the strips
    start_s: float
    duration_s: float
    baseline: float  # above the lower edge of a strip
    strip: float  # height of one
    gain: float | None  # mm/mV
    notes: tuple[str, str]  # below, left and right

    @property
    def right(self) -> float:
        return _ORIGIN_MM + MM_PER_S * self.duration_s + 5.0

    @property
    def height(self) -> float:
        return float(_HEADER_MM + len(self.titles) * (_CAPTION_MM + self.strip) + _FOOTER_MM)

    def across(self, samples: NDArray[np.integer], rate: float) -> NDArray[np.floating]:
        """Places of samples at a rate in Hz, from the left edge of the page."""
        return _ORIGIN_MM + samples * (MM_PER_S / rate)

    def edges(self, top: float) -> list[float]:
        numbers = range(1, len(self.titles) + 1)
        return [top - _HEADER_MM - number * (_CAPTION_MM + self.strip) for number in numbers]

    def draw(self, axes: Axes, top: float) -> None:
        small: dict[str, Any] = {"size": 6.5, "color": QUIET_INK, "parse_math": False}
        xs = np.linspace(self.right - 40, self.right, 200)
        bar = np.stack([xs, np.full(200, top - 7.5)], axis=1)
        axes.add_artist(_coloured_trace(bar, np.linspace(0, 1, 200)))
        words = {"left": "least", "center": "evidence", "right": "most"}
        for (side, text), x in zip(words.items(), xs[[0, 99, -1]], strict=True):
            axes.text(x, top - 6.3, text, ha=side, **small)
        for title, bottom in zip(self.titles, self.edges(top), strict=True):
            self._draw_paper(axes, bottom)
            if self.gain is not None:  # the calibration pulse, 1 mV for 0.2 s
                left, base = _MARGIN_MM + 3, bottom + self.baseline
                pulse = np.array([0, 0, 1, 1, 0, 0]) * self.gain + base
                look: dict[str, Any] = {"color": INK, "linewidth": 1.0, "solid_joinstyle": "miter"}
                axes.add_artist(Line2D(np.array([0, 2, 2, 7, 7, 9]) + left, pulse, **look))
                at: dict[str, Any] = {"ha": "center", "va": "top", "size": 6, "color": QUIET_INK}
                axes.text(left + 4.5, base - 1.2, "1 mV", **at)
            axes.add_artist(next(_titled(title, "", bottom + self.strip + 1.5, 8)))
        y = top - self.height + _FOOTER_MM
        for second in range(int(self.duration_s) + 1):
            x = _ORIGIN_MM + second * MM_PER_S
            axes.text(x, y - 3.3, f"{self.start_s + second:g}", ha="center", **small)
        axes.text(_MARGIN_MM, y - 9.5, self.notes[0], linespacing=1.3, **small)
        axes.text(self.right, y - 9.5, self.notes[1], ha="right", **small)

    def _draw_paper(self, axes: Axes, bottom: float) -> None:
        left, width = _MARGIN_MM, self.right - _MARGIN_MM
        for step, colour, line_mm in ((1, _FINE, 0.1), (_SQUARE_MM, _BOLD, 0.15)):
            xs = np.arange(0, width + 1e-6, step) + left
            ys = np.arange(0, self.strip + 1e-6, step) + bottom
            lines = [[(x, bottom), (x, bottom + self.strip)] for x in xs]
            lines += [[(left, y), (left + width, y)] for y in ys]
            codes = np.tile([Outline.MOVETO, Outline.LINETO], len(lines))
            look: dict[str, Any] = {"edgecolor": colour, "linewidth": line_mm * _POINTS_PER_MM}
            grid = Outline(np.concatenate(lines), codes)  # one artist, which draws fast
            axes.add_artist(PathPatch(grid, fill=False, snap=True, **look))
        look = {"fill": False, "edgecolor": _EDGE, "linewidth": 0.6}
        axes.add_artist(Rectangle((left, bottom), width, self.strip, **look))


def _form(window: ExplainedWindow) -> _Form:
    trace, gain = amplitude(window.signal, window.unit)
    # Bold lines run through the baseline and the upper edge.
    baseline = _SQUARE_MM * np.ceil((_CLEARANCE_MM - trace.min()) / _SQUARE_MM)
    strip = _SQUARE_MM * np.ceil((baseline + trace.max() + _CLEARANCE_MM) / _SQUARE_MM)
    edges = zip(("from", "to"), window.band_hz, strict=True)
    band = [f" {word} {hz:g} Hz" for word, hz in edges if hz is not None]
    scale = f"{gain:g} mm/mV" if gain else "amplitude scaled, not in mV"
    right = ["time in s", f"{MM_PER_S:g} mm/s", scale, "".join(["filtered", *band] if band else [])]
    left = f"{_COLOUR}\n▾ R peak. {_USUAL if window.waves is None else 'P, QRS: as annotated.'}"
    reads = {name: f" ({_READS[name]})" if name in _READS else "" for name in window.relevance}
    titles = tuple(f"{name.capitalize()} branch{what}" for name, what in reads.items())
    duration_s = window.signal.size / window.sampling_rate
    notes = left, _BETWEEN.join(filter(None, right))
    return _Form(titles, window.start_s, duration_s, baseline, strip, gain, notes)


def _blank(forms: Sequence[_Form]) -> Figure:
    """A figure with one axes over all of it, in mm from bottom left, and forms on it."""
    top = sum(form.height for form in forms)
    width = max(form.right for form in forms) + _MARGIN_MM
    figure = Figure(figsize=(width / MM_PER_INCH, top / MM_PER_INCH), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, top))
    axes.set_axis_off()
    for form in forms:
        form.draw(axes, top)
        top -= form.height
    return figure


@lru_cache(maxsize=12)
def _printed(forms: tuple[_Form, ...]) -> NDArray[np.uint8]:
    """The pixels, RGBA ``(height, width, 4)``, of forms without writing, once for many pages."""
    figure = _blank(forms)
    figure.dpi = _DPI
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def _written(forms: Sequence[_Form], windows: Sequence[ExplainedWindow]) -> Iterator[Artist]:
    """Yields what is written on forms, one below the other; in mm."""
    for number, (form, window) in enumerate(zip(forms, windows, strict=True)):
        yield from _window(form, window, top=sum(form.height for form in forms[number:]))


def _window(form: _Form, window: ExplainedWindow, top: float) -> Iterator[Artist]:
    n, rate = window.signal.size, window.sampling_rate
    trace, _ = amplitude(window.signal, window.unit)
    xs, peaks = form.across(np.arange(n), rate), form.across(window.r_peaks, rate)
    codes = codes_around_r_peaks(window.r_peaks, n, rate) if window.waves is None else window.waves
    span = f"{form.start_s:g} to {form.start_s + form.duration_s:g} s"
    lead = _BETWEEN.join([f"lead {window.lead}", span])
    yield from _titled(window.record, lead, top - 6.2, 11)
    yield from _verdict(window, top - 11.4)
    strips = zip(form.titles, form.edges(top), window.relevance.items(), strict=True)
    for title, bottom, (branch, relevance) in strips:
        for code, (word, size, tint) in _WAVES.items():
            if runs := runs_of(codes == code):
                spans = form.across(np.array(runs), rate)
                ys = np.tile(bottom + form.strip * _UP_AND_DOWN, len(runs))
                bands = np.stack([spans[:, [0, 0, 1, 1, 0]].ravel(), ys], axis=1)
                outline = Outline(bands, np.tile(_AROUND, len(runs)))
                yield PathPatch(outline, facecolor=tint, linewidth=0, alpha=0.25)
                yield _marks(spans.mean(axis=1), bottom + 1.2, word, size)
        yield _marks(peaks, bottom + form.strip - 1.2, "v", 3)
        points = np.stack([xs, bottom + form.baseline + trace], axis=1)
        yield _coloured_trace(points, display_relevance(relevance, rate))
        caption = _BETWEEN.join(window.caption(branch))
        yield from list(_titled(title, caption, bottom + form.strip + 1.5, 8))[1:]


def _verdict(window: ExplainedWindow, y: float) -> Iterator[Artist]:
    """The class in a box, filled unless it is doubtful or not there, and what to know of it."""
    x, sure = _MARGIN_MM, FUSED in window.predicted and not window.doubtful
    if called := window.predicted.get(FUSED, "not judged" if window.note else ""):
        called += " (doubtful)" if window.doubtful else ""
        box: dict[str, Any] = {"facecolor": INK if sure else "white", "edgecolor": INK}
        box |= {"boxstyle": "round,pad=0.25", "linestyle": "-" if sure else (0, (3, 2))}
        look = {"weight": "bold", "color": "white" if sure else INK, "bbox": box}
        yield _text(x + 0.9, y, called, 9, **look)
        x += _bold_width(called, 9) + 4.5
    above = "" if window.threshold is None else f", called AF above {window.threshold:.2g}"
    says = [f"P(AF) {window.p_af[FUSED]:.2f}{above}"] if FUSED in window.p_af else []
    yield _text(x, y, _BETWEEN.join([*says, *window.remarks()]), 9)


def _titled(title: str, text: str, y: float, size: float) -> Iterator[Artist]:
    """A bold title, and a text behind it on the same line."""
    yield _text(_MARGIN_MM, y, title, size, weight="bold")
    yield _text(_MARGIN_MM + _bold_width(title, size) + size / _POINTS_PER_MM, y, text, size)


def _text(x: float, y: float, text: str, size: float, **look: Any) -> Text:
    """A text in which ``$`` is no formula."""
    plain: dict[str, Any] = {"color": INK, "parse_math": False, "va": "baseline"}
    return Text(x, y, text, size=size, **plain | look)


@lru_cache(maxsize=64)
def _bold_width(text: str, size: float) -> float:
    """Width of a bold text in mm."""
    font = FontProperties(size=size, weight="bold")
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / _POINTS_PER_MM


_marker = lru_cache(MarkerStyle)


def _marks(xs: Any, y: float, marker: str, size: float) -> Line2D:
    look: dict[str, Any] = {"markersize": size, "color": QUIET_INK, "markeredgewidth": 0}
    return Line2D(xs, np.full(len(xs), y), linestyle="", marker=_marker(marker), **look)


def _coloured_trace(points: NDArray[np.float64], values: NDArray[np.float64]) -> PathCollection:
    """A line through ``points (time, 2)``, darker and thicker where ``values (time,)`` are larger.

    It is cut where its level of colour changes; a level has all its pieces, each up to the first
    point of the next; the largest is drawn last.
    """
    of_points = np.rint(values[:-1] * (_LEVELS - 1)).astype(np.int64)
    levels, outlines = np.unique(of_points), []
    for level in levels:
        starts = np.append(of_points == level, False)  # a segment at this point
        stops = np.append(False, starts[:-1])
        moves = np.where(stops, Outline.LINETO, Outline.MOVETO)
        outlines.append(Outline(points[starts | stops], moves[starts | stops]))
    shares = levels / (_LEVELS - 1)
    widths = (_THIN_MM + (_THICK_MM - _THIN_MM) * shares) * _POINTS_PER_MM
    look: dict[str, Any] = {"capstyle": "round", "joinstyle": "round", "linewidths": widths}
    return PathCollection(outlines, facecolors="none", edgecolors=RELEVANCE(shares), **look)


def display_relevance(relevance: NDArray[np.floating], sampling_rate: float) -> NDArray[np.float64]:
    """Returns relevance ``(time,)`` for the eye: its mean over 20 ms, scaled to 0 to 1.

    The 99th percentile, or half the largest value if that is more, and all above it become 1.
    """
    width = max(1, round(0.02 * sampling_rate))  # 0.5 mm on paper: what is finer cannot be seen
    positive = np.clip(relevance, 0, None).astype(np.float64)
    smooth = np.convolve(positive, np.ones(width) / width, mode="same")
    high = max(np.percentile(smooth, 99), smooth.max() / 2)  # one outlying beat pales no other
    return np.minimum(smooth / high, 1.0) if high > 0 else smooth


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
