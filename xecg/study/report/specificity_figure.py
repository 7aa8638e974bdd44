"""Domain specificity against frozen depth, and accuracy against domain specificity."""

from typing import TYPE_CHECKING

import numpy as np

from xecg.explain.pictures import INK, QUIET_INK
from xecg.explain.relevance import CLASSES
from xecg.study.report.accuracy_figure import look_of
from xecg.study.report.analysis import TRADED_CLASS, Analysis
from xecg.study.report.cells import SCRATCH
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
from xecg.study.report.rows import of_what, windows_text
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
            lines.append(f"{rhythm} (n {windows_text(found)}): {rho_text(found.trend)}")
        axes.set_title("\n".join(lines), fontsize=9, color=INK, loc="left")
        set_depth_axis(axes, ladder.depths)
    panels[0].set_ylabel("domain specificity (bits; 0: no preference)", fontsize=9, color=INK)
    known = original_specificity(ladder.test_set, branches[0], CLASSES[0]) is not None
    add_legend(figure, list(_LOOKS.values()), ladder, original=known)
    return figure


def draw_tradeoff(analysis: Analysis) -> "Figure":
    """A panel for each branch: a disc with its number for each depth, joined in order."""
    ladder = analysis.ladder
    branches = list(analysis.tradeoffs)
    figure = new_figure(of_what(ladder), 1, len(branches), panel=(5.0, 4.6))
    panels = figure.subplots(1, len(branches), sharey=True, squeeze=False)[0]
    for axes, branch in zip(panels, branches, strict=True):
        tidy(axes)
        axes.margins(0.1)
        specificity = analysis.found[SPECIFICITY, branch, TRADED_CLASS, ""]
        accuracy = analysis.found["accuracy", branch, "", ""]
        _draw_points(axes, specificity.means, accuracy.means, look_of(branch).colour)
        _draw_original(axes, ladder.test_set, branch)
        title = f"{branch} branch\n{rho_text(analysis.tradeoffs[branch])}"
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        counted = f"n {windows_text(specificity)} windows"
        label = f"domain specificity in {TRADED_CLASS} (bits; {counted})"
        axes.set_xlabel(label, fontsize=9, color=INK)
    panels[0].set_ylabel("accuracy of the branch, both classes", fontsize=9, color=INK)
    discs = Look("frozen blocks in the disc, S from scratch", QUIET_INK)
    add_legend(figure, [discs], ladder, seeds=False, original=False)
    return figure


def _draw_points(axes: "Axes", xs: list[DepthMean], ys: list[DepthMean], colour: str) -> None:
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if not np.isnan(x.value)]
    rungs = [(x.value, y.value) for x, y in points if x.depth != SCRATCH]
    axes.plot([x for x, _ in rungs], [y for _, y in rungs], color=colour, linewidth=0.7, alpha=0.4)
    for x, y in points:
        axes.errorbar(
            x.value,
            y.value,
            xerr=np.clip([[x.value - x.low], [x.high - x.value]], 0, None),
            yerr=np.clip([[y.value - y.low], [y.high - y.value]], 0, None),
            color=colour,
            elinewidth=0.7,
            alpha=0.45,
            zorder=2,
        )
    for x, y in points:
        scratch = x.depth == SCRATCH
        axes.text(
            x.value,
            y.value,
            "S" if scratch else str(x.depth),
            fontsize=7.5,
            weight="bold",
            color=colour if scratch else "white",
            ha="center",
            va="center",
            bbox={
                "boxstyle": "circle,pad=0.22",
                "facecolor": "white" if scratch else colour,
                "edgecolor": colour if scratch else "white",
                "linewidth": 0.8,
            },
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
            xytext=(0, -7),
            textcoords="offset points",
            fontsize=8,
            color=QUIET_INK,
            ha="center",
            va="top",
        )
