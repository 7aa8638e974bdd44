"""Ranges: what lies within is taken, everything else is refused by its name."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.errors import ConfigError, check_ranges

numbers = st.floats(-1e9, 1e9)


@given(value=numbers | st.sampled_from((nan, inf, -inf)), low=numbers, span=st.floats(0, 1e9))
def test_a_value_is_taken_if_it_is_within(value: float, low: float, span: float) -> None:
    high = low + span
    of_limits = {(low,): low <= value < inf, (low, high): low <= value <= high}
    for limits, within in of_limits.items():
        if within:
            check_ranges("a.", key=(value, *limits), other=(low, *limits))
        else:
            with pytest.raises(ConfigError, match=r"^a\.key: expected"):
                check_ranges("a.", other=(low, *limits), key=(value, *limits))
