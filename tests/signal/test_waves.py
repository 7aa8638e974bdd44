import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.errors import RecordError
from xecg.signal.waves import (
    NOT_ANNOTATED,
    OTHER,
    QRS,
    P,
    T,
    codes_around_r_peaks,
    resample_codes,
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
