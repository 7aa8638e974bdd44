import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xecg.metrics.classification import classification_report
from xecg.study.report.concordance import auroc


@st.composite
def scored(draw):
    n = draw(st.integers(2, 30))
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    score = generator.integers(0, 5, n) / 4  # ties
    positive = generator.integers(0, 2, n)
    codes = np.unique(generator.integers(0, 6, n), return_inverse=True)[1].reshape(-1)
    return score, positive, codes


@given(scored())
def test_once_each_it_is_the_area_of_the_metrics(case):
    score, positive, codes = case
    ours = auroc(score, positive, codes, np.ones((1, codes.max() + 1)))[0]
    theirs = classification_report(score, positive, codes, n_resamples=1)["auroc"].value
    np.testing.assert_allclose(ours, theirs)


@given(scored(), st.integers(0, 100))
def test_a_group_that_counts_twice_is_there_twice(case, seed):
    score, positive, codes = case
    weights = np.random.default_rng(seed).integers(0, 3, codes.max() + 1)
    times = weights[codes]
    weighted = auroc(score, positive, codes, weights[None].astype(float))[0]
    repeated = [np.repeat(column, times) for column in (score, positive)]
    ones = np.arange(times.sum())
    again = auroc(*repeated, ones, np.ones((1, ones.size)))[0] if ones.size else np.nan
    np.testing.assert_allclose(weighted, again)
