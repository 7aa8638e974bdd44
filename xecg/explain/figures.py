"""Files of figures, quiet axes, and the curves of a test: ROC and reliability."""

from io import BytesIO
from pathlib import Path
from struct import pack
from zlib import compress, crc32

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xecg.files import write_whole
from xecg.metrics.bootstrap import mean
from xecg.networks import FUSED

MM_PER_INCH = 25.4
INK, QUIET_INK = "#2b2f36", "#6b7280"
_COLOURS = {FUSED: INK, "morphology": "#7d0048", "rhythm": "#1f6f8b"}
_BINS = 10


def tidy(axes: Axes) -> None:
    """Gives axes quiet lines and small numbers."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET_INK)
    axes.tick_params(colors=QUIET_INK, labelsize=8)
    axes.axhline(0, color=QUIET_INK, linewidth=0.6)


def save_svg(figure: Figure, path: Path) -> Path:
    """Writes a figure as an SVG that is a function of what is drawn, and returns the path."""
    content = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "xecg"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
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


def draw_curves(windows: pd.DataFrame) -> Figure:
    """Draws both for columns ``p_af``, ``p_af_<branch>``, ``af`` (1, else 0) and ``person``."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    for axes, draw in zip(figure.subplots(1, 2), (draw_roc, draw_reliability), strict=True):
        tidy(axes)
        draw(axes, windows)
    return figure


def draw_roc(axes: Axes, windows: pd.DataFrame) -> None:
    """Draws a ROC curve for all branches together and for each."""
    for name in ("p_af", *windows.filter(regex="^p_af_")):
        part = name.removeprefix("p_af_") if name != "p_af" else FUSED
        af = windows["af"].to_numpy()[np.argsort(-windows[name].to_numpy(), kind="stable")]
        rates = [np.cumsum(af == label) / max((af == label).sum(), 1) for label in (0, 1)]
        axes.plot(*rates, color=_COLOURS.get(part), linewidth=1.2, label=part)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=7, loc="lower right")


def draw_reliability(axes: Axes, windows: pd.DataFrame) -> None:
    """Draws the share of AF, with its interval over persons, against the probability of AF."""
    axes.plot([0, 1], [0, 1], color=QUIET_INK, linewidth=0.7)
    for _, rows in windows.groupby((windows["p_af"] * _BINS).astype(int).clip(upper=_BINS - 1)):
        found, x = mean(rows["af"] == 1, rows["person"]), rows["p_af"].mean()
        axes.vlines(x, found.low, found.high, color=INK, linewidth=0.9)
        axes.plot(x, found.value, "o", color=INK, markersize=1.5 + np.log10(found.n))
    axes.set(xlabel="mean probability of AF", ylabel="share of AF", xlim=(0, 1), ylim=(-0.02, 1.02))
