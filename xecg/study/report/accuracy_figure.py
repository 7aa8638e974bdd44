"""Accuracy, F1 and AUROC against frozen depth."""

from typing import TYPE_CHECKING

from xecg.explain.pictures import FUSED, INK, QUIET_INK
from xecg.study.report.analysis import Analysis
from xecg.study.report.depth_axis import (
    Look,
    add_legend,
    draw_means,
    draw_reference,
    new_figure,
    set_depth_axis,
    tidy,
)
from xecg.study.report.performance import METRICS
from xecg.study.report.references import PUBLISHED_ACCURACY, original_metric
from xecg.study.report.rows import of_what

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"morphology": "#7d0048", "rhythm": "#1f6f8b", FUSED: "#2b2f36"}
_MARKERS = {"morphology": "o", "rhythm": "s", FUSED: "D"}


def look_of(part: str) -> Look:
    """How a branch, or the two fused, are drawn in every figure."""
    return Look(part, COLOURS.get(part, QUIET_INK), _MARKERS.get(part, "o"))


def draw_accuracy(analysis: Analysis) -> "Figure":
    """A panel for each metric (rows) and output (columns), with the rows on one scale."""
    ladder = analysis.ladder
    figure = new_figure(of_what(ladder), len(METRICS), len(ladder.outputs))
    grid = figure.subplots(
        len(METRICS), len(ladder.outputs), sharex=True, sharey="row", squeeze=False
    )
    for row, metric in enumerate(METRICS):
        for axes, found in zip(grid[row], analysis.named(metric), strict=True):
            tidy(axes)
            part = found.measure.part
            if metric == "accuracy" and part == FUSED:
                _published_range(axes)
            draw_reference(axes, original_metric(ladder.test_set, metric, part))
            draw_means(axes, found.means, look_of(part))
            set_depth_axis(axes, ladder.depths, labelled=row == len(METRICS) - 1)
            if row == 0:
                axes.set_title("both branches fused" if part == FUSED else f"{part} branch")
                axes.title.set(fontsize=10, color=INK)
        grid[row][0].set_ylabel(METRICS[metric], fontsize=9, color=INK)
    known = original_metric(ladder.test_set, "accuracy", FUSED) is not None
    add_legend(figure, [], ladder, original=known)
    return figure


def _published_range(axes: "Axes") -> None:
    axes.axhspan(*PUBLISHED_ACCURACY, color="#f3ecd9", zorder=0)
    axes.text(
        0.99,
        PUBLISHED_ACCURACY[0],
        "published range",
        transform=axes.get_yaxis_transform(),
        fontsize=7,
        color="#8a6d1d",
        ha="right",
        va="bottom",
    )
