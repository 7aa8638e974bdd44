"""Domain specificity against frozen depth, and accuracy against domain specificity."""

from typing import TYPE_CHECKING

import numpy as np

from xecg.explain.ecg_paper import INK, QUIET_INK
from xecg.explain.summary import CLASSES
from xecg.study.report.accuracy_figure import look_of
from xecg.study.report.analysis import TRADED_CLASS, Analysis
from xecg.study.report.cells import SCRATCH, depth_title
from xecg.study.report.depth_axis import (
    Look,
    add_legend,
    draw_means,
    draw_reference,
    new_figure,
    set_depth_axis,
    tidy,
)
from xecg.study.report.measures import DepthMean
from xecg.study.report.references import original_metric, original_specificity
from xecg.study.report.relevance import SPECIFICITY
from xecg.study.report.rows import of_what
from xecg.study.report.trend_tables import rho_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS = {
    "morphology": "morphology branch: log2(P / QRS)",
    "rhythm": "rhythm branch: log2(QRS / P)",
}
_LOOKS = {
    CLASSES[0]: Look("non-AF", "#2b2f36", "o", -0.06),
    CLASSES[1]: Look("AF (P: where it would be)", "#b5651d", "s", 0.06),
}


def draw_specificity(analysis: Analysis) -> "Figure":
    """A panel for each branch, with both classes, and rho with its interval and p above."""
    ladder = analysis.ladder
    branches = list(analysis.tradeoffs)
    figure = new_figure(of_what(ladder), 1, len(branches), panel=(4.6, 3.4))
    panels = figure.subplots(1, len(branches), sharey=True, squeeze=False)[0]
    for axes, branch in zip(panels, branches, strict=True):
        tidy(axes)
        axes.axhline(0, color=QUIET_INK, linewidth=0.8, zorder=1)
        lines = [_LABELS[branch]]
        for rhythm, look in _LOOKS.items():
            found = analysis.found[SPECIFICITY, branch, rhythm, ""]
            reference = original_specificity(ladder.test_set, branch, rhythm)
            draw_reference(axes, reference, look.colour)
            draw_means(axes, found.means, look)
            lines.append(f"{rhythm}: {rho_text(found.trend)}")
        axes.set_title("\n".join(lines), fontsize=9, color=INK, loc="left")
        set_depth_axis(axes, ladder.depths)
    panels[0].set_ylabel("domain specificity (bits; 0: no preference)", fontsize=9, color=INK)
    known = original_specificity(ladder.test_set, branches[0], CLASSES[0]) is not None
    add_legend(figure, list(_LOOKS.values()), ladder, original=known)
    return figure


def draw_tradeoff(analysis: Analysis) -> "Figure":
    """A panel for each branch: a point for each depth, joined in order, labelled by the depth."""
    ladder = analysis.ladder
    branches = list(analysis.tradeoffs)
    figure = new_figure(of_what(ladder), 1, len(branches), panel=(4.6, 3.4))
    panels = figure.subplots(1, len(branches), sharey=True, squeeze=False)[0]
    for axes, branch in zip(panels, branches, strict=True):
        tidy(axes)
        specificity = analysis.found[SPECIFICITY, branch, TRADED_CLASS, ""].means
        accuracy = analysis.found["accuracy", branch, "", ""].means
        _draw_points(axes, specificity, accuracy, look_of(branch))
        _draw_original(axes, ladder.test_set, branch)
        title = f"{branch} branch\n{rho_text(analysis.tradeoffs[branch])}"
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        axes.set_xlabel(f"domain specificity in {TRADED_CLASS} (bits)", fontsize=9, color=INK)
    panels[0].set_ylabel("accuracy of the branch, both classes", fontsize=9, color=INK)
    add_legend(figure, [], ladder, seeds=False, original=False)
    return figure


def _draw_points(axes: "Axes", xs: list[DepthMean], ys: list[DepthMean], look: Look) -> None:
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if not np.isnan(x.value)]
    rungs = [(x.value, y.value) for x, y in points if x.depth != SCRATCH]
    axes.plot(*zip(*rungs, strict=True), color=look.colour, linewidth=0.8, alpha=0.5, zorder=2)
    for x, y in points:
        scratch = x.depth == SCRATCH
        axes.errorbar(
            x.value,
            y.value,
            xerr=np.clip([[x.value - x.low], [x.high - x.value]], 0, None),
            yerr=np.clip([[y.value - y.low], [y.high - y.value]], 0, None),
            marker=look.marker,
            markersize=5,
            markerfacecolor="white" if scratch else look.colour,
            color=look.colour,
            elinewidth=0.6,
            alpha=1.0,
            zorder=3,
        )
        axes.annotate(
            depth_title(x.depth),
            (x.value, y.value),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=8,
            weight="bold",
            color=INK,
            zorder=4,
        )


def _draw_original(axes: "Axes", test_set: str, branch: str) -> None:
    x = original_specificity(test_set, branch, TRADED_CLASS)
    y = original_metric(test_set, "accuracy", branch)
    if x is not None and y is not None:
        axes.plot(x, y, marker="*", markersize=9, color=QUIET_INK, linestyle="none", zorder=3)
        axes.annotate(
            "original",
            (x, y),
            xytext=(5, -9),
            textcoords="offset points",
            fontsize=8,
            color=QUIET_INK,
        )
