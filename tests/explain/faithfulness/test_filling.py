import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from xecg.explain.faithfulness.filling import FILLINGS, interpolate, zero

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@st.composite
def signals_with_gaps(draw: st.DrawFn) -> tuple[Floats, Mask]:
    """Four signals of 23 samples, of which any share is to be replaced."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0, 0.1, 0.5, 0.9, 0.97, 1]))
    return rng.random((4, 23), np.float32), rng.random((4, 23)) < share


@given(signals_with_gaps())
def test_interpolation_is_numpys_row_by_row(case: tuple[Floats, Mask]) -> None:
    signals, replaced = case
    filled = interpolate(signals, replaced)
    samples = np.arange(23)
    for row, gone, signal in zip(filled, replaced, signals, strict=True):
        if gone.all():
            expected = np.full(23, signal.mean())
        else:
            expected = np.interp(samples, samples[~gone], signal[~gone])
        np.testing.assert_allclose(row, expected, atol=1e-6)


@given(signals_with_gaps())
def test_zero_stands_where_samples_went(case: tuple[Floats, Mask]) -> None:
    signals, replaced = case
    filled = zero(signals, replaced)
    assert not filled[replaced].any()


@pytest.mark.parametrize("name", FILLINGS)
@given(signals_with_gaps())
def test_kept_samples_stay_to_the_bit(name: str, case: tuple[Floats, Mask]) -> None:
    signals, replaced = case
    filled = FILLINGS[name](signals, replaced)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled[~replaced], signals[~replaced])


def test_any_leading_axes_are_filled_alike() -> None:
    rng = np.random.default_rng(0)
    signals = np.broadcast_to(rng.random((2, 1, 30), np.float32), (2, 5, 30))
    replaced = rng.random((2, 5, 30)) < 0.5
    for filling in FILLINGS.values():
        flat = filling(signals.reshape(10, 30), replaced.reshape(10, 30))
        np.testing.assert_array_equal(filling(signals, replaced).reshape(10, 30), flat)
