import numpy as np
import pytest

from xecg.study.report.cells import SCRATCH
from xecg.study.report.measures import Measure, depth_means, means_over_seeds


def measure(ladder, values):
    n = np.full(len(ladder.cells), ladder.af.size)
    return Measure("accuracy", "fused", "", "", values, n, n)


def test_means_are_over_the_seeds_of_a_depth(ladder):
    values = ladder.cell_depths + 100.0 * ladder.cell_seeds
    means = means_over_seeds(values[None], ladder, ladder.depths)
    np.testing.assert_allclose(means[0], np.array(ladder.depths) + 100.0)


def test_a_seed_counts_as_often_as_it_was_drawn(ladder):
    values = 1.0 * ladder.cell_seeds
    weights = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 3.0], [2.0, 1.0, 0.0]])
    means = means_over_seeds(np.tile(values, (3, 1)), ladder, [0, 8], weights)
    np.testing.assert_allclose(means, [[1, 1], [2, 2], [1 / 3, 1 / 3]])


def test_a_network_without_a_number_is_left_out(ladder):
    values = 1.0 * ladder.cell_seeds
    values[ladder.cell_seeds == 2] = np.nan
    values[ladder.cell_depths == 8] = np.nan
    means = means_over_seeds(values[None], ladder, [0, 8])[0]
    np.testing.assert_allclose(means, [0.5, np.nan])


def test_depth_means_come_from_scratch_first_with_seeds_and_interval(ladder):
    generator = np.random.default_rng(0)
    values = ladder.cell_seeds + generator.normal(0, 0.1, (2001, len(ladder.cells)))
    values[0] = ladder.cell_seeds
    means = depth_means(measure(ladder, values), ladder)
    assert [mean.depth for mean in means] == [SCRATCH, *range(9)]
    for mean in means:
        assert mean.value == pytest.approx(1)
        assert mean.by_seed == {0: 0.0, 1: 1.0, 2: 2.0}
        assert mean.seed_sd == pytest.approx(1)
        # The standard error of a mean of three, and 1.96 of them to either side.
        assert mean.high - mean.low == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(3), rel=0.1)
        assert mean.low < mean.value < mean.high
