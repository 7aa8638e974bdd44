from dataclasses import replace

import numpy as np
import pytest

from xecg.metrics.bootstrap import mean_interval
from xecg.study.report.ladder import Ladder
from xecg.study.report.resamples import Resamples


def test_first_come_the_data_as_they_are(ladder):
    resamples = Resamples.draw(ladder, 50, seed=0)
    values = np.random.default_rng(0).random((len(ladder.cells), ladder.af.size))
    values[:, ::7] = np.nan
    means = resamples.means(values)
    assert means.shape == (51, len(ladder.cells))
    np.testing.assert_allclose(means[0], np.nanmean(values, axis=1))
    assert (means[1:] != means[0]).all()


def test_every_cell_sees_the_same_resamples(ladder):
    resamples = Resamples.draw(ladder, 50, seed=0)
    row = np.random.default_rng(0).random(ladder.af.size)
    means = resamples.means(np.tile(row, (len(ladder.cells), 1)))
    # Up to rounding: some processors add up the last columns of a matrix product in another order.
    np.testing.assert_allclose(means, means[:, :1] + np.zeros(len(ladder.cells)), rtol=1e-14)


def test_the_interval_is_that_of_the_cluster_bootstrap(ladder):
    resamples = Resamples.draw(ladder, 4000, seed=0)
    groups = ladder.tables[0].group
    # Windows of a person are alike, so that the person matters.
    row = np.random.default_rng(0).random(ladder.n_groups)[ladder.group_codes]
    ours = np.quantile(resamples.means(row[None])[1:], [0.025, 0.975])
    theirs = mean_interval(row, groups, n_resamples=4000, seed=1)
    np.testing.assert_allclose(ours, [theirs.low, theirs.high], atol=0.005)


def test_a_single_group_leaves_nothing_to_resample(ladder):
    tables = [
        replace(table, group=np.full(table.group.size, "everybody")) for table in ladder.tables
    ]
    alone = Ladder(ladder.test_set, ladder.cells, tables)
    means = Resamples.draw(alone, 5, seed=0).means(np.ones((len(ladder.cells), ladder.af.size)))
    assert (means[0] == 1).all()
    assert np.isnan(means[1:]).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_draws_are_a_function_of_the_seed(ladder, seed):
    one, other = (Resamples.draw(ladder, 5, seed) for _ in range(2))
    np.testing.assert_array_equal(one.groups, other.groups)
    np.testing.assert_array_equal(one.seeds, other.seeds)
    assert (one.groups != Resamples.draw(ladder, 5, seed + 1).groups).any()
    assert (one.seeds.sum(axis=1) == len(ladder.seeds)).all()
