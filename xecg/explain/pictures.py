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
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from xecg.errors import DataError
from xecg.explain.paper import (
    DPI,
    INK,
    MM_PER_INCH,
    MM_PER_S,
    POINTS_PER_MM,
    QUIET_INK,
    SQUARE_MM,
    amplitude,
    bold_width,
    coloured_trace,
    display_relevance,
    draw_calibration,
    draw_paper,
    marks,
    new_canvas,
    png,
    save_figure,
    text_at,
)
from xecg.files import write_whole
from xecg.networks import FUSED
from xecg.signal.waves import QRS, P, codes_around_r_peaks, runs_of

_MARGIN_MM = 13.5  # 10 s of ECG then fill A4 across, 297 mm
_ORIGIN_MM = _MARGIN_MM + 15.0  # of a trace, behind paper for the calibration pulse
_LEAD_OUT_MM = 5.0  # paper after a trace
_HEADER_MM, _CAPTION_MM, _FOOTER_MM = 13.5, 5.5, 11.0
_CLEARANCE_MM = 4.0  # paper above and below a trace

_WAVES = {P: ("$\\mathsf{P}$", 3.6, "#8fc1e3"), QRS: ("$\\mathsf{QRS}$", 8.5, "#b7b4c2")}
_BAR = ("least", "evidence", "most")
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
_ANNOTATED = "P, QRS: as annotated."
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
        if self.waves is not None and self.waves.shape != (n,):
            self._refuse(f"{n} codes of waves", self.waves.shape)
        peaks = np.asarray(self.r_peaks)
        if peaks.size and not 0 <= peaks.min() <= peaks.max() < n:
            found = f"{peaks.min()} to {peaks.max()}"
            self._refuse("R peaks", found, within=f", samples 0 to {n - 1}")

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
        if (
            len(set(said.values())) == 1
            and self.predicted.get(FUSED, (alone := min(said.values()))) != alone
        ):
            yield f"each branch by itself says {alone}: its own P(AF) is on that side of 0.5"

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

    def _refuse(self, wanted: str, found: Any, within: str = "") -> None:
        where = f"the window at {self.start_s:g} s of record {self.record}{within}"
        raise DataError(f"Expected {wanted} in {where}, found {found}.")


def draw_page(windows: Sequence[ExplainedWindow]) -> Figure:
    """Draws windows one below the other in true size: 25 mm/s, and 10 mm/mV where there are mV.

    Windows of 10 s make the figure as wide as A4 across, 297 mm. Raises DataError without windows.
    """
    if not windows:
        raise DataError("Expected at least one window to draw, found none.")
    figure, axes = _blank(forms := tuple(map(_form, windows)))
    for artist in _written(forms, windows):
        axes.add_artist(artist)
    return figure


def save_page(windows: Sequence[ExplainedWindow], path: Path | str) -> Path:
    """Writes a page as :func:`draw_page` draws it, a PNG in a third of its time.

    The forms of a PNG are drawn once for many pages. A file that exists is replaced.
    """
    if not windows or Path(path).suffix != ".png":
        return save_figure(draw_page(windows), path, overwrite=True)
    printed = _printed(forms := tuple(map(_form, windows)))
    height, width, _ = printed.shape
    figure = Figure((width / DPI, height / DPI), DPI)
    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    pixels = np.asarray(renderer.buffer_rgba())
    pixels[:] = printed
    per_mm = Affine2D().scale(DPI / MM_PER_INCH)
    for artist in sorted(_written(forms, windows), key=Artist.get_zorder):
        artist.set_figure(figure)
        artist.set_transform(per_mm)
        artist.draw(renderer)
    write_whole(Path(path), png(pixels, DPI))
    return Path(path)


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
        """Right edge of the paper."""
        return _ORIGIN_MM + MM_PER_S * self.duration_s + _LEAD_OUT_MM

    @property
    def height(self) -> float:
        """Height of all."""
        return float(_HEADER_MM + len(self.titles) * (_CAPTION_MM + self.strip) + _FOOTER_MM)

    def across(self, samples: NDArray[np.integer], rate: float) -> NDArray[np.floating]:
        """Places of samples at a rate in Hz, from the left edge of the page."""
        return _ORIGIN_MM + samples * (MM_PER_S / rate)

    def edges(self, top: float) -> list[float]:
        """Lower edges of the strips."""
        numbers = range(1, len(self.titles) + 1)
        return [top - _HEADER_MM - number * (_CAPTION_MM + self.strip) for number in numbers]

    def draw(self, axes: Axes, top: float) -> None:
        """Draws the form, whose upper edge is at ``top``."""
        small: dict[str, Any] = {"size": 6.5, "color": QUIET_INK, "parse_math": False}
        xs = np.linspace(self.right - 40, self.right, 200)
        line = np.stack([xs, np.full(200, top - 7.5)], axis=1)
        axes.add_artist(coloured_trace(line, np.linspace(0, 1, 200)))
        for text, side, x in zip(_BAR, ("left", "center", "right"), xs[[0, 99, -1]], strict=True):
            axes.text(x, top - 6.3, text, ha=side, **small)
        for title, bottom in zip(self.titles, self.edges(top), strict=True):
            draw_paper(axes, _MARGIN_MM, bottom, self.right - _MARGIN_MM, self.strip)
            if self.gain is not None:
                draw_calibration(axes, _MARGIN_MM + 3, bottom + self.baseline, self.gain)
            axes.add_artist(next(_titled(title, "", bottom + self.strip + 1.5, 8)))
        y = top - self.height + _FOOTER_MM
        for second in range(int(self.duration_s) + 1):
            x = _ORIGIN_MM + second * MM_PER_S
            axes.text(x, y - 3.3, f"{self.start_s + second:g}", ha="center", **small)
        axes.text(_MARGIN_MM, y - 9.5, self.notes[0], linespacing=1.3, **small)
        axes.text(self.right, y - 9.5, self.notes[1], ha="right", **small)


def _form(window: ExplainedWindow) -> _Form:
    trace, gain = amplitude(window.signal, window.unit)
    # Bold lines run through the baseline and the upper edge.
    baseline = SQUARE_MM * np.ceil((_CLEARANCE_MM - trace.min()) / SQUARE_MM)
    strip = SQUARE_MM * np.ceil((baseline + trace.max() + _CLEARANCE_MM) / SQUARE_MM)
    edges = zip(("from", "to"), window.band_hz, strict=True)
    band = [f" {word} {hz:g} Hz" for word, hz in edges if hz is not None]
    scale = f"{gain:g} mm/mV" if gain else "amplitude scaled, not in mV"
    right = ["time in s", f"{MM_PER_S:g} mm/s", scale, "".join(["filtered", *band] if band else [])]
    left = f"{_COLOUR}\n▾ R peak. {_USUAL if window.waves is None else _ANNOTATED}"
    titles = tuple(map(_title, window.relevance))
    duration_s = window.signal.size / window.sampling_rate
    notes = left, _BETWEEN.join(filter(None, right))
    return _Form(titles, window.start_s, duration_s, baseline, strip, gain, notes)


def _title(branch: str) -> str:
    reads = f" ({_READS[branch]})" if branch in _READS else ""
    return f"{branch.capitalize()} branch{reads}"


def _blank(forms: Sequence[_Form]) -> tuple[Figure, Axes]:
    top = sum(form.height for form in forms)
    figure, axes = new_canvas(max(form.right for form in forms) + _MARGIN_MM, top)
    for form in forms:
        form.draw(axes, top)
        top -= form.height
    return figure, axes


@lru_cache(maxsize=12)
def _printed(forms: tuple[_Form, ...]) -> NDArray[np.uint8]:
    """The pixels of forms that nothing is written on, RGBA ``(height, width, 4)``."""
    figure, _ = _blank(forms)
    figure.dpi = DPI
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def _written(forms: Sequence[_Form], windows: Sequence[ExplainedWindow]) -> Iterator[Artist]:
    """Yields what is written on forms, one below the other; in mm."""
    top = sum(form.height for form in forms)
    for form, window in zip(forms, windows, strict=True):
        yield from _window(form, window, top)
        top -= form.height


def _window(form: _Form, window: ExplainedWindow, top: float) -> Iterator[Artist]:
    n, rate = window.signal.size, window.sampling_rate
    trace, _ = amplitude(window.signal, window.unit)
    xs, peaks = form.across(np.arange(n), rate), form.across(window.r_peaks, rate)
    codes = codes_around_r_peaks(window.r_peaks, n, rate) if window.waves is None else window.waves
    span = f"{form.start_s:g} to {form.start_s + form.duration_s:g} s"
    lead = _BETWEEN.join([f"lead {window.lead}", span])
    yield from _titled(window.record, lead, top - 6.2, 11)
    yield from _verdict(window, top - 11.4)
    for bottom, (branch, relevance) in zip(form.edges(top), window.relevance.items(), strict=True):
        for code, (word, size, tint) in _WAVES.items():
            if runs := runs_of(codes == code):
                spans = form.across(np.array(runs), rate)
                ys = np.tile(bottom + form.strip * _UP_AND_DOWN, len(runs))
                bands = np.stack([spans[:, [0, 0, 1, 1, 0]].ravel(), ys], axis=1)
                outline = Outline(bands, np.tile(_AROUND, len(runs)))
                yield PathPatch(outline, facecolor=tint, linewidth=0, alpha=0.25)
                yield marks(spans.mean(axis=1), bottom + 1.2, word, size)
        yield marks(peaks, bottom + form.strip - 1.2, "v", 3)
        points = np.stack([xs, bottom + form.baseline + trace], axis=1)
        yield coloured_trace(points, display_relevance(relevance, rate))
        caption = _BETWEEN.join(window.caption(branch))
        yield from list(_titled(_title(branch), caption, bottom + form.strip + 1.5, 8))[1:]


def _verdict(window: ExplainedWindow, y: float) -> Iterator[Artist]:
    """The class in a box, filled unless it is doubtful or not there, and what to know of it."""
    x, sure = _MARGIN_MM, FUSED in window.predicted and not window.doubtful
    if called := window.predicted.get(FUSED, "not judged" if window.note else ""):
        called += " (doubtful)" if window.doubtful else ""
        box: dict[str, Any] = {"facecolor": INK if sure else "white", "edgecolor": INK}
        box |= {"boxstyle": "round,pad=0.25", "linestyle": "-" if sure else (0, (3, 2))}
        look = {"weight": "bold", "color": "white" if sure else INK, "bbox": box}
        yield text_at(x + 0.9, y, called, 9, **look)
        x += bold_width(called, 9) + 4.5
    says = [f"P(AF) {window.p_af[FUSED]:.2f}"] if FUSED in window.p_af else []
    if says and window.threshold is not None:
        says = [f"{says[0]}, called AF above {window.threshold:.2g}"]
    yield text_at(x, y, _BETWEEN.join([*says, *window.remarks()]), 9)


def _titled(title: str, text: str, y: float, size: float) -> Iterator[Artist]:
    """A bold title, and a text behind it on the same line."""
    yield text_at(_MARGIN_MM, y, title, size, weight="bold")
    yield text_at(_MARGIN_MM + bold_width(title, size) + size / POINTS_PER_MM, y, text, size)
