from pathlib import Path

import numpy as np
import pytest
from fake_study import QUICK, FakeStudy

from xecg.study.report.analysis import analyse
from xecg.study.report.cells import read_cells
from xecg.study.report.ladder import read_ladders
from xecg.study.report.relevance import SPECIFICITY


def analysed(folder: Path, **truth):
    truth = {"test_sets": (("fake", 100, 100),), **truth}
    return analyse(read_ladders(read_cells(FakeStudy(**truth).write(folder)))[0], QUICK)


def test_a_rising_truth_has_rho_1_and_reaches_the_bar(ladder):
    analysis = analyse(ladder, QUICK)
    for branch in ladder.branches:
        trend = analysis.found[SPECIFICITY, branch, "non-AF", ""].trend
        assert trend.rho == pytest.approx(1)
        assert trend.low > 0.9
        assert trend.test.p == pytest.approx(1 / 500)
        assert trend.depths == tuple(range(9))
        assert list(trend.by_seed) == [0, 1, 2]
        assert trend.reaches_bar
    falling = analysis.found["enrichment", "rhythm", "non-AF", "P"].trend
    assert falling.rho == pytest.approx(-1)
    assert falling.high < 0
    assert not falling.reaches_bar


def test_means_and_intervals_hold_the_truth(ladder):
    analysis = analyse(ladder, QUICK)
    found = analysis.found["enrichment", "rhythm", "non-AF", "QRS"]
    misses = 0
    for mean in found.means[1:]:
        truth = 1.5 + 0.3 * mean.depth
        misses += not mean.low <= truth <= mean.high
        assert mean.value == pytest.approx(truth, rel=0.05)
    assert misses <= 4  # of 9 that are hardly independent, since all are on the same windows


def test_without_a_trend_the_bar_is_not_reached(tmp_path):
    analysis = analysed(
        tmp_path / "flat", enrichment_p=lambda d, b: 1.2, enrichment_qrs=lambda d, b: 1.0
    )
    for branch in analysis.ladder.branches:
        trend = analysis.found[SPECIFICITY, branch, "non-AF", ""].trend
        assert trend.test.p > 0.02
        assert not trend.reaches_bar
        assert trend.low < trend.rho < trend.high


def test_training_from_scratch_is_no_rung(tmp_path):
    def extreme(depth, branch):
        return 1e-3 if depth is None else 1.0 + 0.1 * depth

    analysis = analysed(tmp_path / "scratch", enrichment_p=extreme, seeds=(0,))
    trend = analysis.found["enrichment", "morphology", "non-AF", "P"].trend
    assert trend.depths == tuple(range(9))
    assert trend.rho == pytest.approx(1)


def test_two_depths_are_no_trend(tmp_path):
    analysis = analysed(tmp_path / "two", depths=(None, 0, 8))
    trend = analysis.found["accuracy", "fused", "", ""].trend
    assert np.isnan([trend.rho, trend.low, trend.test.p]).all()
    assert not trend.reaches_bar
    assert np.isnan(analysis.tradeoffs["rhythm"].rho)


def test_accuracy_that_follows_specificity_is_seen(tmp_path):
    analysis = analysed(
        tmp_path / "follows",
        test_sets=(("fake", 400, 400),),
        seeds=(0, 1),
        accuracy=lambda depth, branch: 0.5 if depth is None else 0.6 + 0.04 * depth,
    )
    for trend in analysis.tradeoffs.values():
        assert trend.rho == pytest.approx(1)
        assert trend.low > 0.9
