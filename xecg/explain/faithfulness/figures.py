"""Figures of faithfulness: perturbation curves in small multiples, similarity by stage."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xecg.explain.faithfulness.attributions import METHODS
from xecg.explain.faithfulness.filling import FILLINGS
from xecg.explain.faithfulness.randomisation import STAGES
from xecg.explain.faithfulness.tables import ALL, Row
from xecg.explain.pictures import INK, QUIET_INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"MoRF": "#7d0048", "LeRF": "#5b6b8c"}  # as the ends of the relevance colours
_LABELS = {"MoRF": "most relevant first", "LeRF": "least relevant first"}
_METHOD_COLOURS = ("#7d0048", "#d0539a", "#1f6f8b", "#6aaed6", "#c98a1b", "#8a8f98", "#8a8f98")


def draw_curves(curves: Sequence[Row], areas: Sequence[Row]) -> "Figure":
    """Change of the explained class's probability, a panel for each map, filling and branch.

    Args:
        curves: Rows of the table of curves.
        areas: Rows of the table of areas.
    """
    from matplotlib.figure import Figure

    kinds = {"predicted": ALL, "measure": "probability"}
    curves, areas = _where(curves, **kinds), _where(areas, **kinds)
    lines = [(branch, filling) for branch in _values(areas, "branch") for filling in FILLINGS]
    methods = _values(areas, "method")
    size = (2 + 1.75 * len(methods), 1.1 + 1.65 * len(lines))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(lines), len(methods), sharex=True, sharey="row", squeeze=False)
    for axes_row, (branch, filling) in zip(grid, lines, strict=True):
        for axes, method in zip(axes_row, methods, strict=True):
            key = {"branch": branch, "filling": filling, "method": method}
            _draw_curves(axes, _where(curves, **key), _where(areas, **key)[0])
        axes_row[0].set_ylabel(f"{branch}\n{filling}", color=INK)
    for axes, method in zip(grid[0], methods, strict=True):
        axes.set_title(METHODS[method].title, fontsize=9, color=INK)
    figure.supxlabel("share of the window that is replaced", fontsize=10, color=INK)
    figure.supylabel("change of the predicted class's probability", fontsize=10, color=INK)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    return figure


def draw_randomisation(rows: Sequence[Row]) -> "Figure":
    """Spearman's correlation with the trained network's map, by stage, a panel for each branch.

    Args:
        rows: Rows of the table of randomisation.
    """
    from matplotlib.figure import Figure

    rows = _where(rows, coefficient="spearman")
    branches, methods = _values(rows, "branch"), _values(rows, "method")
    figure = Figure(figsize=(2.2 + 4.2 * len(branches), 3.8), layout="constrained")
    panels = figure.subplots(1, len(branches), sharey=True, squeeze=False)[0]
    for axes, branch in zip(panels, branches, strict=True):
        _tidy(axes)
        axes.axhline(0, color=QUIET_INK, linewidth=0.6)
        axes.set_title(branch, fontsize=10, color=INK)
        axes.set_xlabel("random from the output down to", color=INK)
        for number, method in enumerate(methods):
            stages = _where(rows, branch=branch, method=method)
            places = [STAGES.index(row["stage"]) + 0.07 * (number - 2) for row in stages]
            means = [row["value"] for row in stages]
            below = [row["value"] - row["low"] for row in stages]
            above = [row["high"] - row["value"] for row in stages]
            axes.errorbar(
                places,
                means,
                yerr=[below, above],
                color=_METHOD_COLOURS[list(METHODS).index(method)],
                label=METHODS[method].title,
                marker="o",
                markersize=3.5,
                linewidth=1.2,
                elinewidth=0.7,
            )
        axes.set_xticks(range(len(STAGES)), STAGES, rotation=45, ha="right")
    panels[0].set_ylabel("Spearman's correlation\nwith the trained network's map", color=INK)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    return figure


def _draw_curves(axes: "Axes", curves: Sequence[Row], area: Row) -> None:
    _tidy(axes)
    axes.set_ymargin(0.15)  # room for the area's numbers
    axes.axhline(0, color=QUIET_INK, linewidth=0.6)
    for order, colour in _COLOURS.items():
        points = _where(curves, order=order)
        shares = [row["share"] for row in points]
        means = [row["value"] for row in points]
        low, high = [row["low"] for row in points], [row["high"] for row in points]
        axes.plot(shares, means, color=colour, linewidth=1.4, label=_LABELS[order])
        axes.fill_between(shares, low, high, color=colour, alpha=0.18, linewidth=0)
    text = f"{area['value']:+.2f} [{area['low']:.2f}, {area['high']:.2f}]"
    axes.text(0.03, 0.04, text, transform=axes.transAxes, fontsize=7.5, color=INK)
    axes.set_xlim(0, 1)
    axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))


def _tidy(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET_INK)
    axes.tick_params(colors=QUIET_INK, labelsize=8)


def _where(rows: Sequence[Row], **wanted: str) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _values(rows: Sequence[Mapping[str, str]], key: str) -> list[str]:
    """What stands in a column, each value once, in the order of the table."""
    return list(dict.fromkeys(row[key] for row in rows))
