import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xecg.errors import ConfigError, RecordError
from xecg.signal.preprocessing import Preprocessing

MILLIVOLTS = st.integers(-5000, 5000).map(lambda microvolts: microvolts / 1000)
WINDOWS = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(2, 50)), elements=MILLIVOLTS)


def test_default_window():
    assert Preprocessing().window_samples == 2500


def test_settings_survive_json():
    settings_ = Preprocessing(low_hz=None, high_hz=30, window_s=5, scaling="none")
    assert Preprocessing.from_dict(json.loads(json.dumps(settings_.to_dict()))) == settings_


def test_from_dict_names_what_is_missing_or_unknown():
    found = Preprocessing().to_dict()
    found["rate"] = found.pop("sampling_rate")
    with pytest.raises(ConfigError, match=r"missing \['sampling_rate'\], unknown \['rate'\]"):
        Preprocessing.from_dict(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low_hz": 0}, "low_hz: expected a positive number or null, found 0"),
        ({"low_hz": 41.0}, "low_hz: expected less than 40 Hz"),
        ({"low_hz": 60.0, "high_hz": None}, "low_hz: expected less than 50 Hz"),
        ({"high_hz": float("inf")}, "high_hz"),
        ({"high_hz": "40"}, "high_hz"),
        ({"sampling_rate": None}, "sampling_rate: expected a positive number, found None"),
        ({"sampling_rate": 20.0}, "sampling_rate: expected 50 to 1000 Hz"),
        ({"window_s": True}, "window_s"),
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
    assert len(after) == Preprocessing().resampled_length(len(before), rate)
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


@pytest.mark.parametrize(
    ("signal", "rate", "message"),
    [
        (np.zeros(1000), 99.0, "100 to 1000 Hz, found 99"),
        (np.zeros(1000), 1001.0, "100 to 1000 Hz"),
        (np.zeros((2, 1000)), 250.0, "one lead"),
        (np.zeros(0), 250.0, "one lead"),
        (np.zeros(1), 250.0, "two samples"),
        (np.array([0, np.nan, 1.0]), 250.0, "1 of 3 samples are missing"),
    ],
)
def test_input_that_cannot_be_filtered_is_refused(signal, rate, message):
    with pytest.raises(RecordError, match=message):
        Preprocessing().filter_and_resample(signal, rate)


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
