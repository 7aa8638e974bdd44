import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from xecg.explain.faithfulness.similarity import correlations


def test_coefficients_are_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((6, 80)).round(1), rng.random((6, 80)).round(1)  # with ties
    b += a
    found = correlations(a, b)
    for row in range(6):
        assert found["spearman"][row] == pytest.approx(spearmanr(a[row], b[row]).statistic)
        assert found["pearson"][row] == pytest.approx(pearsonr(a[row], b[row]).statistic)


def test_a_map_resembles_itself_and_its_multiples() -> None:
    a = np.random.default_rng(1).random((3, 50))
    for values in correlations(a, 1e-6 * a).values():
        np.testing.assert_allclose(values, 1)


def test_a_map_without_relevance_resembles_nothing() -> None:
    a = np.random.default_rng(2).random((2, 50))
    empty = np.zeros_like(a)
    empty[1] = a[1]
    for values in correlations(a, empty).values():
        assert np.isnan(values).tolist() == [True, False]
