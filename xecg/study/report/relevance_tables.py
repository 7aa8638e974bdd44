"""Tables of enrichment and domain specificity by depth."""

from xecg.explain.relevance import CLASSES, WAVES, wave_title
from xecg.study.report.analysis import Analysed, Analysis
from xecg.study.report.cells import depth_title
from xecg.study.report.measures import DepthMean
from xecg.study.report.references import (
    ORIGINAL,
    original_enrichment,
    original_specificity,
)
from xecg.study.report.relevance import ENRICHMENT, SPECIFICITY
from xecg.study.report.rows import of_what, row_of, windows_text
from xecg.study.report.tables import NOTHING, Result, Row, ShownTable, span, with_interval


def relevance_tables(analysis: Analysis) -> Result:
    """Enrichment of every wave; people see a table for each branch and class."""
    rows: list[Row] = [
        {"class": found.measure.rhythm, "wave": found.measure.wave, **row_of(analysis, found, mean)}
        for found in analysis.named(ENRICHMENT)
        for mean in found.means
    ]
    shown = [
        _enrichments(analysis, branch, rhythm)
        for branch in analysis.ladder.branches
        for rhythm in CLASSES
    ]
    return Result("relevance", rows, shown)


def specificity_tables(analysis: Analysis) -> Result:
    """Domain specificity; people see one table with a column for each branch and class."""
    found = analysis.named(SPECIFICITY)
    if not found:
        return Result("specificity")
    rows: list[Row] = [
        {"class": one.measure.rhythm, **row_of(analysis, one, mean)}
        for one in found
        for mean in one.means
    ]
    head = ["frozen blocks", *(f"{one.measure.part}, {one.measure.rhythm}" for one in found)]
    lines = [
        [depth_title(means[0].depth), *(_cell(mean) for mean in means)]
        for means in zip(*(one.means for one in found), strict=True)
    ]
    test_set = analysis.ladder.test_set
    original = [
        original_specificity(test_set, one.measure.part, one.measure.rhythm) for one in found
    ]
    counts = "; ".join(
        f"{one.measure.part}, {one.measure.rhythm} {windows_text(one)}" for one in found
    )
    caption = (
        "Domain specificity, log2(own wave / other's wave), by frozen blocks, on "
        f"{of_what(analysis.ladder)}; right predictions with four beats or more (n of a network: "
        f"{counts}). In AF the P wave is the place where it would be."
    )
    return Result("specificity", rows, [ShownTable(caption, head, lines + _original(original))])


def _enrichments(analysis: Analysis, branch: str, rhythm: str) -> ShownTable:
    found = [analysis.found[ENRICHMENT, branch, rhythm, wave] for wave in WAVES]
    lines = [
        [depth_title(means[0].depth), *(_cell(mean) for mean in means), _windows(found, row)]
        for row, means in enumerate(zip(*(one.means for one in found), strict=True))
    ]
    test_set = analysis.ladder.test_set
    original = [original_enrichment(test_set, branch, rhythm, wave) for wave in WAVES]
    caption = (
        f"Enrichment in {rhythm}, {branch} branch (share of relevance / share of time; 1 is "
        f"chance), by frozen blocks, on {of_what(analysis.ladder)}; right predictions with four "
        "beats or more."
    )
    head = ["frozen blocks", *(wave_title(wave, rhythm) for wave in WAVES), "windows"]
    return ShownTable(caption, head, lines + _original([*original], trailing=1))


def _windows(found: list[Analysed], row: int) -> str:
    return span(found[0].means[row].windows)


def _cell(mean: DepthMean) -> str:
    return with_interval(mean.value, mean.low, mean.high, digits=2)


def _original(values: list[float | None], trailing: int = 0) -> list[list[str]]:
    """A last line with the original's values, where there are any."""
    if not any(value is not None for value in values):
        return []
    shown = [NOTHING if value is None else f"{value:.2f}" for value in values]
    return [[ORIGINAL, *shown, *[""] * trailing]]
