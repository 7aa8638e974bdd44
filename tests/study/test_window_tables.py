"""Which windows of which test sets are explained."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.errors import ConfigError
from xecg.study import window_tables


@given(st.integers(0, 500), st.none() | st.integers(1, 600))
def test_the_same_windows_are_explained_in_every_cell(n: int, most: int | None) -> None:
    rows = window_tables.rows_to_explain(n, most)
    assert rows.size == (n if most is None else min(n, most))
    assert (np.diff(rows) > 0).all()
    assert not rows.size or 0 <= rows[0] <= rows[-1] < n
    assert np.array_equal(rows, window_tables.rows_to_explain(n, most))


def test_test_sets_are_chosen_by_name() -> None:
    test_sets = [SimpleNamespace(name=name) for name in ("mitdb", "ours")]
    chosen = window_tables._chosen(test_sets, ("ours",))  # type: ignore[arg-type]
    assert chosen == test_sets[1:]
    assert window_tables._chosen(test_sets, None) == test_sets  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no test set ludb; there are mitdb, ours"):
        window_tables._chosen(test_sets, ("ludb", "ours"))  # type: ignore[arg-type]
