"""Durations, and what is left of a study."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.study.plan import Cell
from xecg.study.times import duration, expected_seconds, seconds_left

SECONDS = st.floats(0, 1e5)


def cell(depth: int, seed: int) -> Cell:
    return Cell(f"frozen{depth}-seed{seed}", "finetune", seed, frozen_layers=depth)


def pretraining(branch: str) -> Cell:
    return Cell(f"pretrain-{branch}-seed0", "pretrain", 0, branch=branch)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (450, "7 min 30 s"), (7500, "2 h 5 min")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_cell_takes_as_long_as_those_like_it() -> None:
    finished = {cell(0, 0): 100.0, cell(0, 1): 300.0, cell(8, 0): 10.0, pretraining("a"): 5.0}
    assert expected_seconds(cell(0, 2), finished) == 200
    assert expected_seconds(cell(8, 1), finished) == 10
    assert expected_seconds(cell(3, 0), finished) == 100  # the median of all depths
    assert expected_seconds(pretraining("a"), finished) == 5
    assert expected_seconds(pretraining("b"), finished) == 5
    assert expected_seconds(pretraining("a"), {cell(0, 0): 1.0}) is None


def test_time_left_counts_what_runs_side_by_side() -> None:
    finished = {cell(0, 0): 100.0}
    cells = [cell(0, seed) for seed in range(1, 7)]
    assert seconds_left(cells[:4], {}, finished) == 400
    assert seconds_left(cells[:4], {cells[4]: 50.0, cells[5]: 500.0}, finished) == 225
    assert seconds_left([], {cells[4]: 50.0}, finished) == 50
    assert seconds_left(cells[:1], {}, {}) is None
    assert seconds_left([], {}, {}) == 0


@given(st.lists(SECONDS, max_size=5), st.integers(0, 9), SECONDS)
def test_the_rest_takes_no_longer_than_one_by_one(
    running: list[float], n_open: int, each: float
) -> None:
    finished = {cell(0, 99): each}
    open_cells = [cell(0, seed) for seed in range(n_open)]
    works = {cell(0, 20 + number): elapsed for number, elapsed in enumerate(running)}
    left = seconds_left(open_cells, works, finished)
    assert left is not None
    one_by_one = n_open * each + sum(max(each - elapsed, 0.0) for elapsed in running)
    assert left <= one_by_one * (1 + 1e-9)
    assert left * max(len(running), 1) >= one_by_one * (1 - 1e-9)
