"""ROC curves and reliability diagrams, of tables with a row a window."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xecg.explain.paper import INK, QUIET_INK, tidy
from xecg.metrics.bootstrap import mean
from xecg.networks.xecgarch import FUSED

_COLOURS = {FUSED: INK, "morphology": "#7d0048", "rhythm": "#1f6f8b"}
_BINS = 10


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
