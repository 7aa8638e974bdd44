"""ECG paper in millimetres, a trace in colours on it, and files of figures."""

from functools import lru_cache
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any
from zlib import compress, crc32

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
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
from numpy.typing import NDArray

from xecg.errors import DataError
from xecg.files import write_whole

MM_PER_S, MM_PER_MV, MM_PER_INCH = 25.0, 10.0, 25.4
POINTS_PER_MM = 72 / MM_PER_INCH
PIXELS_PER_MM = 8  # of a PNG; a whole number keeps the grid even
DPI = PIXELS_PER_MM * MM_PER_INCH
SQUARE_MM = 5  # between bold lines
INK, QUIET_INK = "#2b2f36", "#6b7280"
_FINE, _BOLD, _EDGE = "#fae4e0", "#f0b9b0", "#d9968b"  # lines of the paper
# Slate, blue, violet, magenta; darker with relevance, for print and the colour-blind.
_COLOURS = ("#84929e", "#5679b5", "#7146ab", "#7d0048")
RELEVANCE = LinearSegmentedColormap.from_list("relevance", _COLOURS)

_THIN_MM, _THICK_MM = 0.3, 0.9  # of a trace
_LEVELS = 32  # of colour
_MV_PER_UNIT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}


def display_relevance(relevance: NDArray[np.floating], sampling_rate: float) -> NDArray[np.float64]:
    """Returns relevance ``(time,)`` for the eye: its mean over 20 ms, scaled to 0 to 1.

    The 99th percentile, or half the largest value if that is more, and all above it become 1.
    """
    width = max(1, round(0.02 * sampling_rate))  # 0.5 mm on paper: what is finer cannot be seen
    positive = np.clip(relevance, 0, None).astype(np.float64)
    smooth = np.convolve(positive, np.ones(width) / width, mode="same")
    high = max(np.percentile(smooth, 99), smooth.max() / 2)  # one outlying beat pales no other
    return np.minimum(smooth / high, 1.0) if high > 0 else smooth


def coloured_lines(
    points: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[list[Outline], NDArray[np.float64]]:
    """Cuts a line through ``points (time, 2)`` where its ``values (time,)`` change colour.

    Returns for each level of colour all its pieces, each up to the first point of the next, and
    the level; largest last.
    """
    of_points = np.rint(values[:-1] * (_LEVELS - 1)).astype(np.int64)
    levels, outlines = np.unique(of_points), []
    for level in levels:
        starts = np.append(of_points == level, False)  # a segment at this point
        stops = np.append(False, starts[:-1])
        moves = np.where(stops, Outline.LINETO, Outline.MOVETO)
        outlines.append(Outline(points[starts | stops], moves[starts | stops]))
    return outlines, levels / (_LEVELS - 1)


def coloured_trace(points: NDArray[np.float64], values: NDArray[np.float64]) -> PathCollection:
    """Returns a line through ``points`` (in mm), darker and thicker where ``values`` are larger."""
    outlines, levels = coloured_lines(points, values)
    widths = (_THIN_MM + (_THICK_MM - _THIN_MM) * levels) * POINTS_PER_MM
    look: dict[str, Any] = {"capstyle": "round", "joinstyle": "round", "linewidths": widths}
    look |= {"facecolors": "none", "edgecolors": RELEVANCE(levels)}
    return PathCollection(outlines, **look)


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
        codes = np.tile([Outline.MOVETO, Outline.LINETO], len(lines))
        look: dict[str, Any] = {"edgecolor": colour, "linewidth": line_mm * POINTS_PER_MM}
        grid = Outline(np.concatenate(lines), codes)  # one artist, which draws fast
        axes.add_artist(PathPatch(grid, fill=False, snap=True, **look))
    edge = Rectangle((left, bottom), width, height, fill=False, edgecolor=_EDGE, linewidth=0.6)
    axes.add_artist(edge)


def draw_calibration(axes: Axes, left: float, baseline: float, mm_per_mv: float) -> None:
    """Draws the calibration pulse: 1 mV for 0.2 s from the baseline."""
    xs = np.array([0, 2, 2, 7, 7, 9]) + left
    ys = np.array([0, 0, 1, 1, 0, 0]) * mm_per_mv + baseline
    axes.add_artist(Line2D(xs, ys, color=INK, linewidth=1.0, solid_joinstyle="miter"))
    axes.text(left + 4.5, baseline - 1.2, "1 mV", size=6, color=QUIET_INK, ha="center", va="top")


def text_at(x: float, y: float, text: str, size: float, **look: Any) -> Text:
    """Returns a text in which ``$`` is no formula."""
    plain: dict[str, Any] = {"color": INK, "parse_math": False, "va": "baseline"}
    return Text(x, y, text, size=size, **plain | look)


def marks(xs: Any, y: float, marker: str, size: float) -> Line2D:
    """Returns marks on one height, each a marker of matplotlib."""
    look: dict[str, Any] = {"markersize": size, "color": QUIET_INK, "markeredgewidth": 0}
    return Line2D(xs, np.full(len(xs), y), linestyle="", marker=_marker(marker), **look)


_marker = lru_cache(MarkerStyle)


@lru_cache(maxsize=64)
def bold_width(text: str, size: float) -> float:
    """Width of a bold text in mm."""
    font = FontProperties(size=size, weight="bold")
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / POINTS_PER_MM


def tidy(axes: Axes) -> None:
    """Gives axes quiet lines and small numbers."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET_INK)
    axes.tick_params(colors=QUIET_INK, labelsize=8)
    axes.axhline(0, color=QUIET_INK, linewidth=0.6)


def save_figure(
    figure: Figure, path: Path | str, *, dpi: float = DPI, overwrite: bool = False
) -> Path:
    """Writes a figure whole, and returns the path, whose ending chooses PNG, SVG or PDF.

    Raises DataError if the ending is another one, or the file exists and ``overwrite`` is false.
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


def png(pixels: NDArray[np.uint8], dpi: float) -> bytes:
    """A PNG of RGBA, each line less the one above, which takes a third of Pillow's time."""
    height, width, _ = pixels.shape
    lines = np.full((height, 1 + 4 * width), 2, np.uint8)  # the 2 before a line says so
    lines[0, 1:] = pixels[0].ravel()
    flat = pixels.reshape(height, -1)
    np.subtract(flat[1:], flat[:-1], out=lines[1:, 1:])
    per_m, written = round(dpi / MM_PER_INCH * 1000), [b"\x89PNG\r\n\x1a\n"]
    for chunk in (
        b"IHDR" + pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0),
        b"pHYs" + pack(">IIB", per_m, per_m, 1),
        b"IDAT" + compress(lines.data, 3),
        b"IEND",
    ):
        written += [pack(">I", len(chunk) - 4), chunk, pack(">I", crc32(chunk))]
    return b"".join(written)
