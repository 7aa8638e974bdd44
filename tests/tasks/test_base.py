"""Rows of a test, each window once."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from xecg.tasks.base import Collected


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 7))
def test_rows_come_back_once_and_in_order(windows: list[int], batch: int) -> None:
    collected = Collected()
    for start in range(0, len(windows), batch):
        part = torch.tensor(windows[start : start + batch])
        collected.update(part, {"twice": 2 * part, "pair": torch.stack([part, -part], dim=1)})
    positions, columns = collected.compute()
    assert positions.tolist() == sorted(set(windows))
    assert np.array_equal(columns["twice"], 2 * positions)
    assert np.array_equal(columns["pair"], np.stack([positions, -positions], axis=1))


def test_bfloat16_comes_back_as_numbers() -> None:
    collected = Collected()
    collected.update(torch.arange(2), {"p": torch.tensor([0.5, 0.25], dtype=torch.bfloat16)})
    assert collected.compute()[1]["p"].tolist() == [0.5, 0.25]
