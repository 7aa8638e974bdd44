import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import rankdata, spearmanr

from xecg.study.report.rank_correlation import average_ranks, spearman

LEVELS = st.integers(-3, 3).map(float)  # few, so that there are ties


def rows(k):
    return arrays.arrays(np.float64, k, elements=LEVELS)


@given(arrays.arrays(np.float64, (4, 7), elements=LEVELS))
def test_ranks_are_those_of_scipy(values):
    np.testing.assert_allclose(average_ranks(values), rankdata(values, axis=1))


@given(rows(9), rows(9))
def test_rho_is_that_of_scipy(x, y):
    ours = spearman(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


@given(rows(9), rows(9))
def test_rho_does_not_change_under_monotone_maps_and_turns_with_falling_ones(x, y):
    rho = spearman(x, y)
    np.testing.assert_allclose(spearman(np.exp(x), 3 * y + 1), rho)
    np.testing.assert_allclose(spearman(x, -(y**3)), -rho)
    assert np.isnan(rho) or -1 - 1e-12 <= rho <= 1 + 1e-12


@given(st.sets(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_rising_rows_have_rho_1(values):
    rising = np.array(sorted(values))
    assert spearman(np.arange(rising.size), rising) == pytest.approx(1)
    assert spearman(np.arange(rising.size), rising[::-1]) == pytest.approx(-1)


def test_one_row_is_compared_with_many():
    many = np.random.default_rng(0).random((5, 9))
    together = spearman(np.arange(9), many)
    np.testing.assert_allclose(together, [spearman(np.arange(9), row) for row in many])


def test_a_missing_value_leaves_its_row_undefined_alone():
    many = np.array([[1.0, np.nan, 3.0], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(spearman(np.arange(3), many), [np.nan, 1.0])
