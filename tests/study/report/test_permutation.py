from itertools import permutations, product

import numpy as np
import pytest
from scipy.stats import spearmanr

from xecg.study.report.permutation import permutation_test


def brute_force(values, x):
    """Two-sided p over all assignments, by scipy."""
    observed = abs(spearmanr(x, values.mean(axis=0)).statistic)
    found = [
        abs(spearmanr(x, np.mean(rows, axis=0)).statistic)
        for rows in product(*(permutations(row) for row in values))
    ]
    return np.mean(np.array(found) >= observed - 1e-12)


def test_with_few_depths_all_permutations_are_looked_at():
    values = np.random.default_rng(1).random((2, 4))
    test = permutation_test(values, np.arange(4.0), n_permutations=10, seed=0)
    assert test.exact
    assert test.n == 24**2
    assert test.p == pytest.approx(brute_force(values, np.arange(4)))


@pytest.mark.parametrize("depths", [3, 4, 5])
def test_a_monotone_seed_is_as_extreme_as_it_can_be(depths):
    rising = np.arange(depths, dtype=float)
    test = permutation_test(rising[None], rising, n_permutations=10, seed=0)
    assert test.p == pytest.approx(2 / test.n)  # itself and its reverse
    falling = permutation_test(-rising[None], rising, n_permutations=10, seed=0)
    assert falling.p == test.p


def test_a_sample_of_permutations_counts_the_observed_one():
    rising = np.tile(np.arange(9.0), (3, 1))
    test = permutation_test(rising, np.arange(9.0), n_permutations=499, seed=0)
    assert not test.exact
    assert test.p == pytest.approx(1 / 500)


def test_a_sample_comes_near_to_all_permutations(monkeypatch):
    values = np.random.default_rng(5).random((2, 4))
    exact = permutation_test(values, np.arange(4.0), n_permutations=1, seed=0)
    monkeypatch.setattr("xecg.study.report.permutation._MOST_EXACT", 0)
    drawn = permutation_test(values, np.arange(4.0), n_permutations=20_000, seed=0)
    assert not drawn.exact
    assert drawn.p == pytest.approx(exact.p, abs=0.02)


def test_where_depth_does_not_matter_p_is_uniform():
    generator = np.random.default_rng(3)
    p = [
        permutation_test(generator.random((2, 9)), np.arange(9.0), 199, seed).p
        for seed in range(400)
    ]
    for level in (0.05, 0.25, 0.5, 0.75):
        # Standard error of a share of 400: at most 0.025.
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=0.075)


def test_seeds_shift_does_not_hide_a_trend():
    generator = np.random.default_rng(0)
    trend = np.arange(9.0) + generator.normal(0, 0.1, (3, 9))
    far_apart = trend + np.array([[0.0], [100.0], [-50.0]])
    assert permutation_test(far_apart, np.arange(9.0), 999, seed=0).p <= 0.002


def test_missing_networks_stay_missing():
    values = np.array([[0.0, 1.0, 2.0], [np.nan, 5.0, 3.0]])
    test = permutation_test(values, np.arange(3.0), n_permutations=10, seed=0)
    assert test.n == 6 * 2


def test_without_a_statistic_there_is_no_p():
    test = permutation_test(np.ones((2, 5)), np.arange(5.0), n_permutations=10, seed=0)
    assert np.isnan(test.p)
    assert test.n == 0
