"""Tables of the trends over depths, and of accuracy against specificity."""

import numpy as np

from xecg.explain.relevance import WAVES
from xecg.study.report.analysis import TRADED_CLASS, Analysed, Analysis
from xecg.study.report.performance import METRICS
from xecg.study.report.relevance import ENRICHMENT, SPECIFICITY
from xecg.study.report.rows import of_what
from xecg.study.report.tables import NOTHING, Result, Row, ShownTable, with_interval
from xecg.study.report.trend import BAR, Trend

_HEAD = ["branch", "class", "measure", "rho", "p", "rho of each seed", "depths"]


def trend_tables(analysis: Analysis) -> Result:
    """Spearman's rho of every measure with the depth; people see specificity, waves, accuracy."""
    rows: list[Row] = [
        {
            "test_set": analysis.ladder.test_set,
            "measure": one.measure.name,
            "part": one.measure.part,
            "class": one.measure.rhythm,
            "wave": one.measure.wave,
            **_row(one.trend),
        }
        for one in analysis.found.values()
    ]
    return Result("trend", rows, [_specificity(analysis), _others(analysis)])


def tradeoff_tables(analysis: Analysis) -> Result:
    """Spearman's rho over depths between each branch's specificity and its accuracy."""
    rows: list[Row] = [
        {"test_set": analysis.ladder.test_set, "part": branch, "class": TRADED_CLASS, **_row(found)}
        for branch, found in analysis.tradeoffs.items()
    ]
    if not rows:
        return Result("accuracy_specificity")
    lines = [[branch, *_cells(found)] for branch, found in analysis.tradeoffs.items()]
    caption = (
        f"Accuracy against domain specificity in {TRADED_CLASS}, over frozen depths, on "
        f"{of_what(analysis.ladder)}: above 0, depths that are more specific are more accurate."
    )
    head = ["branch", "rho", "p", "rho of each seed", "depths"]
    return Result("accuracy_specificity", rows, [ShownTable(caption, head, lines)])


def rho_text(trend: Trend) -> str:
    """Rho with its interval and p, as figures show it."""
    if np.isnan(trend.rho):
        return "rho needs three depths that differ"
    return f"rho {with_interval(trend.rho, trend.low, trend.high, 2)}, {p_text(trend)}"


def p_text(trend: Trend) -> str:
    """The p value with as many digits as its permutations carry."""
    if np.isnan(trend.test.p):
        return f"p {NOTHING}"
    digits = 4 if trend.test.n >= 1000 else 3 if trend.test.n >= 100 else 2
    return f"p = {trend.test.p:.{digits}f}"


def _specificity(analysis: Analysis) -> ShownTable:
    found = analysis.named(SPECIFICITY)
    caption = (
        "Spearman's rho between frozen depth and domain specificity, on "
        f"{of_what(analysis.ladder)}. The claim is a rho of at least {BAR} with its interval "
        "above 0; a rho needs three depths that differ."
    )
    lines = [
        [*_line(one), _ends(one), "yes" if one.trend.reaches_bar else "no"]
        for one in found
        if one.trend.depths
    ]
    head = [*_HEAD, "least to most frozen", f"rho >= {BAR}, interval > 0"]
    return ShownTable(caption, head, lines)


def _others(analysis: Analysis) -> ShownTable:
    found = [one for one in analysis.named(ENRICHMENT) if one.measure.wave in WAVES[:2]]
    found += [one for metric in METRICS for one in analysis.named(metric)]
    caption = (
        "Spearman's rho between frozen depth and the enrichment of single waves and the metrics, "
        f"on {of_what(analysis.ladder)}."
    )
    return ShownTable(caption, _HEAD, [_line(one) for one in found])


def _line(one: Analysed) -> list[str]:
    measure = one.measure
    name = METRICS.get(measure.name, f"{measure.name} {measure.wave}".strip())
    return [measure.part, measure.rhythm or "both", name, *_cells(one.trend)]


def _ends(one: Analysed) -> str:
    """The measure at the first and the last depth of its trend."""
    means = {mean.depth: mean.value for mean in one.means}
    first, last = one.trend.depths[0], one.trend.depths[-1]
    return f"{means[first]:.2f} to {means[last]:.2f}"


def _cells(trend: Trend) -> list[str]:
    seeds = ", ".join(f"{rho:.2f}" for rho in trend.by_seed.values() if not np.isnan(rho))
    return [
        with_interval(trend.rho, trend.low, trend.high, 2),
        p_text(trend).removeprefix("p = ").removeprefix("p "),
        seeds or NOTHING,
        str(len(trend.depths)),
    ]


def _row(trend: Trend) -> Row:
    return {
        "rho": trend.rho,
        "low": trend.low,
        "high": trend.high,
        "p": trend.test.p,
        "permutations": trend.test.n,
        "exact": trend.test.exact,
        "depths": len(trend.depths),
        "lowest_seed_rho": _lowest(trend),
    }


def _lowest(trend: Trend) -> float:
    known = [rho for rho in trend.by_seed.values() if not np.isnan(rho)]
    return min(known, default=float("nan"))
