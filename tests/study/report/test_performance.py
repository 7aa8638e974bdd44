import numpy as np
import pytest

from xecg.metrics.classification import classification_report
from xecg.study.report.performance import METRICS, performance
from xecg.study.report.resamples import Resamples


def test_metrics_are_those_of_a_run(ladder):
    found = list(performance(ladder, Resamples.draw(ladder, 300, seed=0)))
    assert [(m.part, m.name) for m in found] == [
        (output, metric) for output in ("morphology", "rhythm", "fused") for metric in METRICS
    ]
    cell = 4
    table = ladder.tables[cell]
    for part in ladder.outputs:
        report = classification_report(table.p_af[part], table.af, table.group, n_resamples=300)
        for measure in found:
            if measure.part == part:
                theirs = report[measure.name]
                assert measure.observed[cell] == pytest.approx(theirs.value)
                ours = np.quantile(measure.values[1:, cell], [0.025, 0.975])
                np.testing.assert_allclose(ours, [theirs.low, theirs.high], atol=0.012)
                assert measure.windows[cell] == theirs.n
                assert measure.groups[cell] == theirs.n_groups
