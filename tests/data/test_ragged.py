import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.store import Ragged
from xecg.errors import StoreError

ROWS = st.lists(st.lists(st.integers(0, 2500), max_size=6), max_size=8)


def of(rows):
    return Ragged.of([np.array(row, dtype=np.int32) for row in rows])


@given(ROWS)
def test_gives_back_its_rows(rows):
    ragged = of(rows)
    assert [ragged[i].tolist() for i in range(len(ragged))] == rows
    assert ragged.values.dtype == np.int32
    assert ragged.offsets.dtype == np.int64


@given(ROWS, ROWS)
def test_concatenates(first, second):
    both = Ragged.concatenate([of(first), of(second)])
    assert [both[i].tolist() for i in range(len(both))] == first + second


def test_counts_from_the_end_and_knows_its_end():
    ragged = of([[1], [2, 3]])
    assert ragged[-1].tolist() == [2, 3]
    with pytest.raises(IndexError):
        ragged[2]


@pytest.mark.parametrize("offsets", [[], [0, 1], [1, 2], [0, 2, 1, 2]])
def test_refuses_offsets_that_do_not_fit(offsets):
    with pytest.raises(StoreError, match="rise from 0 to 2"):
        Ragged(np.array([5, 6], np.int32), np.array(offsets, np.int64))
