import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xecg.signal.preprocessing import bridge_missing

SIGNALS = arrays(np.float32, st.integers(1, 60), elements=st.floats(-5, 5, width=32))


@given(SIGNALS, st.data())
def test_only_missing_samples_change_and_stay_between_the_others(signal, data):
    missing = data.draw(arrays(bool, len(signal)))
    gappy = np.where(missing, np.nan, signal)
    bridged, mask = bridge_missing(gappy)
    np.testing.assert_array_equal(mask, missing)
    np.testing.assert_array_equal(bridged[~missing], signal[~missing])
    if not missing.all():
        present = signal[~missing]
        assert present.min() <= bridged.min()
        assert bridged.max() <= present.max()


def test_bridge_is_a_straight_line_and_ends_are_held():
    bridged, _ = bridge_missing(np.array([np.nan, 1.0, np.nan, np.nan, 4.0, np.nan]))
    np.testing.assert_allclose(bridged, [1, 1, 2, 3, 4, 4])


def test_nothing_but_missing_samples_become_zeros():
    bridged, mask = bridge_missing(np.full(4, np.nan))
    np.testing.assert_array_equal(bridged, 0)
    assert mask.all()


def test_the_given_signal_is_left_as_it_is():
    signal = np.array([1.0, np.nan, 2.0])
    bridge_missing(signal)
    assert np.isnan(signal[1])
