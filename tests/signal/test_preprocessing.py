"""Filters, resampling, windows and their scaling: laws, and SciPy as the oracle."""

import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import signal as dsp

from xecg.errors import ConfigError, RecordError
from xecg.signal.preprocessing import (
    FLAT_LINE,
    Preprocessing,
    bridge_missing,
    cut_windows,
    limit_band,
    resampling_ratio,
)
from xecg.signal.wfdb import find_records, read_recording

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
    unfiltered = Preprocessing(low_hz=None, high_hz=None, sampling_rate=rate_to)
    length = len(unfiltered.filter_and_resample(np.zeros(n_samples), rate_from))
    assert 0 <= length / rate_to - n_samples / rate_from < 1 / rate_to + 1e-6


@settings(max_examples=30, deadline=None)
@given(RATES, RATES, st.floats(1, 35), st.floats(0.1, 5))
def test_resampling_keeps_frequency_phase_and_amplitude(rate_from, rate_to, frequency, amplitude):
    preprocessing = Preprocessing(low_hz=None, high_hz=None, sampling_rate=rate_to)
    before = sine(frequency, rate_from, 6, amplitude)
    after = preprocessing.filter_and_resample(before, rate_from)
    expected = amplitude * np.sin(2 * np.pi * frequency * np.arange(len(after)) / rate_to)
    inner = slice(int(rate_to), int(-rate_to))
    np.testing.assert_allclose(after[inner], expected[inner], atol=0.01 * amplitude)


def test_resampling_equals_scipy():
    noise = np.random.default_rng(0).standard_normal(3600)
    expected = dsp.resample_poly(noise, 25, 36, padtype="line")
    resampled = Preprocessing(low_hz=None, high_hz=None).filter_and_resample(noise, 360.0)
    np.testing.assert_array_equal(resampled, expected.astype(np.float32))


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


def noise(duration_s, rate, seed=0):
    return np.random.default_rng(seed).standard_normal(int(duration_s * rate)).astype(np.float32)


@given(st.integers(100, 500), st.integers(1, 80), st.booleans())
def test_windows_lie_within_the_record_and_none_is_missed(n_samples, stride, align_last):
    how = Preprocessing(low_hz=None, high_hz=None, sampling_rate=100.0, window_s=1)
    lead = noise(n_samples / 100, 100.0)[:n_samples]
    cut = cut_windows(lead, 100.0, how, stride_s=stride / 100, align_last=align_last)
    assert (np.diff(cut.starts) > 0).all()
    assert cut.starts[0] == 0
    rest = len(lead) - (cut.starts[-1] + 100)
    assert 0 <= rest < (1 if align_last else stride)
    regular = cut.starts[:-1] if align_last else cut.starts
    np.testing.assert_array_equal(regular, stride * np.arange(len(regular)))


@pytest.mark.parametrize("rate", [100.0, 257.5, 300.0, 1000.0])
def test_windows_are_the_filtered_lead_scaled(rate):
    preprocessing = Preprocessing(window_s=4)
    lead = noise(21, rate)
    windows = cut_windows(lead, rate, preprocessing, stride_s=2, align_last=True)
    filtered = preprocessing.filter_and_resample(lead, rate)
    np.testing.assert_array_equal(windows.starts, [*range(0, 4001, 500), len(filtered) - 1000])
    for signal, start in zip(windows.signals, windows.starts, strict=True):
        np.testing.assert_array_equal(signal, preprocessing.scale(filtered[start : start + 1000]))
    assert Counter(windows.absent.values()) == {}
    assert len(windows) == 10


def test_windows_touching_missing_samples_are_left_out_and_counted():
    lead = noise(50, 300)
    lead[3 * 300] = np.nan
    lead[20 * 300 - 1 : 20 * 300 + 1] = np.nan  # ends the second window, begins the third
    windows = cut_windows(lead, 300, Preprocessing())
    np.testing.assert_array_equal(windows.starts, [7500, 10_000])
    assert Counter(windows.absent.values()) == {"missing samples": 3}
    assert np.isfinite(windows.signals).all()


@given(st.integers(0, 29 * 360 - 1))
def test_one_missing_sample_costs_exactly_the_window_that_holds_it(position):
    lead = noise(29, 360)
    lead[position] = np.nan
    windows = cut_windows(lead, 360, Preprocessing(window_s=2))
    touched = position // 720  # the last second belongs to no window
    assert Counter(windows.absent.values()) == ({"missing samples": 1} if touched < 14 else {})
    assert 500 * touched not in windows.starts


def test_a_missing_sample_between_two_windows_costs_both():
    lead = noise(10, 333.3)
    lead[666] = np.nan  # the border lies at sample 666.6
    windows = cut_windows(lead, 333.3, Preprocessing(window_s=2))
    assert Counter(windows.absent.values()) == {"missing samples": 2}
    assert windows.starts[0] == 1000


def test_flat_windows_are_left_out_and_counted():
    lead = noise(40, 250) + 5
    lead[2500:5000] = 1.5
    windows = cut_windows(lead, 250, Preprocessing())
    np.testing.assert_array_equal(windows.starts, [0, 5000, 7500])
    assert Counter(windows.absent.values()) == {"flat line": 1}


@pytest.mark.parametrize("level", [0.0, 3.7, -1e5])
def test_a_constant_lead_gives_no_window(level):
    windows = cut_windows(np.full(5000, level), 250, Preprocessing())
    assert Counter(windows.absent.values()) == {"flat line": 2}
    assert windows.signals.shape == (0, 2500)


def test_a_lead_of_missing_samples_gives_no_window():
    windows = cut_windows(np.full(5000, np.nan), 250, Preprocessing())
    assert Counter(windows.absent.values()) == {"missing samples": 2}


def test_short_record_is_named():
    with pytest.raises(RecordError, match=r"'A00007' lasts 9\.00 s.*10 s"):
        cut_windows(noise(9, 300), 300, Preprocessing(), record="A00007")


def test_stride_that_is_no_whole_number_of_samples_is_refused():
    with pytest.raises(ConfigError, match="stride_s"):
        cut_windows(noise(20, 250), 250, Preprocessing(), stride_s=0.0101)


@pytest.mark.parametrize("name", ["cinc2017", "ludb", "mitdb", "qtdb", "xfusemap"])
def test_windows_of_a_real_record(real_database, name):
    recording = read_recording(find_records(real_database(name))[0])
    windows = cut_windows(
        recording.samples[recording.choose_lead()], recording.sampling_rate, Preprocessing()
    )
    assert (
        len(windows) + sum(Counter(windows.absent.values()).values()) == recording.duration_s // 10
    )
    assert (windows.signals.min(axis=1) == 0).all()
    assert (windows.signals.max(axis=1) == 1).all()


@pytest.mark.parametrize(("flat_s", "kept"), [(4.0, 1), (5.0, 0), (8.0, 0), (10.0, 0)])
def test_a_window_that_is_flat_for_half_of_its_time_is_left_out(flat_s: float, kept: int) -> None:
    time = np.arange(2500) / 250
    ecg = np.exp(-(((time % 0.8 - 0.4) / 0.02) ** 2)).astype(np.float32)
    ecg[: round(250 * flat_s)] = 0.25
    windows = cut_windows(ecg, 250.0, Preprocessing())
    assert len(windows) == kept
    assert Counter(windows.absent.values()) == ({} if kept else {FLAT_LINE: 1})


MILLIVOLTS = st.integers(-5000, 5000).map(lambda microvolts: np.float32(microvolts / 1000))
WINDOWS = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(2, 50)), elements=MILLIVOLTS)


def test_default_window():
    assert Preprocessing().window_samples == 2500


def test_settings_survive_json():
    settings_ = Preprocessing(low_hz=None, high_hz=30, window_s=5, scaling="none")
    assert Preprocessing.from_dict(json.loads(json.dumps(settings_.to_dict()))) == settings_


def test_from_dict_names_what_is_missing_or_unknown():
    found = Preprocessing().to_dict()
    found["rate"] = found.pop("sampling_rate")
    with pytest.raises(ConfigError, match=r"expected .*'sampling_rate'.* found .*'rate'"):
        Preprocessing.from_dict(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low_hz": 0}, "low_hz: expected a positive number or null, found 0"),
        ({"low_hz": 41.0}, "low_hz: expected less than 40 Hz"),
        ({"low_hz": 60.0, "high_hz": None}, "low_hz: expected less than 50 Hz"),
        ({"high_hz": float("inf")}, "high_hz"),
        ({"sampling_rate": 20.0}, "sampling_rate: expected 50 to 1000 Hz"),
        ({"window_s": 0.001}, "window_s.*whole number"),
        ({"window_s": 10.001}, "10 s would be"),
        ({"scaling": "zscore"}, "'minmax' or 'none'"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Preprocessing(**changes)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([100.0, 128.0, 257.5, 300.0, 360.0, 500.0, 1000.0]),
    st.floats(1.5, 25),
    st.floats(0.1, 3),
)
def test_a_sine_within_the_band_comes_through(rate, frequency, amplitude):
    before = amplitude * np.sin(2 * np.pi * frequency * np.arange(int(8 * rate)) / rate)
    after = Preprocessing().filter_and_resample(before, rate)
    expected = amplitude * np.sin(2 * np.pi * frequency * np.arange(len(after)) / 250)
    np.testing.assert_allclose(after[500:-500], expected[500:-500], atol=0.05 * amplitude)
    assert after.dtype == np.float32


def test_electrode_offset_does_not_matter():
    rng = np.random.default_rng(0)
    ecg = rng.standard_normal(3000).cumsum() / 50
    preprocessing = Preprocessing()
    np.testing.assert_allclose(
        preprocessing.filter_and_resample(ecg + 300, 300.0),
        preprocessing.filter_and_resample(ecg, 300.0),
        atol=1e-6,
    )


@pytest.mark.parametrize("n_samples", [2, 20, 400])
def test_short_leads_are_filtered_too(n_samples):
    after = Preprocessing().filter_and_resample(np.ones(n_samples), 360.0)
    np.testing.assert_allclose(after, 0, atol=1e-9)


@pytest.mark.parametrize("rate", [99.0, 1001.0])
def test_a_sampling_rate_out_of_range_is_refused(rate):
    with pytest.raises(RecordError, match=f"'r1': .* 100 to 1000 Hz, found {rate:g}"):
        cut_windows(noise(20, rate), rate, Preprocessing(), record="r1")


@given(WINDOWS)
def test_scaling_reaches_zero_and_one_exactly(windows):
    scaled = Preprocessing().scale(windows)
    assert scaled.shape == windows.shape
    assert scaled.dtype == np.float32
    varying = np.ptp(windows, axis=-1) > 0
    assert (scaled.min(axis=-1) == 0).all()
    np.testing.assert_array_equal(scaled.max(axis=-1), varying.astype(float))


@given(WINDOWS, st.floats(0.1, 10), st.integers(-10, 10))
def test_scaling_ignores_gain_and_offset(windows, gain, offset):
    spans = np.ptp(windows, axis=-1, keepdims=True)
    once = Preprocessing().scale(windows)
    again = Preprocessing().scale(gain * windows.astype(np.float64) + offset)
    # float32 after the offset: its rounding, relative to the span of the window
    tolerance = 1e-5 * np.where(spans > 0, 1 / np.where(spans > 0, spans, 1), 0) * (1 + 10 / gain)
    assert (np.abs(again - once) <= tolerance + 1e-6).all()


def test_no_scaling_leaves_units():
    windows = np.array([[1.0, -3.0]], dtype=np.float32)
    np.testing.assert_array_equal(Preprocessing(scaling="none").scale(windows), windows)
