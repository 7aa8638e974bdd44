"""Figures of a study: measures against frozen depth."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from xecg.explain.pictures import FUSED, INK, QUIET_INK
from xecg.explain.relevance import CLASSES, OWN_WAVE, wave_title
from xecg.study.ladder import KEY, METRICS, SCRATCH, SPECIFICITY, TRADED_CLASS, Analysis, Ladder
from xecg.study.plan import Reference

_GAP = 1.7  # from the first rung to training from scratch
_ASIDE = 0.16  # from a mean to the dots of its seeds
_DASHES: Any = (0, (5, 3))


class Look(NamedTuple):
    """How a line is drawn: distinct in colour, lightness and marker."""

    label: str
    colour: str
    marker: str = "o"
    shift: float = 0.0  # to the right, so that intervals stand side by side


_PARTS = {
    "morphology": Look("morphology", "#7d0048"),
    "rhythm": Look("rhythm", "#1f6f8b", "s"),
    FUSED: Look(FUSED, "#2b2f36", "D"),
}
_WAVES = {
    "P": Look("P wave (AF: where it would be)", "#c2700f", "^", -0.06),
    "QRS": Look("QRS complex", "#35599a", "o", 0.06),
}
_CLASSES = {
    "non-AF": Look("non-AF", "#2b2f36", "o", -0.06),
    "AF": Look("AF (P: where it would be)", "#b5651d", "s", 0.06),
}


def depth_title(depth: int) -> str:
    """Returns a depth as tables and figures show it."""
    return "scratch" if depth == SCRATCH else str(depth)


def with_interval(row: Any, digits: int = 3, name: str = "value") -> str:
    """Returns a number with its interval; a dash where there is none."""
    value, low, high = row[name], row["low"], row["high"]
    if np.isnan(value):
        return "-"
    interval = "" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}{interval}"


def p_text(row: Any) -> str:
    """Returns a p value with as many digits as its permutations carry."""
    n = row["permutations"]
    return "-" if np.isnan(row["p"]) else f"{row['p']:.{4 if n >= 1000 else 3 if n >= 100 else 2}f}"


def rho_text(row: Any) -> str:
    """Returns rho with its interval and p."""
    if np.isnan(row["rho"]):
        return "rho needs three depths that differ"
    return f"rho {with_interval(row, 2, 'rho')}, p = {p_text(row)}"


def span(means: pd.DataFrame) -> str:
    """Returns the fewest and the most windows that a network's number is of."""
    low, high = means["fewest_windows"].min(), means["most_windows"].max()
    return f"{low}" if low == high else f"{low} to {high}"


def select(frame: pd.DataFrame, *key: str) -> pd.DataFrame:
    """Returns the rows of a measure, part, class and wave."""
    chosen: pd.DataFrame = frame[(frame[KEY] == list(key)).all(axis=1)]
    return chosen


def draw_accuracy(analysis: Analysis, reference: Reference) -> Figure:
    """Draws a panel for each metric (rows) and output (columns), with a row on one scale."""
    parts = [*analysis.ladder.branches, FUSED]
    figure, grid = _panels(analysis.ladder, len(METRICS), len(parts), (3.4, 2.5), sharey="row")
    for panels, metric in zip(grid, METRICS, strict=True):
        for axes, part in zip(panels, parts, strict=True):
            if metric == "accuracy":
                title = "both branches fused" if part == FUSED else f"{part} branch"
                axes.set_title(title, fontsize=10, color=INK)
            if metric == "accuracy" and part == FUSED and reference.accuracy_range:
                axes.axhspan(*reference.accuracy_range, color="#f3ecd9", zorder=0)
                place, style = (0.99, reference.accuracy_range[0]), {"ha": "right", "va": "bottom"}
                _note(axes, "published range", place, color="#8a6d1d", **style)
            look = _PARTS.get(part, Look(part, QUIET_INK))
            _draw_line(axes, analysis, (metric, part, "", ""), look, QUIET_INK)
        panels[0].set_ylabel(METRICS[metric], fontsize=9, color=INK)
    _finish(figure, grid, analysis, reference, [])
    return figure


def draw_relevance(analysis: Analysis, reference: Reference) -> Figure | None:
    """Draws a panel for each branch (rows) and class (columns), all on one logarithmic scale."""
    branches = analysis.ladder.branches
    if not (analysis.means["measure"] == "enrichment").any():
        return None
    figure, grid = _panels(analysis.ladder, len(branches), len(CLASSES), (4.4, 2.9))
    for panels, branch in zip(grid, branches, strict=True):
        for axes, rhythm in zip(panels, CLASSES, strict=True):
            axes.set_yscale("log", base=2)
            axes.axhline(1, color=QUIET_INK, linewidth=0.8, zorder=1)
            _note(axes, " chance", (1.0, 1), color=QUIET_INK, va="center")
            for wave, look in _WAVES.items():
                drawn = _draw_line(axes, analysis, ("enrichment", branch, rhythm, wave), look)
            place = wave_title("P", rhythm)
            title = f"{branch} branch, {rhythm}" + f" (no P wave: {place})" * (place != "P")
            axes.set_title(f"{title}\n{span(drawn)} windows a network", fontsize=9, color=INK)
        panels[0].set_ylabel("enrichment (share of relevance\n/ share of time)", fontsize=9)
    low, high = grid[0][0].get_ylim()
    grid[0][0].set_ylim(min(low, 0.48), max(high, 2.1))
    grid[0][0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _finish(figure, grid, analysis, reference, [*_WAVES.values()])
    return figure


def draw_specificity(analysis: Analysis, reference: Reference) -> Figure | None:
    """Draws a panel for each branch, with both classes, and rho with its interval and p above."""
    if analysis.tradeoffs.empty:
        return None
    branches = analysis.tradeoffs["part"]
    figure, grid = _panels(analysis.ladder, 1, len(branches), (4.6, 3.4))
    for axes, branch in zip(grid[0], branches, strict=True):
        axes.axhline(0, color=QUIET_INK, linewidth=0.8, zorder=1)
        own = OWN_WAVE[branch]
        lines = [f"{branch} branch: log2({own} / {'QRS' if own == 'P' else 'P'})"]
        for rhythm, look in _CLASSES.items():
            key = (SPECIFICITY, branch, rhythm, "")
            drawn = _draw_line(axes, analysis, key, look)
            trend = select(analysis.trends, *key).iloc[0]
            lines.append(f"{rhythm} (n {span(drawn)}): {rho_text(trend)}")
        axes.set_title("\n".join(lines), fontsize=9, color=INK, loc="left")
    grid[0][0].set_ylabel("domain specificity (bits; 0: no preference)", fontsize=9, color=INK)
    _finish(figure, grid, analysis, reference, [*_CLASSES.values()])
    return figure


def draw_tradeoff(analysis: Analysis, _: Reference) -> Figure | None:
    """Draws accuracy against specificity: a disc with its number for each depth, in order."""
    if analysis.tradeoffs.empty:
        return None
    figure, grid = _panels(analysis.ladder, 1, len(analysis.tradeoffs), (5.0, 4.6))
    for axes, trend in zip(grid[0], analysis.tradeoffs.to_dict("records"), strict=True):
        axes.margins(0.1)
        branch = trend["part"]
        specificity = select(analysis.means, SPECIFICITY, branch, TRADED_CLASS, "")
        accuracy = select(analysis.means, "accuracy", branch, "", "")
        both = specificity.merge(accuracy, on="depth", suffixes=("_x", "_y"))
        _draw_discs(axes, both.dropna(subset="value_x"), _PARTS[branch].colour)
        x, y = both[["known_x", "known_y"]].iloc[0]
        if not np.isnan(x + y):
            axes.plot(x, y, marker="*", markersize=9, color=QUIET_INK, linestyle="none", zorder=3)
            style: dict[str, Any] = {"fontsize": 8, "color": QUIET_INK, "ha": "center", "va": "top"}
            axes.annotate("original", (x, y), (0, -7), textcoords="offset points", **style)
        axes.set_title(f"{branch} branch\n{rho_text(trend)}", fontsize=9, color=INK, loc="left")
        label = f"domain specificity in {TRADED_CLASS} (bits; n {span(specificity)} windows)"
        axes.set_xlabel(label, fontsize=9, color=INK)
    grid[0][0].set_ylabel("accuracy of the branch, both classes", fontsize=9, color=INK)
    discs = Look("frozen blocks in the disc, S from scratch", QUIET_INK)
    _legend(figure, [discs], several=len(analysis.ladder.seeds) > 1)
    return figure


FIGURES = {
    "specificity": draw_specificity,
    "relevance": draw_relevance,
    "accuracy": draw_accuracy,
    "accuracy_specificity": draw_tradeoff,
}


def _panels(
    ladder: Ladder, rows: int, columns: int, panel: tuple[float, float], sharey: Any = "all"
) -> tuple[Figure, Any]:
    """A figure of small panels (inches) with quiet axes, and what it is of above them."""
    size = (0.9 + panel[0] * columns, 1.15 + panel[1] * rows)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.suptitle(ladder.title, x=0.01, ha="left", fontsize=9, color=QUIET_INK)
    grid = figure.subplots(rows, columns, sharex=rows > 1, sharey=sharey, squeeze=False)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(QUIET_INK)
        axes.tick_params(colors=QUIET_INK, labelsize=8)
        axes.grid(axis="y", color="#eceef1", linewidth=0.7)
        axes.set_axisbelow(True)
    return figure, grid


def _note(axes: Axes, text: str, place: tuple[float, float], **style: Any) -> None:
    """A small text at a share of the width and a value of the y axis."""
    axes.text(*place, text, transform=axes.get_yaxis_transform(), fontsize=7, **style)


def _place(depths: pd.Series, ladder: Ladder) -> pd.Series:
    """Where depths stand on the axis: training from scratch at the left, behind a gap."""
    first = min((depth for depth in ladder.depths if depth != SCRATCH), default=0)
    return depths.astype(float).where(depths != SCRATCH, first - _GAP)


def _draw_line(
    axes: Axes, analysis: Analysis, key: tuple[str, ...], look: Look, reference: str = ""
) -> pd.DataFrame:
    """Draws means with intervals, joined over the rungs, the seeds beside them, the reference."""
    ladder, means = analysis.ladder, select(analysis.means, *key)
    for known in means["known"].dropna().unique():
        axes.axhline(
            known, color=reference or look.colour, linewidth=1.0, linestyle=_DASHES, zorder=2
        )
    for line, group in means.groupby(np.where(means["depth"] == SCRATCH, "none", "-")):
        axes.errorbar(
            _place(group["depth"], ladder) + look.shift,
            group["value"],
            yerr=_lengths(group),
            linestyle=line,
            marker=look.marker,
            markersize=4.5,
            linewidth=1.5,
            elinewidth=1.0,
            color=look.colour,
            zorder=3,
        )
    networks = select(analysis.networks, *key)
    several = networks[networks.groupby("depth")["seed"].transform("size") > 1]
    places = _place(several["depth"], ladder) + look.shift + np.copysign(_ASIDE, look.shift)
    style: dict[str, Any] = {"markersize": 2.4, "markeredgewidth": 0, "alpha": 0.6, "zorder": 4}
    axes.plot(places, several["value"], "o", color=look.colour, **style)
    return means


def _lengths(means: pd.DataFrame, axis: str = "") -> Any:
    """Lengths of intervals below and above; rounding must not make one negative."""
    value, low, high = (means[f"{name}{axis}"] for name in ("value", "low", "high"))
    return np.clip([value - low, high - value], 0, None)


def _draw_discs(axes: Axes, both: pd.DataFrame, colour: str) -> None:
    rungs = both[both["depth"] != SCRATCH]
    axes.plot(rungs["value_x"], rungs["value_y"], color=colour, linewidth=0.7, alpha=0.4)
    errors: dict[str, Any] = {"xerr": _lengths(both, "_x"), "yerr": _lengths(both, "_y")}
    style: dict[str, Any] = {"linestyle": "none", "elinewidth": 0.7, "alpha": 0.45, "zorder": 2}
    axes.errorbar(both["value_x"], both["value_y"], **errors, color=colour, **style)
    row: Any
    for row in both.itertuples():
        scratch = row.depth == SCRATCH
        fill, ink = ("white", colour) if scratch else (colour, "white")
        disc = {"boxstyle": "circle,pad=0.22", "facecolor": fill, "edgecolor": ink}
        style = {"fontsize": 7.5, "weight": "bold", "ha": "center", "va": "center"}
        text = "S" if scratch else str(row.depth)
        axes.text(row.value_x, row.value_y, text, color=ink, bbox=disc, zorder=4, **style)


def _finish(
    figure: Figure, grid: Any, analysis: Analysis, reference: Reference, looks: list[Look]
) -> None:
    """Sets the ticks of the depths below the panels, and the legend."""
    ladder = analysis.ladder
    places = _place(pd.Series(ladder.depths), ladder)
    for axes in grid.flat:
        axes.set_xticks(places, [depth_title(depth) for depth in ladder.depths])
        axes.set_xlim(places.min() - 0.6, places.max() + 0.5)
        if SCRATCH in ladder.depths and len(ladder.depths) > 1:
            axes.axvline(places.iloc[:2].mean() + 0.15, color="#d5d8dd", linewidth=0.8)
    for axes in grid[-1]:
        axes.set_xlabel("frozen blocks, counted from the input", fontsize=9, color=INK)
    known = reference.title if ladder.test_set == reference.test_set else ""
    _legend(figure, looks, several=len(ladder.seeds) > 1, seeds=True, reference=known)


def _legend(
    figure: Figure, looks: list[Look], *, several: bool, seeds: bool = False, reference: str = ""
) -> None:
    def handle(label: str, **style: Any) -> Line2D:
        return Line2D([], [], **{"color": QUIET_INK, "markersize": 4.5, "label": label, **style})

    handles = [handle(look.label, color=look.colour, marker=look.marker) for look in looks]
    mean = "mean over seeds" if several else "network"
    interval = f"{mean}, 95 % interval over persons or records"
    handles.append(handle(interval, marker="|", markersize=9, linestyle="none"))
    if several and seeds:
        handles.append(handle("each seed", marker="o", markersize=2.4, linestyle="none"))
    if reference:
        handles.append(handle(reference, linestyle=_DASHES, linewidth=1.0))
    style = {"ncols": len(handles), "frameon": False, "fontsize": 8, "labelcolor": INK}
    figure.legend(handles=handles, loc="outside lower left", **style)
