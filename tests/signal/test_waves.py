import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xecg.errors import RecordError
from xecg.signal.waves import (
    MIN_BEATS,
    NOT_ANNOTATED,
    OTHER,
    QRS,
    P,
    T,
    codes_around_r_peaks,
    detect_r_peaks,
    equal_rr,
    resample_codes,
    rr_measures,
    wave_codes,
)
from xecg.signal.wfdb import Annotations, read_annotations, read_recording

PEAKS = st.lists(st.integers(-100, 1100), max_size=20)


def annotate(*marks):
    """Annotations from pairs of sample and symbol."""
    samples, symbols = zip(*marks, strict=True) if marks else ((), ())
    return Annotations(
        samples=np.array(samples, dtype=np.int64),
        symbols=tuple(symbols),
        notes=("",) * len(symbols),
    )


def spread(text):
    """Codes from a picture: one character per sample."""
    return np.array([{".": OTHER, "P": P, "Q": QRS, "T": T, "?": NOT_ANNOTATED}[c] for c in text])


def marks(text):
    """Annotations from a picture: a blank is a sample without one."""
    return annotate(*[(i, symbol) for i, symbol in enumerate(text) if symbol != " "])


@pytest.mark.parametrize(
    ("annotated", "expected"),
    [
        # one beat; both ends belong to the wave; outside the first and last nobody looked
        ("  ( p  ) (N)  ( t )  ", "??PPPPPP.QQQ..TTTTT??"),
        # T without onset, as in the QT Database
        ("  (p) (N)    t  ) ", "??PPP.QQQ....TTTT?"),
        # QRS without offset, then one without onset
        ("(N   (t)   N) (p)", "QQ...TTT...QQ.PPP"),
        # QRS without either: its peak
        ("(p)   N  (t)", "PPP...Q..TTT"),
        # P without an offset, an onset, either
        ("(t)  ( p   (N)", "TTT..??????QQQ"),
        ("(t)    p ) (N)", "TTT???????.QQQ"),
        ("(t)    p   (N)", "TTT????????QQQ"),
        # biphasic T, by two peaks
        ("(N)  ( t  t ) (p)", "QQQ..TTTTTTTT.PPP"),
        # U waves are other, with or without an onset
        ("(N) (t) (u) u ) (p)", "QQQ.TTT.........PPP"),
        # beats of other kinds; symbols that are no waves
        ("(V)+(A)|(t)", "QQQ.QQQ.TTT"),
    ],
)
def test_codes_of_annotated_waves(annotated, expected):
    codes = wave_codes(marks(annotated), len(annotated), region=None)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, spread(expected))


def test_region_of_the_annotator_decides_what_is_other():
    annotated = "    (p) (N)     "
    codes = wave_codes(marks(annotated), len(annotated), region=(2, 14))
    np.testing.assert_array_equal(codes, spread("??..PPP.QQQ...??"))


@pytest.mark.parametrize("annotated", ["", "  N  N ", " )  ( "])
def test_without_bounds_nothing_is_annotated(annotated):
    codes = wave_codes(marks(annotated), 8, region=None)
    np.testing.assert_array_equal(codes, NOT_ANNOTATED)


def test_a_region_without_waves_is_other():
    np.testing.assert_array_equal(wave_codes(annotate(), 4, region=(0, 4)), OTHER)


def test_annotations_beyond_the_lead_are_refused():
    with pytest.raises(RecordError, match="samples 5 to 12 do not fit a lead of 10"):
        wave_codes(annotate((5, "("), (12, ")")), 10, region=None)


@given(st.lists(st.sampled_from([OTHER, P, QRS, T]), min_size=1, max_size=40), st.integers(1, 8))
def test_codes_survive_a_higher_rate_and_back(codes, factor):
    codes = np.array(codes, dtype=np.uint8)
    finer = resample_codes(codes, 100, 100 * factor, factor * len(codes))
    np.testing.assert_array_equal(resample_codes(finer, 100 * factor, 100, len(codes)), codes)


@pytest.mark.parametrize("rate", [250.0, 257.5, 360.0, 1000.0])
def test_resampled_waves_keep_their_times(rate):
    codes = np.zeros(int(10 * rate), dtype=np.uint8)
    codes[int(2 * rate) : int(3 * rate)] = P
    resampled = np.flatnonzero(resample_codes(codes, rate, 250, 2500) == P)
    assert resampled[0] / 250 == pytest.approx(2, abs=1 / 250)
    assert len(resampled) == pytest.approx(250, abs=1)


def test_beyond_the_end_the_last_code_is_held():
    codes = np.array([P, T], dtype=np.uint8)
    np.testing.assert_array_equal(resample_codes(codes, 100, 100, 4), [P, T, T, T])


@pytest.mark.parametrize("rate", [250.0, 500.0])
def test_windows_round_one_r_peak(rate):
    codes = codes_around_r_peaks(np.array([int(rate)]), int(2 * rate), rate)
    for code, start_ms, stop_ms in [(P, -220, -60), (QRS, -50, 50), (T, 100, 350)]:
        after_ms = (np.flatnonzero(codes == code) - rate) / rate * 1000
        assert after_ms[0] == pytest.approx(start_ms, abs=1000 / rate)
        assert after_ms[-1] + 1000 / rate == pytest.approx(stop_ms, abs=1000 / rate)


@given(PEAKS)
def test_qrs_overrules_p_and_p_overrules_t(peaks):
    codes = codes_around_r_peaks(np.array(peaks, dtype=np.int64), 1000, 250.0)
    expected = np.zeros(1000)
    for sample in range(1000):
        ms = [(sample - peak) * 4 for peak in peaks]
        # at 250 Hz, -50 and +50 ms are 12.5 samples, rounded to 12
        if any(-48 <= m < 48 for m in ms):
            expected[sample] = QRS
        elif any(-220 <= m < -60 for m in ms):
            expected[sample] = P
        elif any(100 <= m < 352 for m in ms):  # 350 ms: 87.5 samples, rounded to 88
            expected[sample] = T
    np.testing.assert_array_equal(codes, expected)


@given(PEAKS, st.integers(1, 300))
def test_codes_move_with_the_r_peaks(peaks, shift):
    peaks = np.array(peaks, dtype=np.int64)
    codes = codes_around_r_peaks(peaks, 1000, 250.0)
    moved = codes_around_r_peaks(peaks + shift, 1000, 250.0)
    np.testing.assert_array_equal(moved[shift:], codes[:-shift])


def test_waves_of_a_real_ludb_record(real_database):
    path = real_database("ludb") / "data" / "1"
    codes = wave_codes(read_annotations(path, "ii"), 5000, region=None)
    annotated = codes != NOT_ANNOTATED
    assert 0.3 < annotated.mean() < 0.9
    for code in (P, QRS, T):
        starts = np.count_nonzero(np.diff((codes == code).astype(int)) == 1)
        assert 4 <= starts <= 8
    assert np.count_nonzero(codes == QRS) / np.count_nonzero(annotated) < 0.2


def test_every_p_wave_of_a_real_qtdb_record_is_marked(real_database):
    path = real_database("qtdb") / "sel100"
    annotations = read_annotations(path, "q1c")
    codes = wave_codes(annotations, read_recording(path).n_samples, region=None)
    peaks = annotations.samples[np.array(annotations.symbols) == "p"]
    assert (codes[peaks] == P).all()
    assert np.count_nonzero(np.diff((codes == P).astype(int)) == 1) == len(peaks) == 30


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
