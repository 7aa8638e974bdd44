import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xecg.errors import ConfigError
from xecg.explain.relevance import (
    conservation,
    domain_specificity,
    gini,
    pointing_at_r_peaks,
    wave_sums,
)
from xecg.signal.waves import NOT_ANNOTATED, OTHER, QRS, P, T

ROWS = arrays(np.float64, (3, 20), elements=st.floats(0.01, 100))


@given(ROWS)
def test_gini_is_the_mean_absolute_difference_over_twice_the_mean(rows):
    differences = np.abs(rows[:, :, None] - rows[:, None, :]).mean(axis=(1, 2))
    assert gini(rows) == pytest.approx(differences / (2 * rows.mean(axis=1)), abs=1e-9)


def test_gini_of_even_relevance_is_0_and_of_one_sample_almost_1():
    rows = np.zeros((3, 100), dtype=np.float32)
    rows[0] = 2.0
    rows[1, 17] = 5.0
    assert gini(rows) == pytest.approx([0.0, 0.99, np.nan], nan_ok=True)


def test_wave_sums_add_up_codes_in_the_order_of_the_waves():
    codes = np.array([OTHER, P, P, QRS, T, T, T, NOT_ANNOTATED], dtype=np.uint8)
    sums, samples = wave_sums(np.arange(8.0)[None], [codes])
    assert sums.tolist() == [[1 + 2, 3, 4 + 5 + 6, 0]]
    assert samples.tolist() == [[2, 1, 3, 1]]


@pytest.mark.parametrize(("offset", "points"), [(0, 1), (12, 1), (-12, 1), (13, 0), (-13, 0)])
def test_pointing_tolerates_50_ms(offset, points):
    relevance = np.zeros((1, 1000))
    relevance[0, 500 + offset] = 1
    pointing, chance = pointing_at_r_peaks(relevance, [np.array([500])], 250.0)
    assert pointing == [points]
    assert chance == pytest.approx(25 / 1000)


def test_an_r_peak_at_the_edge_reaches_into_the_window_only():
    relevance = np.zeros((1, 1000))
    relevance[0, 999] = 1
    pointing, chance = pointing_at_r_peaks(relevance, [np.array([0])], 250.0)
    assert pointing == [0]
    assert chance == pytest.approx(13 / 1000)


def test_without_r_peaks_nothing_is_pointed_at():
    pointing, chance = pointing_at_r_peaks(np.ones((1, 10)), [np.array([], dtype=int)], 250.0)
    assert (pointing, chance) == ([0], [0])


def test_conservation_is_defined_for_positive_logits_only():
    maps = np.full((4, 10), 0.1, dtype=np.float32)
    shares = conservation(maps, np.array([1.0, 2.0, 0.0, -1.0]))
    assert shares == pytest.approx([1.0, 0.5, np.nan, np.nan], nan_ok=True)


def test_domain_specificity_is_positive_where_a_branch_prefers_its_own_wave():
    assert domain_specificity(2.0, 1.0, "morphology") == pytest.approx(1)
    assert domain_specificity(1.0, 4.0, "rhythm") == pytest.approx(2)
    assert domain_specificity(1.0, 1.0, "rhythm") == pytest.approx(0)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_branches_judge_the_same_enrichments_oppositely(p, qrs):
    morphology = domain_specificity(p, qrs, "morphology")
    assert morphology == pytest.approx(-domain_specificity(p, qrs, "rhythm"), abs=1e-9)


@pytest.mark.parametrize(("p", "qrs"), [(0.0, 1.0), (1.0, 0.0), (np.nan, 1.0)])
@pytest.mark.parametrize("branch", ["morphology", "rhythm"])
def test_domain_specificity_is_nan_where_an_enrichment_is_not_positive(p, qrs, branch):
    assert np.isnan(domain_specificity(p, qrs, branch))


def test_a_branch_without_a_wave_of_its_own_is_refused():
    with pytest.raises(ConfigError, match="found 'texture'"):
        domain_specificity(1.0, 1.0, "texture")
