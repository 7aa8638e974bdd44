"""Figures of a study: measures against frozen depth, and numbers as text."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from xecg.explain.paper import QUIET_INK
from xecg.explain.relevance import CLASSES, OWN_WAVE, wave_title
from xecg.metrics.bootstrap import with_interval
from xecg.networks.xecgarch import FUSED
from xecg.study.ladder import AGREEMENT, KEY, METRICS, SCRATCH, SPECIFICITY, Analysis, Ladder
from xecg.study.plan import Reference

STYLE = Path(__file__).parent / "templates" / "figures.mplstyle"  # for matplotlib.style
_GAP = 1.7  # from the first rung to training from scratch
_ASIDE = 0.16  # from a mean to the dots of its seeds
_DASHES: Any = (0, (5, 3))
# Label, colour (distinct in lightness too), marker, and how far a line stands to the right, so that
# intervals are side by side.
_LOOKS = {
    "morphology": ("morphology", "#7d0048", "o", 0.0),
    "rhythm": ("rhythm", "#1f6f8b", "s", 0.0),
    FUSED: (FUSED, "#2b2f36", "D", 0.0),
    "P": ("P wave (AF: where it would be)", "#c2700f", "^", -0.06),
    "QRS": ("QRS complex", "#35599a", "o", 0.06),
    "other": ("as much of the T-P stretch", QUIET_INK, "s", 0.0),
    "non-AF": ("non-AF", "#2b2f36", "o", -0.06),
    "AF": ("AF (P: where it would be)", "#b5651d", "s", 0.06),
    "disc": ("frozen blocks in the disc, S from scratch", QUIET_INK, "o", 0.0),
}


def depth_title(depth: int) -> str:
    """Returns a depth as tables and figures show it."""
    return "scratch" if depth == SCRATCH else str(depth)


def p_text(row: Any) -> str:
    """Returns a p value with as many digits as its permutations carry."""
    n = row["permutations"]
    return "-" if np.isnan(row["p"]) else f"{row['p']:.{4 if n >= 1000 else 3 if n >= 100 else 2}f}"


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
    if reference.accuracy_range:
        grid[0, -1].axhspan(*reference.accuracy_range, color="#f3ecd9", zorder=0)
        place = (0.99, reference.accuracy_range[0])
        _note(grid[0, -1], "published range", place, color="#8a6d1d", ha="right", va="bottom")
    for axes, (metric, part) in zip(grid.flat, product(METRICS, parts), strict=True):
        _draw_line(axes, analysis, (metric, part, "", ""), part, QUIET_INK)
    for axes, part in zip(grid[0], parts, strict=True):
        title = "both branches fused" if part == FUSED else f"{part} branch"
        axes.set_title(title, fontsize=10)
    for axes, title in zip(grid[:, 0], METRICS.values(), strict=True):
        axes.set_ylabel(title)
    return _with_depths(figure, grid, analysis.ladder, reference, [])


def draw_relevance(analysis: Analysis, reference: Reference) -> Figure | None:
    """Draws a panel for each branch (rows) and class (columns), all on one logarithmic scale."""
    branches = analysis.ladder.branches
    if not (analysis.means["measure"] == "enrichment").any():
        return None
    figure, grid = _panels(analysis.ladder, len(branches), len(CLASSES), (4.4, 2.9))
    for axes, (branch, rhythm) in zip(grid.flat, product(branches, CLASSES), strict=True):
        axes.set_yscale("log", base=2)
        axes.axhline(1, color=QUIET_INK, linewidth=0.8, zorder=1)
        _note(axes, " chance", (1.0, 1), color=QUIET_INK, va="center")
        for wave in ("P", "QRS"):
            drawn = _draw_line(axes, analysis, ("enrichment", branch, rhythm, wave), wave)
        place = wave_title("P", rhythm)
        title = f"{branch} branch, {rhythm}" + f" (no P wave: {place})" * (place != "P")
        axes.set_title(f"{title}\n{span(drawn)} windows a network")
    for axes in grid[:, 0]:
        axes.set_ylabel("enrichment (share of relevance\n/ share of time)", color="black")
    low, high = grid[0, 0].get_ylim()
    grid[0, 0].set_ylim(min(low, 0.48), max(high, 2.1))
    grid[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return _with_depths(figure, grid, analysis.ladder, reference, ["P", "QRS"])


def draw_effects(analysis: Analysis, reference: Reference) -> Figure | None:
    """Draws a panel for each branch (rows) and class (columns): decisions that flip."""
    branches = analysis.ladder.branches
    if not (analysis.means["measure"] == "flips").any():
        return None
    figure, grid = _panels(analysis.ladder, len(branches), len(CLASSES), (4.4, 2.9))
    for axes, (branch, rhythm) in zip(grid.flat, product(branches, CLASSES), strict=True):
        for wave in ("P", "QRS", "other"):
            drawn = _draw_line(axes, analysis, ("flips", branch, rhythm, wave), wave)
        rho = select(analysis.means, AGREEMENT, branch, rhythm, "")["value"]
        shown = f"agreement with relevance {rho.min():.2f} to {rho.max():.2f}"
        axes.set_title(f"{branch} branch, {rhythm}; {span(drawn)} windows a network\n{shown}")
    for axes in grid[:, 0]:
        axes.set_ylabel("share of decisions that flip", color="black")
    return _with_depths(figure, grid, analysis.ladder, reference, ["P", "QRS", "other"])


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
        for rhythm in CLASSES:
            key = (SPECIFICITY, branch, rhythm, "")
            drawn = _draw_line(axes, analysis, key, rhythm)
            trend = select(analysis.trends, *key).iloc[0]
            lines.append(f"{rhythm} (n {span(drawn)}): {_rho_text(trend)}")
        axes.set_title("\n".join(lines), loc="left")
    grid[0, 0].set_ylabel("domain specificity (bits; 0: no preference)")
    return _with_depths(figure, grid, analysis.ladder, reference, [*CLASSES])


def draw_tradeoff(analysis: Analysis, _: Reference) -> Figure | None:
    """Draws accuracy against specificity: a disc with its number for each depth, in order."""
    if analysis.tradeoffs.empty:
        return None
    figure, grid = _panels(analysis.ladder, 1, len(analysis.tradeoffs), (5.0, 4.6))
    for axes, trend in zip(grid[0], analysis.tradeoffs.to_dict("records"), strict=True):
        branch, rhythm = trend["part"], trend["class"]
        specificity = select(analysis.means, SPECIFICITY, branch, rhythm, "")
        accuracy = select(analysis.means, "accuracy", branch, "", "")
        both = specificity.merge(accuracy, on="depth", suffixes=("_x", "_y"))
        _draw_discs(axes, both.dropna(subset="value_x"), _LOOKS[branch][1])
        axes.set_title(f"{branch} branch\n{_rho_text(trend)}", loc="left")
        n = f"n {span(specificity)} windows"
        axes.set_xlabel(f"domain specificity in {rhythm} (bits; {n})")
    grid[0, 0].set_ylabel("accuracy of the branch, both classes")
    return _with_legend(figure, analysis.ladder, ["disc"], seeds=False)


FIGURES = {
    "specificity": draw_specificity,
    "relevance": draw_relevance,
    "effects": draw_effects,
    "accuracy": draw_accuracy,
    "accuracy_specificity": draw_tradeoff,
}


def _rho_text(row: Any) -> str:
    if np.isnan(row["rho"]):
        return "rho needs three depths that differ"
    return f"rho {with_interval(row, 2, 'rho')}, p = {p_text(row)}"


def _panels(
    ladder: Ladder, rows: int, columns: int, panel: tuple[float, float], sharey: Any = "all"
) -> tuple[Figure, Any]:
    """A figure of small panels (inches), and what it is of above them."""
    figure = Figure(figsize=(0.9 + panel[0] * columns, 1.15 + panel[1] * rows))
    figure.suptitle(ladder.title, x=0.01, ha="left", fontsize=9, color=QUIET_INK)
    return figure, figure.subplots(rows, columns, sharex=rows > 1, sharey=sharey, squeeze=False)


def _note(axes: Axes, text: str, place: tuple[float, float], **style: Any) -> None:
    """A small text at a share of the width and a value of the y axis."""
    axes.text(*place, text, transform=axes.get_yaxis_transform(), fontsize=7, **style)


def _place(depths: pd.Series, ladder: Ladder) -> pd.Series:
    """Where depths stand on the axis: training from scratch at the left, behind a gap."""
    first = min((depth for depth in ladder.depths if depth != SCRATCH), default=0)
    return depths.astype(float).where(depths != SCRATCH, first - _GAP)


def _draw_line(
    axes: Axes, analysis: Analysis, key: tuple[str, ...], name: str, reference: str = ""
) -> pd.DataFrame:
    """Draws means with intervals, joined over the rungs, the seeds beside them, the reference."""
    ladder, means = analysis.ladder, select(analysis.means, *key)
    _, colour, marker, shift = _LOOKS.get(name, (name, QUIET_INK, "o", 0.0))
    for known in means["known"].dropna().unique():
        axes.axhline(known, color=reference or colour, linewidth=1.0, linestyle=_DASHES, zorder=2)
    style: dict[str, Any] = {"color": colour, "marker": marker, "linewidth": 1.5}
    for line, group in means.groupby(np.where(means["depth"] == SCRATCH, "none", "-")):
        x, errors = _place(group["depth"], ladder) + shift, _lengths(group)
        style |= {"linestyle": line, "elinewidth": 1.0, "zorder": 3}
        axes.errorbar(x, group["value"], yerr=errors, **style)
    networks = select(analysis.networks, *key)
    several = networks[networks.groupby("depth")["seed"].transform("size") > 1]
    places = _place(several["depth"], ladder) + shift + np.copysign(_ASIDE, shift)
    style = {"markersize": 2.4, "markeredgewidth": 0, "alpha": 0.6, "zorder": 4}
    axes.plot(places, several["value"], "o", color=colour, **style)
    return means


def _lengths(means: pd.DataFrame, axis: str = "") -> Any:
    """Lengths of intervals below and above; rounding must not make one negative."""
    value, low, high = (means[f"{name}{axis}"] for name in ("value", "low", "high"))
    return np.clip([value - low, high - value], 0, None)


def _draw_discs(axes: Axes, both: pd.DataFrame, colour: str) -> None:
    """Draws a disc with its number for each depth, intervals, and a star for the reference."""
    axes.margins(0.1)
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
        style = {"fontsize": 7.5, "weight": "bold", "ha": "center", "va": "center", "zorder": 4}
        text = "S" if scratch else str(row.depth)
        axes.text(row.value_x, row.value_y, text, color=ink, bbox=disc, **style)
    for x, y in both[["known_x", "known_y"]].dropna()[:1].itertuples(index=False):
        axes.plot(x, y, marker="*", markersize=9, color=QUIET_INK, linestyle="none", zorder=3)
        style = {"fontsize": 8, "color": QUIET_INK, "ha": "center", "va": "top"}
        axes.annotate("original", (x, y), (0, -7), textcoords="offset points", **style)


def _with_depths(
    figure: Figure, grid: Any, ladder: Ladder, reference: Reference, names: list[str]
) -> Figure:
    """Adds the ticks of the depths below the panels, and the legend."""
    places = _place(pd.Series(ladder.depths), ladder)
    for axes in grid.flat:
        axes.set_xticks(places, [depth_title(depth) for depth in ladder.depths])
        axes.set_xlim(places.min() - 0.6, places.max() + 0.5)
        if SCRATCH in ladder.depths and len(ladder.depths) > 1:
            axes.axvline(places.iloc[:2].mean() + 0.15, color="#d5d8dd", linewidth=0.8)
    for axes in grid[-1]:
        axes.set_xlabel("frozen blocks, counted from the input")
    known = reference.title if ladder.test_set == reference.test_set else ""
    return _with_legend(figure, ladder, names, known)


def _with_legend(
    figure: Figure, ladder: Ladder, names: list[str], reference: str = "", *, seeds: bool = True
) -> Figure:
    several = len(ladder.seeds) > 1
    mean = f"{'mean over seeds' if several else 'network'}, 95 % interval over persons or records"
    styles: list[dict[str, Any]] = [
        dict(zip(("label", "color", "marker"), _LOOKS[name], strict=False)) for name in names
    ]
    styles.append({"label": mean, "marker": "|", "markersize": 9, "linestyle": "none"})
    if several and seeds:
        styles.append({"label": "each seed", "marker": "o", "markersize": 2.4, "linestyle": "none"})
    if reference:
        styles.append({"label": reference, "linestyle": _DASHES, "linewidth": 1.0})
    handles = [Line2D([], [], **({"color": QUIET_INK} | style)) for style in styles]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
    return figure
