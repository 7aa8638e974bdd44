import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from xecg.errors import ConfigError
from xecg.explain.faithfulness.segments import relevance_ranks, samples_of, segment_means

MAPS = arrays(np.int64, (2, 9), elements=st.integers(0, 4)).map(np.float64)


def test_twenty_milliseconds_are_five_samples_at_250_hz() -> None:
    assert samples_of(20, 250) == 5
    assert samples_of(1, 250) == 1


@pytest.mark.parametrize("length_ms", [0, -20, float("nan")])
def test_segments_without_length_are_refused(length_ms: float) -> None:
    with pytest.raises(ConfigError, match="longer than 0 ms"):
        samples_of(length_ms, 250)


def test_a_shorter_last_segment_has_the_mean_of_what_it_holds() -> None:
    means = segment_means(np.array([[1.0, 3.0, 5.0, 7.0, 4.0]]), 2)
    np.testing.assert_allclose(means, [[2, 6, 4]])


@given(MAPS)
def test_more_relevance_never_ranks_behind_less(maps: NDArray[np.float64]) -> None:
    ranks = relevance_ranks(maps, 0)
    np.testing.assert_array_equal(np.sort(ranks, axis=1), np.tile(np.arange(9), (2, 1)))
    ordered = np.take_along_axis(maps, np.argsort(ranks, axis=1), axis=1)
    assert (np.diff(ordered, axis=1) <= 0).all()


def test_ties_stand_in_random_order_that_comes_from_the_seed() -> None:
    empty = np.zeros((200, 50))
    ranks = relevance_ranks(empty, 1)
    np.testing.assert_array_equal(ranks, relevance_ranks(empty, 1))
    assert not np.array_equal(ranks, relevance_ranks(empty, 2))
    assert np.abs(ranks.mean(axis=0) - 24.5).max() < 5  # five standard errors of a uniform rank
