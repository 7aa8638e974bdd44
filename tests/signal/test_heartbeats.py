import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xecg.errors import RecordError
from xecg.signal.heartbeats import MIN_BEATS, detect_r_peaks, equal_rr, rr_measures
from xecg.signal.wfdb import read_annotations, read_recording

RR_MS = st.lists(st.integers(300, 2000), min_size=MIN_BEATS - 1, max_size=40)


def repeating_ecg(rate, duration_s=20, rr_s=0.8, first_s=0.4):
    """One R peak and one T wave every `rr_s` seconds."""
    time = np.arange(int(duration_s * rate)) / rate
    phase = (time - first_s + rr_s / 2) % rr_s - rr_s / 2
    r = np.exp(-0.5 * (phase / 0.012) ** 2)
    return r + 0.2 * np.exp(-0.5 * ((phase - 0.25) / 0.04) ** 2)


@pytest.mark.parametrize("rate", [100.0, 250.0, 257.5, 360.0, 1000.0])
def test_peaks_are_found_where_they_are(rate):
    peaks = detect_r_peaks(repeating_ecg(rate), rate)
    truth = 0.4 + 0.8 * np.arange(25)
    assert len(peaks) == 25
    np.testing.assert_allclose(peaks / rate, truth, atol=0.02)
    assert peaks.dtype == np.int64


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 199))
def test_shifting_a_repeating_ecg_shifts_its_peaks(shift):
    rate, inner = 250.0, slice(3, -3)
    peaks = detect_r_peaks(repeating_ecg(rate), rate)[inner]
    shifted = detect_r_peaks(repeating_ecg(rate, first_s=0.4 + shift / rate), rate)
    assert np.isin(peaks + shift, shifted).all()


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(-10, 10))
def test_peaks_do_not_depend_on_gain_or_offset(gain, offset):
    ecg = repeating_ecg(250.0)
    np.testing.assert_array_equal(
        detect_r_peaks(gain * ecg + offset, 250.0), detect_r_peaks(ecg, 250.0)
    )


@pytest.mark.parametrize(
    "signal",
    [np.zeros(2500), np.full(2500, 3.3), np.full(2500, np.nan), np.zeros(0), np.arange(499.0)],
    ids=["zeros", "constant", "missing", "empty", "short"],
)
def test_no_ecg_has_no_peaks(signal):
    peaks = detect_r_peaks(signal, 250.0)
    assert peaks.shape == (0,)
    assert peaks.dtype == np.int64


@pytest.mark.parametrize("varying", [1, 20, 37, 38, 60])
@pytest.mark.parametrize("rate", [100.0, 250.0])
def test_a_lead_that_varies_at_its_very_end_is_no_error(rate, varying):
    signal = np.zeros(2500)
    signal[-varying:] = np.random.default_rng(0).standard_normal(varying)
    assert (np.diff(detect_r_peaks(signal, rate)) > 0).all()


def test_no_peak_where_samples_are_missing_and_others_stay():
    ecg = repeating_ecg(250.0)
    everywhere = detect_r_peaks(ecg, 250.0)
    ecg[2400:2600] = np.nan
    np.testing.assert_array_equal(
        detect_r_peaks(ecg, 250.0),
        everywhere[(everywhere < 2400) | (everywhere >= 2600)],
    )


def test_no_peak_on_a_bridged_sample():
    ecg = repeating_ecg(250.0)
    peak = detect_r_peaks(ecg, 250.0)[10]
    ecg[peak - 1 : peak + 2] = np.nan
    found = detect_r_peaks(ecg, 250.0)
    assert len(found)
    assert not np.isin(found, [peak - 1, peak, peak + 1]).any()


@given(st.integers(300, 2000), st.integers(MIN_BEATS, 40))
def test_constant_rr_does_not_vary(rr_ms, n_beats):
    measures = rr_measures(np.arange(n_beats) * rr_ms / 1000)
    assert measures.n_beats == n_beats
    assert measures.mean_rr_ms == pytest.approx(rr_ms)
    assert measures.rmssd_ms == pytest.approx(0, abs=1e-6)
    assert measures.sdnn_ms == pytest.approx(0, abs=1e-6)


@given(RR_MS, st.floats(-100, 100), st.floats(0.5, 2))
def test_measures_ignore_shift_and_scale_with_time(rr_ms, shift_s, factor):
    beats = np.cumsum([0, *rr_ms]) / 1000
    once, again = rr_measures(beats), rr_measures(factor * beats + shift_s)
    for name in ("mean_rr_ms", "rmssd_ms", "sdnn_ms"):
        expected = factor * getattr(once, name)
        assert getattr(again, name) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_measures_by_hand():
    # RR 800 900 800 1000: differences 100, -100, 200
    measures = rr_measures(np.array([0, 0.8, 1.7, 2.5, 3.5]))
    assert measures.mean_rr_ms == pytest.approx(875)
    assert measures.rmssd_ms == pytest.approx(np.sqrt(60_000 / 3))
    assert measures.sdnn_ms == pytest.approx(np.sqrt((75**2 + 25**2 + 75**2 + 125**2) / 3))


@pytest.mark.parametrize("n_beats", range(MIN_BEATS))
def test_too_few_beats_are_not_measured(n_beats):
    measures = rr_measures(np.arange(n_beats) * 0.8)
    assert measures.n_beats == n_beats
    assert np.isnan([measures.mean_rr_ms, measures.rmssd_ms, measures.sdnn_ms]).all()


@pytest.mark.parametrize("times", [[0, 1, 1], [0, 2, 1], [0, np.nan, 1]])
def test_beats_out_of_order_are_refused(times):
    with pytest.raises(RecordError, match="strictly ascending"):
        rr_measures(np.array(times, dtype=float))


def test_a_real_record_agrees_with_its_beats(real_database):
    path = real_database("mitdb") / "100"
    recording, annotations = read_recording(path), read_annotations(path, "atr")
    beats = annotations.samples[np.isin(annotations.symbols, list("NAV"))]
    peaks = detect_r_peaks(recording.samples[recording.choose_lead()], recording.sampling_rate)
    distance = np.abs(beats[:, np.newaxis] - peaks).min(axis=1) / 360
    assert len(peaks) == len(beats) == 2273
    assert (distance < 0.05).mean() > 0.999


rhythms = st.lists(st.integers(30, 500), min_size=1, max_size=12)


@given(rhythms, st.integers(0, 200), st.integers(0, 100))
def test_rr_intervals_are_made_equal_and_beats_keep_their_shape(intervals, first, rest):
    peaks = first + np.cumsum([0, *intervals])
    signal = np.random.default_rng(first).random(peaks[-1] + rest + 1).astype(np.float32)
    found = equal_rr(signal, peaks, 250.0)
    equal = np.rint(np.linspace(peaks[0], peaks[-1], len(peaks))).astype(int)
    assert found.shape == signal.shape
    assert np.ptp(np.diff(equal)) <= 1
    np.testing.assert_array_equal(found[: peaks[0]], signal[: peaks[0]])
    np.testing.assert_array_equal(found[peaks[-1] :], signal[peaks[-1] :])
    near = min([*intervals, *np.diff(equal)]) // 4  # that much before an R peak is always moved
    reach = np.arange(-min(near, 55) + 1, 1) if near else np.zeros(1, int)
    for here, there in zip(equal[1:], peaks[1:], strict=True):
        np.testing.assert_array_equal(found[here + reach], signal[there + reach])
    np.testing.assert_array_equal(equal_rr(found, equal, 250.0), found)


@given(st.integers(1, 12), st.integers(1, 400))
def test_equal_rr_intervals_stay_as_they_are(n, interval):
    signal = np.random.default_rng(n).random(n * interval + 7).astype(np.float32)
    np.testing.assert_array_equal(equal_rr(signal, np.arange(n) * interval, 250.0), signal)
    np.testing.assert_array_equal(equal_rr(signal, np.arange(0), 250.0), signal)
