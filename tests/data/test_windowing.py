import dataclasses

import numpy as np
import pytest
from fake_database import RATE, labelled_recording
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.databases.base import RhythmSpan
from xecg.data.windowing import (
    age_and_sex,
    choose_leads,
    digest,
    heartbeats,
    labelled_windows,
    only_sinus,
    rhythm_between,
)
from xecg.errors import RecordError
from xecg.signal.preprocessing import Preprocessing
from xecg.signal.recording import Recording
from xecg.signal.waves import NOT_ANNOTATED, QRS, rr_measures

SETTINGS = Preprocessing()


def cut(labelled, leads="preferred", stride_s=10.0):
    """The windows of the first lead that is chosen."""
    return next(labelled_windows(labelled, "x/rec", SETTINGS, leads, stride_s))


def column(made, name):
    return [row[name] for row in made.rows]


def test_columns_of_each_window():
    made = cut(labelled_recording("rec", person="fake-7", duration_s=35.0))
    assert made.signals.shape == (3, 2500)
    assert made.signals.dtype == np.float32
    expected = {"record": "x/rec", "person": "fake-7", "lead": "II", "rhythm": "N", "af": 0}
    for name, value in (expected | {"reference_beats": True, "normal_beats": True}).items():
        assert column(made, name) == [value] * 3
    assert column(made, "start_s") == [0.0, 10.0, 20.0]


def test_r_peaks_lie_on_the_spikes_and_measures_belong_to_them():
    labelled = labelled_recording(duration_s=40.0, rr_s=0.735)
    made = cut(labelled, stride_s=7.0)
    for row in range(len(made.rows)):
        peaks = made.rows[row]["r_peaks"]
        assert peaks.dtype == np.int32
        assert (made.signals[row][peaks] > 0.9).all()
        start_s = made.rows[row]["start_s"]
        inside = labelled.r_peaks / RATE
        inside = inside[np.rint(inside * 250) >= start_s * 250]
        expected = rr_measures(inside[np.rint(inside * 250) < start_s * 250 + 2500])
        assert made.rows[row]["n_beats"] == expected.n_beats == len(peaks)
        assert made.rows[row]["rmssd_ms"] == pytest.approx(expected.rmssd_ms, abs=1e-3)
        assert made.rows[row]["sdnn_ms"] == pytest.approx(expected.sdnn_ms, abs=1e-3)


def test_few_beats_have_no_measures():
    made = cut(labelled_recording(rr_s=2.5))
    assert max(column(made, "n_beats")) < 5
    assert np.isnan(column(made, "rmssd_ms")).all()
    assert np.isnan(column(made, "sdnn_ms")).all()


def test_waves_only_where_somebody_annotated():
    labelled = labelled_recording(duration_s=35.0, waves=True)
    made = cut(labelled)
    codes = next(iter(labelled.codes.values()))
    at_250_hz = codes[np.minimum(np.rint(np.arange(2500) * 0.8).astype(int), len(codes) - 1)]
    np.testing.assert_array_equal(made.waves[0], at_250_hz)
    share = np.mean(at_250_hz != NOT_ANNOTATED)
    assert column(made, "annotated_share") == [pytest.approx(share), 0, 0]
    assert made.waves[0][labelled.r_peaks[1] * 5 // 4] == QRS


def test_a_lead_without_waves_has_none():
    labelled = labelled_recording(leads=("II", "V1"), waves=True)
    only_v1 = dataclasses.replace(labelled, codes={"V1": labelled.codes["V1"]})
    two, v1 = labelled_windows(only_v1, "r", SETTINGS, "all", 10.0)
    assert (column(two, "lead"), column(v1, "lead")) == (["II"] * 2, ["V1"] * 2)
    assert two.waves is None
    assert column(two, "annotated_share") == [0, 0]
    assert v1.waves.shape == (2, 2500)


def test_leads():
    recording = labelled_recording(leads=("V1", "II", "aVR")).recording
    assert choose_leads(recording, "preferred") == [1]
    assert choose_leads(recording, "all") == [0, 1, 2]
    assert choose_leads(recording, ("avr", "V1", "aVR")) == [2, 0]
    pressure = dataclasses.replace(recording, units=("mmHg", "mV", "mV"))
    assert choose_leads(pressure, "all") == [1, 2]
    with pytest.raises(RecordError, match="V9"):
        choose_leads(recording, ("V9",))


def test_same_samples_same_digest_wherever_they_lie():
    labelled = labelled_recording("whole", duration_s=30.0)
    part = Recording("part", labelled.recording.samples[:, 2000:], RATE, ("II",), ("mV",))
    whole, cut_out = cut(labelled), cut(dataclasses.replace(labelled_recording(), recording=part))
    assert column(whole, "digest")[1:] == column(cut_out, "digest")
    assert len(set(column(whole, "digest"))) == 3


def test_windows_left_out_are_counted_and_the_others_keep_their_labels():
    labelled = labelled_recording(
        duration_s=30.0, rhythms=(("N", 0, 0, 10), ("AFL", -1, 10, 20), ("AFIB", 1, 20, 30))
    )
    samples = labelled.recording.samples.copy()
    samples[:, 2500] = np.nan
    made = cut(
        dataclasses.replace(
            labelled, recording=dataclasses.replace(labelled.recording, samples=samples)
        )
    )
    assert made.left_out == {"missing samples": 1}
    assert column(made, "rhythm") == ["N", "AFIB"]
    assert column(made, "af") == [0, 1]
    assert len(made.rows) == len(made.signals) == 2


def test_nothing_left():
    labelled = labelled_recording()
    flat = dataclasses.replace(labelled.recording, samples=np.zeros((1, 5000), np.float32))
    made = cut(dataclasses.replace(labelled, recording=flat, codes={}))
    assert len(made.rows) == 0
    assert made.signals.shape == (0, 2500)
    assert made.left_out == {"flat line": 2}


def test_too_short_a_record_is_an_error():
    with pytest.raises(RecordError, match="'x/rec'"):
        cut(labelled_recording("short", duration_s=9.5))


def spans(*parts):
    return [RhythmSpan(start, stop, label, af) for start, stop, label, af in parts]


CHANGING = spans(
    (0, 0.2, "unlabelled", -1), (0.2, 15, "N", 0), (15, 25, "AFIB", 1), (25, 40, "T", 0)
)


@pytest.mark.parametrize(
    ("start_s", "rhythm", "af"),
    [
        (0, "unlabelled+N", -1),
        (0.2, "N", 0),
        (5, "N", 0),
        (5.1, "N+AFIB", -1),
        (15, "AFIB", 1),
        (20, "AFIB+T", -1),
        (30, "T", 0),
        (30.003, "T", 0),  # 3 ms longer than the record, as rounding up may have it
        (31, "T+unlabelled", -1),
        (60, "unlabelled", -1),
    ],
)
def test_rhythm_of_ten_seconds(start_s, rhythm, af):
    assert rhythm_between(CHANGING, start_s, start_s + 10, 0.004) == (rhythm, af)


def test_several_rhythms_that_agree_on_af_keep_it():
    parts = spans((0, 3, "N", 0), (3, 6, "B", 0), (6, 10, "N", 0))
    assert rhythm_between(parts, 0, 10, 0.004) == ("N+B", 0)


def test_a_gap_counts_as_unlabelled():
    parts = spans((0, 3, "AFIB", 1), (4, 10, "AFIB", 1))
    assert rhythm_between(parts, 0, 10, 0.004) == ("AFIB+unlabelled", -1)
    assert rhythm_between([], 0, 10, 0.004) == ("unlabelled", -1)


@given(st.lists(st.tuples(st.integers(1, 20), st.sampled_from([1, 0, -1])), min_size=1), st.data())
def test_af_is_known_only_where_every_moment_agrees(parts, data):
    edges = np.cumsum([0] + [length for length, _ in parts])
    covering = spans(
        *((a, b, f"r{af}", af) for a, b, (_, af) in zip(edges[:-1], edges[1:], parts, strict=True))
    )
    moments = np.repeat([af for _, af in parts], [length for length, _ in parts])
    start = data.draw(st.integers(0, len(moments) - 1))
    stop = data.draw(st.integers(start + 1, len(moments)))
    kinds = set(moments[start:stop].tolist())
    _, af = rhythm_between(covering, start, stop, 0.004)
    assert af == (kinds.pop() if len(kinds) == 1 else -1)


def test_heartbeats_are_the_reference_where_there_is_one():
    labelled = labelled_recording(rr_s=0.7)
    r_peaks_s, symbols = heartbeats(labelled, labelled.recording.samples[0])
    np.testing.assert_allclose(r_peaks_s, labelled.r_peaks / RATE)
    assert set(symbols.tolist()) == {"N"}


def test_heartbeats_are_in_order_of_time():
    labelled = labelled_recording()
    n = len(labelled.r_peaks)
    mixed = dataclasses.replace(
        labelled, r_peaks=labelled.r_peaks[::-1], beat_symbols=("V", *("N",) * (n - 1))
    )
    r_peaks_s, symbols = heartbeats(mixed, labelled.recording.samples[0])
    np.testing.assert_allclose(r_peaks_s, labelled.r_peaks / RATE)
    assert symbols.tolist() == ["N"] * (n - 1) + ["V"]


def test_heartbeats_are_detected_elsewhere():
    labelled = labelled_recording(beats=False, rr_s=0.9)
    r_peaks_s, symbols = heartbeats(labelled, labelled.recording.samples[0])
    np.testing.assert_allclose(np.diff(r_peaks_s), 0.9, atol=0.011)
    assert len(symbols) == len(r_peaks_s) > 20
    assert set(symbols.tolist()) == {""}


@pytest.mark.parametrize(
    ("rhythm", "symbols", "expected"),
    [
        ("N", "NNN", True),
        ("SBR", "NLRB", True),
        ("N+SBR", "N", True),
        ("N", "NVN", False),
        ("N", "NeN", False),
        ("N", "NjN", False),
        ("N+AFIB", "NNN", False),
        ("AFIB", "NNN", False),
        ("unlabelled+N", "NNN", False),
        ("N", "", False),
    ],
)
def test_only_sinus(rhythm, symbols, expected):
    assert only_sinus(rhythm, np.array(list(symbols), dtype="U1")) is expected


def test_detected_beats_are_not_known_to_be_sinus_beats():
    assert not only_sinus("N", np.zeros(5, "U1"))


def test_digest_tells_samples_apart():
    samples = np.random.default_rng(0).normal(size=2500).astype(np.float32)
    changed = samples.copy()
    changed[1200] = np.nextafter(changed[1200], np.float32(9))
    assert digest(samples) == digest(samples[np.newaxis].repeat(2, axis=0)[1])
    assert digest(samples) != digest(changed)
    assert isinstance(digest(samples), np.uint64)


@pytest.mark.parametrize(
    ("comments", "age", "sex"),
    [
        (("69 M 1085 1629 x1", "Aldomet, Inderal"), 69, "M"),
        (("-1 M 742 654 x1", "Digoxin"), np.nan, "M"),
        (("Age: 61", "Sex: Female", "Dx: 426783006"), 61, "F"),
        (("<age>: 51", "<sex>: F", "<diagnoses>:"), 51, "F"),
        (("Age: NaN", "Sex: Unknown"), np.nan, ""),
        (("Age: 56.0", "Sex: M"), 56, "M"),
        (("61", "Recorded on page: 7", "Source: Georgia", "12 minutes"), np.nan, ""),
        ((), np.nan, ""),
    ],
)
def test_age_and_sex_as_headers_give_them(comments, age, sex):
    np.testing.assert_equal(age_and_sex(comments), (age, sex))


def test_beats_of_a_window_are_kept_each_once():
    labelled = labelled_recording(duration_s=20.0)
    symbols = tuple("V" if i in (2, 3) else "N" for i in range(len(labelled.r_peaks)))
    made = cut(dataclasses.replace(labelled, beat_symbols=symbols))
    assert column(made, "beat_symbols") == ["NV", "N"]
    assert column(cut(labelled_recording(beats=False)), "beat_symbols")[0] == ""
