import dataclasses

import numpy as np
import pytest
from fake_database import index_columns as columns

from xecg.data.store import DTYPES, concatenate, index_of
from xecg.errors import StoreError


def test_columns_are_the_fields_in_order():
    index = index_of(columns(3))
    assert list(index.columns()) == [field.name for field in dataclasses.fields(index)]
    assert len(index) == 3


def test_take_chooses_rows_in_the_order_given():
    index = index_of(columns(4, start_s=np.arange(4.0)))
    assert index.take([3, 1]).start_s.tolist() == [3.0, 1.0]
    assert len(index.take([])) == 0


def test_concatenate_widens_texts_and_keeps_types():
    first = index_of(columns(1, record=np.array(["a"])))
    second = index_of(columns(2, record=np.array(["bbbbb", "cc"])))
    both = concatenate([first, second])
    assert both.record.tolist() == ["a", "bbbbb", "cc"]
    for name, kind in DTYPES.items():
        column = getattr(both, name)
        assert column.dtype.kind == "U" if kind == "U" else column.dtype == np.dtype(kind)
    assert len(concatenate([])) == 0


def test_shifted_waves_leaves_missing_ones_missing():
    index = index_of(columns(3, wave_row=np.array([0, -1, 1], np.int32)))
    assert index.shifted_waves(10).wave_row.tolist() == [10, -1, 11]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"af": np.zeros(2, np.int8)}, "'af': expected 3 windows"),
        ({"af": np.zeros(3, np.float32)}, "'af': expected one dimension of type i1"),
        ({"lead": np.zeros(3, np.int8)}, "'lead': expected one dimension of type U"),
        ({"af": np.zeros((3, 1), np.int8)}, "'af'"),
    ],
)
def test_refuses_columns_that_do_not_fit(changed, message):
    with pytest.raises(StoreError, match=message):
        index_of(columns(3, **changed))


def test_names_missing_columns():
    made = columns(3)
    del made["af"], made["lead"]
    with pytest.raises(StoreError, match="lead, af are missing"):
        index_of(made)
