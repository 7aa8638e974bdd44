from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as dsp

from xecg.signal.preprocessing import limit_band, resample, resampled_length, resampling_ratio

RATES = st.sampled_from([100.0, 128.0, 200.0, 250.0, 257.5, 300.0, 333.3, 360.0, 500.0, 1000.0])


def sine(frequency, rate, duration_s, amplitude=1.0):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(int(duration_s * rate)) / rate)


@pytest.mark.parametrize("rate", [100.0, 257.5, 360.0, 500.0, 1000.0])
def test_band_keeps_the_inside_halves_the_edges_and_removes_the_outside(rate):
    inner = slice(int(8 * rate), int(-8 * rate))
    gains = {}
    for frequency in (0.05, 0.5, 2, 10, 40, 49):
        limited = limit_band(sine(frequency, rate, 40), rate, 0.5, 40.0)
        gains[frequency] = np.sqrt(2 * np.mean(limited[inner] ** 2))
    assert gains[0.05] < 0.002
    assert gains[0.5] == pytest.approx(0.5, abs=0.03)
    assert gains[2] == pytest.approx(1, abs=0.001)
    assert gains[10] == pytest.approx(1, abs=0.001)
    assert gains[40] == pytest.approx(0.5, abs=0.02)
    assert gains[49] < 0.3


@given(RATES, st.integers(2, 3000), st.integers(0, 2**32 - 1))
def test_band_limit_is_scipys_to_the_bit(rate, n_samples, seed):
    signal = np.random.default_rng(seed).standard_normal(n_samples)
    sections = dsp.butter(3, [0.5, 40.0], "bandpass", output="sos", fs=rate)
    padding = min(round(2 * rate), n_samples - 1)
    expected = dsp.sosfiltfilt(sections, signal, padtype="even", padlen=padding)
    np.testing.assert_array_equal(limit_band(signal, rate, 0.5, 40.0), expected)


def test_band_does_not_shift_in_time():
    impulse = np.zeros(2001)
    impulse[1000] = 1
    limited = limit_band(impulse, 250.0, 0.5, 40.0)
    np.testing.assert_allclose(limited, limited[::-1], atol=1e-6)
    assert limited.argmax() == 1000


def test_upper_edge_above_half_the_sampling_rate_is_only_a_high_pass():
    noise = np.random.default_rng(0).standard_normal(3000)
    np.testing.assert_array_equal(
        limit_band(noise, 100.0, 0.5, 60.0), limit_band(noise, 100.0, 0.5, None)
    )
    assert limit_band(noise, 100.0, None, 60.0) is noise


@given(st.floats(-1000, 1000), st.integers(1, 400))
def test_constant_vanishes_without_edge_effects(level, n_samples):
    limited = limit_band(np.full(n_samples, level), 250.0, 0.5, 40.0)
    np.testing.assert_allclose(limited, 0, atol=1e-6 * max(abs(level), 1))


def test_cut_within_a_qrs_complex_leaves_the_rest_alone():
    rate = 250.0
    time = np.arange(int(30 * rate)) / rate
    ecg = np.exp(-0.5 * ((time % 0.8 - 0.4) / 0.012) ** 2)
    start = int(10.4 * rate)  # on a peak
    whole = limit_band(ecg, rate, 0.5, 40.0)[start : start + 2500]
    cut = limit_band(ecg[start : start + 2500], rate, 0.5, 40.0)
    assert np.abs(whole - cut).max() < 0.08
    assert np.abs(whole - cut)[500:-500].max() < 0.002


@given(RATES, RATES, st.integers(1, 20_000))
def test_resampling_keeps_the_duration(rate_from, rate_to, n_samples):
    length = resampled_length(n_samples, resampling_ratio(rate_from, rate_to))
    assert 0 <= length / rate_to - n_samples / rate_from < 1 / rate_to + 1e-6


@settings(max_examples=30, deadline=None)
@given(RATES, RATES, st.floats(1, 35), st.floats(0.1, 5))
def test_resampling_keeps_frequency_phase_and_amplitude(rate_from, rate_to, frequency, amplitude):
    ratio = resampling_ratio(rate_from, rate_to)
    before = sine(frequency, rate_from, 6, amplitude)
    after = resample(before, ratio)
    assert len(after) == resampled_length(len(before), ratio)
    expected = amplitude * np.sin(2 * np.pi * frequency * np.arange(len(after)) / rate_to)
    inner = slice(int(rate_to), int(-rate_to))
    np.testing.assert_allclose(after[inner], expected[inner], atol=0.01 * amplitude)


def test_resampling_equals_scipy():
    noise = np.random.default_rng(0).standard_normal(3600)
    expected = dsp.resample_poly(noise, 25, 36, padtype="line")
    np.testing.assert_allclose(resample(noise, resampling_ratio(360, 250)), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("rate_from", "up", "down"),
    [(300, 5, 6), (360.0, 25, 36), (257.5, 100, 103), (128, 125, 64), (250.0, 1, 1)],
)
def test_ratio_is_exact(rate_from, up, down):
    ratio = resampling_ratio(rate_from, 250.0)
    assert (ratio.numerator, ratio.denominator) == (up, down)


@given(st.integers(10_000, 50_000))
def test_ratio_is_exact_for_two_decimals(hundredths):
    assert resampling_ratio(hundredths / 100, 250.0) == Fraction(25_000, hundredths)


@given(st.floats(100, 1000), RATES)
def test_ratio_is_close_for_any_rate(rate_from, rate_to):
    ratio = resampling_ratio(rate_from, rate_to)
    assert float(ratio) * rate_from / rate_to == pytest.approx(1, abs=4e-5)
