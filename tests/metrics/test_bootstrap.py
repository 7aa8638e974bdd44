import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from xecg.errors import ConfigError, DataError
from xecg.metrics import bootstrap
from xecg.metrics.bootstrap import (
    Interval,
    group_weights,
    intervals,
    means,
    rank_correlation,
    row_correlation,
)


def mean_interval(values, groups, **options):
    values = np.asarray(values)
    found = intervals(lambda w: {"mean": w @ values / w.sum(axis=1)}, groups, **options)
    return found["mean"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_rows_of_a_group_share_their_weight_and_as_many_groups_are_drawn_as_exist(groups, seed):
    weights = group_weights(groups, 7, seed)
    assert weights.shape == (7, len(groups))
    names, first = np.unique(groups, return_index=True)
    for name in names:
        of_group = weights[:, np.equal(groups, name)]
        assert (of_group == of_group[:, :1]).all()
    assert (weights[:, first].sum(axis=1) == names.size).all()


def test_weights_are_seeded():
    groups = np.repeat(np.arange(20), 3)
    assert np.array_equal(group_weights(groups, 50, 1), group_weights(groups, 50, 1))
    assert not np.array_equal(group_weights(groups, 50, 1), group_weights(groups, 50, 2))


def test_interval_does_not_depend_on_the_chunks(monkeypatch):
    generator = np.random.default_rng(0)
    values, groups = generator.normal(size=99), generator.integers(0, 17, 99)

    def weighted_mean(weights):
        return weights @ values / weights.sum(axis=1)

    whole = mean_interval(values, groups, n_resamples=101)
    by_hand = group_weights(groups, 101, 0)
    monkeypatch.setattr(bootstrap, "_CHUNK", 5 * 99)
    chunked = mean_interval(values, groups, n_resamples=101)
    assert whole == chunked
    expected = np.quantile(weighted_mean(by_hand), [0.025, 0.975])
    assert np.allclose([whole.low, whole.high], expected)


def test_mean_interval_covers_the_standard_error_of_the_mean():
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    found = mean_interval(values, np.arange(400), n_resamples=4000)
    half_width = 1.96 * values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half_width, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half_width, abs=0.02)


def test_repeating_rows_of_a_person_does_not_narrow_the_interval():
    values = np.random.default_rng(4).normal(size=30)
    once = mean_interval(values, np.arange(30))
    often = mean_interval(np.repeat(values, 50), np.repeat(np.arange(30), 50))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert (once.n, often.n, often.n_groups) == (30, 1500, 30)


def test_undefined_resamples_are_left_out():
    target = np.array([1.0, 0.0, 0.0])
    found = intervals(
        lambda weights: {"share": bootstrap.divide(weights @ target, weights @ target)},
        np.arange(3),
    )["share"]
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_one_group_has_a_value_but_no_interval():
    found = mean_interval([1.0, 2.0], ["a", "a"])
    assert found.value == 1.5
    assert np.isnan([found.low, found.high]).all()


def test_prints_value_and_bounds():
    assert str(Interval(0.51234, 0.4, 0.6, 10, 3)) == "0.512 [0.400, 0.600]"


def test_nothing_to_resample_is_refused():
    with pytest.raises(DataError, match="at least one row"):
        mean_interval([], [])


def test_no_resample_is_refused():
    with pytest.raises(ConfigError, match="n_resamples"):
        mean_interval([1.0, 2.0], ["a", "b"], n_resamples=0)


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=30))
def test_weighted_rank_correlation_is_that_of_rows_drawn_as_often(rows):
    x, y, weights = np.array(rows, float).reshape(-1, 3).T
    (found,) = rank_correlation(x, y, weights[None])
    x, y = (np.repeat(values, weights.astype(int)) for values in (x, y))
    if len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        assert np.isnan(found) or abs(found) <= 1
    else:
        assert found == pytest.approx(spearmanr(x, y).statistic)


def test_means_and_intervals_are_over_groups_and_leave_out_what_is_undefined():
    groups = np.array([f"p{number // 2}" for number in range(12)])
    values = pd.DataFrame(np.random.default_rng(1).random((12, 3)), columns=["a", "b", "none"])
    values.loc[:1, "b"], values["none"] = np.nan, np.nan
    found = means(values, groups, seed=3)
    (alone,) = intervals(
        lambda weights: {"a": weights @ values["a"] / weights.sum(1)}, groups, seed=3
    ).values()
    ends = [alone.value, alone.low, alone.high]
    assert found.loc["a", ["value", "low", "high"]].tolist() == pytest.approx(ends)
    assert found["value"]["b"] == pytest.approx(values["b"].mean())
    assert found["n"].tolist() == [12, 10, 0]
    assert found["n_groups"].tolist() == [6, 5, 0]
    assert found.loc["none", ["value", "low", "high"]].isna().all()


def test_rho_of_rows_is_scipys_and_a_constant_row_has_none():
    rng = np.random.default_rng(0)
    a, b = rng.random((6, 80)).round(1), rng.random((6, 80)).round(1)  # with ties
    b += a
    b[5] = 0
    found = row_correlation(a, b)
    for row in range(5):
        assert found[row] == pytest.approx(spearmanr(a[row], b[row]).statistic)
    assert np.isnan(found[5])
    np.testing.assert_allclose(row_correlation(a, 1e-6 * a), 1)
