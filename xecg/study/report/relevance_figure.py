"""Enrichment of P waves and QRS complexes against frozen depth."""

from typing import TYPE_CHECKING

from xecg.explain.pictures import INK, QUIET_INK
from xecg.explain.relevance import CLASSES, wave_title
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
from xecg.study.report.references import original_enrichment
from xecg.study.report.relevance import ENRICHMENT
from xecg.study.report.rows import of_what, windows_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOOKS = {
    "P": Look("P wave (AF: where it would be)", "#c2700f", "^", -0.06),
    "QRS": Look("QRS complex", "#35599a", "o", 0.06),
}


def draw_relevance(analysis: Analysis) -> "Figure":
    """A panel for each branch (rows) and class (columns), all on one logarithmic scale."""
    ladder = analysis.ladder
    figure = new_figure(of_what(ladder), len(ladder.branches), len(CLASSES), panel=(4.4, 2.9))
    grid = figure.subplots(len(ladder.branches), len(CLASSES), sharex=True, sharey=True)
    for row, branch in enumerate(ladder.branches):
        for axes, rhythm in zip(grid[row], CLASSES, strict=True):
            _draw_panel(axes, analysis, branch, rhythm)
            set_depth_axis(axes, ladder.depths, labelled=row == len(ladder.branches) - 1)
        grid[row][0].set_ylabel("enrichment (share of relevance\n/ share of time)", color=INK)
        grid[row][0].yaxis.label.set_fontsize(9)
    _set_ratio_axis(grid[0][0])
    known = original_enrichment(ladder.test_set, ladder.branches[0], CLASSES[0], "P") is not None
    add_legend(figure, list(_LOOKS.values()), ladder, original=known)
    return figure


def _draw_panel(axes: "Axes", analysis: Analysis, branch: str, rhythm: str) -> None:
    tidy(axes)
    axes.set_yscale("log", base=2)
    axes.axhline(1, color=QUIET_INK, linewidth=0.8, zorder=1)
    axes.text(
        1.0,
        1,
        " chance",
        transform=axes.get_yaxis_transform(),
        fontsize=7,
        color=QUIET_INK,
        va="center",
    )
    for wave, look in _LOOKS.items():
        found = analysis.found[ENRICHMENT, branch, rhythm, wave]
        reference = original_enrichment(analysis.ladder.test_set, branch, rhythm, wave)
        draw_reference(axes, reference, look.colour)
        draw_means(axes, found.means, look)
    counted = f"{windows_text(found)} windows a network"
    title = f"{branch} branch, {rhythm}"
    if wave_title("P", rhythm) != "P":
        title += f" (no P wave: {wave_title('P', rhythm)})"
    axes.set_title(f"{title}\n{counted}", fontsize=9, color=INK)


def _set_ratio_axis(axes: "Axes") -> None:
    """Ticks at powers of two, as numbers; at least from a half to two."""
    from matplotlib.ticker import FuncFormatter

    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.48), max(high, 2.1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
