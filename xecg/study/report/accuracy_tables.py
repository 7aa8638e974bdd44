"""Tables of accuracy, F1 and AUROC by depth, and of the best and the worst depth."""

from collections.abc import Iterator

from xecg.explain.pictures import FUSED
from xecg.study.report.analysis import Analysis
from xecg.study.report.cells import SCRATCH, depth_title
from xecg.study.report.performance import METRICS
from xecg.study.report.references import PUBLISHED_ACCURACY
from xecg.study.report.rows import of_what, row_of
from xecg.study.report.tables import Result, Row, ShownTable, with_interval


def accuracy_tables(analysis: Analysis) -> Result:
    """Every metric of every output at every depth; people see a table for each metric."""
    rows = [
        {"metric": metric, **row_of(analysis, found, mean)}
        for metric in METRICS
        for found in analysis.named(metric)
        for mean in found.means
    ]
    shown = [_shown(analysis, metric) for metric in METRICS]
    return Result("accuracy", rows, shown)


def range_tables(analysis: Analysis) -> Result:
    """Lowest and highest accuracy over the rungs, beside the published range."""
    if not analysis.ladder.rungs:
        return Result("accuracy_range")
    rows = list(_extremes(analysis))
    low, high = PUBLISHED_ACCURACY
    lines = [
        [
            row["part"],
            f"{row['lowest']} at {row['lowest_depth']}",
            f"{row['highest']} at {row['highest_depth']}",
        ]
        for row in (_as_text(row) for row in rows)
    ]
    caption = (
        f"Lowest and highest accuracy over the frozen depths, on {of_what(analysis.ladder)}. "
        f"Published: {low:.3f} and {high:.3f}, on that study's own test set. The interval of the "
        "extreme is that of its depth and does not know that the depth was picked."
    )
    head = ["", "lowest, at frozen blocks", "highest, at frozen blocks"]
    return Result("accuracy_range", rows, [ShownTable(caption, head, lines)])


def _shown(analysis: Analysis, metric: str) -> ShownTable:
    found = analysis.named(metric)
    lines = [
        [depth_title(means[0].depth), *(with_interval(m.value, m.low, m.high) for m in means)]
        for means in zip(*(analysed.means for analysed in found), strict=True)
    ]
    caption = f"{METRICS[metric]} by frozen blocks, on {of_what(analysis.ladder)}."
    head = ["frozen blocks", *(analysed.measure.part for analysed in found)]
    return ShownTable(caption, head, lines)


def _extremes(analysis: Analysis) -> Iterator[Row]:
    found = analysis.named("accuracy")
    for analysed in sorted(found, key=lambda one: one.measure.part != FUSED):
        rungs = [mean for mean in analysed.means if mean.depth != SCRATCH]
        low = min(rungs, key=lambda mean: mean.value)
        high = max(rungs, key=lambda mean: mean.value)
        yield {
            "test_set": analysis.ladder.test_set,
            "part": analysed.measure.part,
            "lowest": low.value,
            "lowest_low": low.low,
            "lowest_high": low.high,
            "lowest_frozen_layers": low.depth,
            "highest": high.value,
            "highest_low": high.low,
            "highest_high": high.high,
            "highest_frozen_layers": high.depth,
            "published_lowest": PUBLISHED_ACCURACY[0],
            "published_highest": PUBLISHED_ACCURACY[1],
        }


def _as_text(row: Row) -> dict[str, str]:
    ends = {
        end: with_interval(row[end], row[f"{end}_low"], row[f"{end}_high"])
        for end in ("lowest", "highest")
    }
    depths = {f"{end}_depth": str(row[f"{end}_frozen_layers"]) for end in ends}
    return {"part": row["part"], **ends, **depths}
