import numpy as np
import pytest

from xecg.explain.relevance import WAVES, RelevanceStatistics, summarize
from xecg.study.report.relevance import ENRICHMENT, SPECIFICITY, relevance
from xecg.study.report.resamples import Resamples


def statistics_of(table, branch):
    """Relevance statistics that hold a table's enrichments; of the rest nothing is asked."""
    n = table.af.size
    enrichment = table.enrichment[branch]
    nothing = np.full(n, np.nan)
    return RelevanceStatistics(
        share=enrichment,
        mean=enrichment,
        enrichment=enrichment,
        pointing=nothing,
        pointing_chance=nothing,
        gini=nothing,
        conservation=nothing,
        n_beats=np.full(n, 12),
        valid=~np.isnan(enrichment["P"]),
        left_out={},
    )


def test_means_are_those_of_the_relevance_summary(ladder):
    found = {
        (m.name, m.part, m.rhythm, m.wave): m
        for m in relevance(ladder, Resamples.draw(ladder, 300, seed=0))
    }
    cell = 7
    table = ladder.tables[cell]
    for branch in ladder.branches:
        right = ladder.right(branch)[cell]
        rows = summarize(statistics_of(table, branch), table.af, right, table.group, branch=branch)
        wanted = [
            row
            for row in rows
            if row.prediction == "right" and row.measure in (ENRICHMENT, SPECIFICITY)
        ]
        assert len(wanted) == 2 * (len(WAVES) + 1)
        for row in wanted:
            measure = found[row.measure, branch, row.rhythm, row.wave]
            assert measure.observed[cell] == pytest.approx(row.value)
            ends = np.quantile(measure.values[1:, cell], [0.025, 0.975])
            np.testing.assert_allclose(ends, [row.low, row.high], atol=0.04)
            assert measure.windows[cell] == row.n_windows
            assert measure.groups[cell] == row.n_groups
