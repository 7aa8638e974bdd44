"""Whatever the signal, the peaks are those that sleepecg finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sleepecg import detect_heartbeats as detect_heartbeats_of_sleepecg

from xecg.signal import heartbeats as pan_tompkins
from xecg.signal.heartbeats import detect_heartbeats

RATES = st.sampled_from([100.0, 250.0, 257.5, 300.0, 360.0, 1000.0])


def ecg(rate, duration_s, seed):
    """Beats at random intervals in noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(duration_s * rate)) / rate
    beats = np.cumsum(rng.uniform(0.3, 1.4, int(4 * duration_s)))[:, None]
    return np.exp(-0.5 * ((time - beats) / 0.02) ** 2).sum(axis=0) + rng.normal(0, 0.1, len(time))


@given(RATES, st.floats(2, 30), st.integers(0, 2**32 - 1), st.integers(0, 400))
def test_peaks_are_sleepecgs(rate, duration_s, seed, n_flat):
    signal = np.concatenate([np.full(n_flat, 0.25), ecg(rate, duration_s, seed)])
    found = detect_heartbeats(signal, rate)
    np.testing.assert_array_equal(found, detect_heartbeats_of_sleepecg(signal, rate))
    assert found.dtype == np.int64


@pytest.mark.parametrize("n_samples", [37, 60])
def test_what_is_left_behind_a_flat_start_may_be_short(n_samples):
    signal = np.concatenate([np.zeros(600), np.random.default_rng(0).normal(size=n_samples)])
    expected = detect_heartbeats_of_sleepecg(signal, 250.0)
    np.testing.assert_array_equal(detect_heartbeats(signal, 250.0), expected)


@pytest.mark.parametrize("n_samples", [1, 15, 36])
def test_too_little_to_tell_has_no_peaks(n_samples):
    signal = np.concatenate([np.zeros(600), np.random.default_rng(0).normal(size=n_samples)])
    with pytest.raises(ValueError, match="length"):
        detect_heartbeats_of_sleepecg(signal, 250.0)
    assert len(detect_heartbeats(signal, 250.0)) == 0


def test_without_the_compiled_parts_sleepecg_does_it_all(monkeypatch):
    signal = ecg(250.0, 20, seed=3)
    expected = detect_heartbeats(signal, 250.0)
    monkeypatch.setattr(pan_tompkins, "_thresholding", None)
    np.testing.assert_array_equal(detect_heartbeats(signal, 250.0), expected)
    assert len(expected) > 10
