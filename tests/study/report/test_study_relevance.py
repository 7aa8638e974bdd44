import numpy as np
import pandas as pd
import pytest

from xecg.explain.relevance import WAVES, enrichment_column, summarize
from xecg.study.report.relevance import ENRICHMENT, SPECIFICITY, relevance
from xecg.study.report.resamples import Resamples


def statistics_of(table, branch):
    """Table of relevance statistics that holds a table's enrichments."""
    return pd.DataFrame({enrichment_column(w): table.enrichment[branch][w] for w in WAVES})


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
        wanted = rows[rows.prediction == "right"].set_index(["class", "statistic"])
        assert len(wanted) == 2 * (len(WAVES) + 1)
        keys = {enrichment_column(wave): (ENRICHMENT, wave) for wave in WAVES}
        keys["domain_specificity"] = SPECIFICITY, ""
        for (rhythm, statistic), row in wanted.iterrows():
            name, wave = keys[statistic]
            measure = found[name, branch, rhythm, wave]
            assert measure.observed[cell] == pytest.approx(row.value)
            ends = np.quantile(measure.values[1:, cell], [0.025, 0.975])
            np.testing.assert_allclose(ends, [row.low, row.high], atol=0.04)
            assert measure.windows[cell] == row.n_windows
            assert measure.groups[cell] == row.n_groups
