from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xecg.metrics.p_waves import match

spans = st.lists(st.integers(0, 60), max_size=10, unique=True).map(
    lambda edges: np.array(sorted(edges)[: len(edges) // 2 * 2], dtype=np.int64).reshape(-1, 2)
)


def match_one_window(one, other, tolerance):
    return match(np.zeros(len(one), int), one, np.zeros(len(other), int), other, tolerance)


def best_by_trying_all(one, other, tolerance):
    """Largest number of pairs and, among those, the smallest error."""
    if len(one) > len(other):
        one, other = other, one
    best = (0, 0)
    for chosen in permutations(range(len(other)), len(one)):
        distance = np.abs(one - other[list(chosen)])
        near = (distance <= tolerance).all(axis=1)
        best = min(best, (-int(near.sum()), int(distance[near].sum())))
    return -best[0], best[1]


@settings(deadline=None, max_examples=150)
@given(spans, spans, st.integers(0, 40))
def test_most_pairs_and_of_those_the_nearest(one, other, tolerance):
    rows, columns = match_one_window(one, other, tolerance)
    distance = np.abs(one[rows] - other[columns])
    assert (distance <= tolerance).all()
    assert len(set(rows)) == len(set(columns)) == len(rows)
    assert (len(rows), distance.sum()) == best_by_trying_all(one, other, tolerance)


@given(spans, spans, st.integers(0, 40))
def test_symmetric_in_number_and_error(one, other, tolerance):
    rows, columns = match_one_window(one, other, tolerance)
    back, forth = match_one_window(other, one, tolerance)
    assert len(rows) == len(back)
    there = np.abs(one[rows] - other[columns]).sum()
    assert there == np.abs(other[back] - one[forth]).sum()


@given(spans, spans, st.integers(0, 40), st.integers(0, 40))
def test_a_wider_tolerance_never_loses_a_pair(one, other, tolerance, wider):
    narrow = match_one_window(one, other, tolerance)[0]
    assert len(match_one_window(one, other, tolerance + wider)[0]) >= len(narrow)


@given(st.lists(st.tuples(spans, spans), max_size=5), st.integers(0, 40))
def test_windows_are_matched_apart(windows, tolerance):
    numbers = range(len(windows))
    sides = [
        (
            np.repeat(numbers, [len(window[side]) for window in windows]).astype(int),
            np.concatenate([window[side] for window in windows] or [np.zeros((0, 2), int)]),
        )
        for side in (0, 1)
    ]
    rows, columns = match(*sides[0], *sides[1], tolerance)
    assert (sides[0][0][rows] == sides[1][0][columns]).all()
    alone = sum(len(match_one_window(one, other, tolerance)[0]) for one, other in windows)
    assert len(rows) == alone


@pytest.mark.parametrize(("tolerance", "pairs"), [(9, 0), (10, 1), (10.9, 1)])
def test_the_tolerance_itself_is_within(tolerance, pairs):
    one, other = np.array([[100]]), np.array([[110]])
    assert len(match_one_window(one, other, tolerance)[0]) == pairs
