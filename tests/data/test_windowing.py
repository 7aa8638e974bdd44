import dataclasses

import numpy as np
import pytest
from fake_database import RATE, labelled_recording

from xecg.data.windowing import choose_leads, concatenate, labelled_windows
from xecg.errors import RecordError
from xecg.signal.heartbeats import rr_measures
from xecg.signal.preprocessing import Preprocessing
from xecg.signal.recording import Recording
from xecg.signal.waves import NOT_ANNOTATED, QRS

SETTINGS = Preprocessing()


def cut(labelled, leads="preferred", stride_s=10.0):
    return labelled_windows(labelled, SETTINGS, leads, stride_s)


def test_columns_of_each_window():
    made = cut(labelled_recording("rec", person="fake-7", duration_s=35.0))
    index = made.index
    assert made.signals.shape == (3, 2500)
    assert made.signals.dtype == np.float32
    for name, value in (
        ("record", "rec"),
        ("person", "fake-7"),
        ("group", "fake-7"),
        ("lead", "II"),
    ):
        assert getattr(index, name).tolist() == [value] * 3
    assert index.start_s.tolist() == [0.0, 10.0, 20.0]
    assert index.rhythm.tolist() == ["N"] * 3
    assert index.af.tolist() == [0] * 3
    assert index.reference_beats.all()
    assert index.normal_beats.all()


def test_group_is_the_record_where_the_person_is_unknown():
    index = cut(labelled_recording("rec")).index
    assert index.group.tolist() == ["rec", "rec"]
    assert index.person.tolist() == ["", ""]


def test_r_peaks_lie_on_the_spikes_and_measures_belong_to_them():
    labelled = labelled_recording(duration_s=40.0, rr_s=0.735)
    made = cut(labelled, stride_s=7.0)
    for row in range(len(made.index)):
        peaks = made.r_peaks[row]
        assert peaks.dtype == np.int32
        assert (made.signals[row][peaks] > 0.9).all()
        start_s = made.index.start_s[row]
        inside = labelled.r_peaks / RATE
        inside = inside[np.rint(inside * 250) >= start_s * 250]
        expected = rr_measures(inside[np.rint(inside * 250) < start_s * 250 + 2500])
        assert made.index.n_beats[row] == expected.n_beats == len(peaks)
        assert made.index.rmssd_ms[row] == pytest.approx(expected.rmssd_ms, abs=1e-3)
        assert made.index.sdnn_ms[row] == pytest.approx(expected.sdnn_ms, abs=1e-3)


def test_few_beats_have_no_measures():
    made = cut(labelled_recording(rr_s=2.5))
    assert (made.index.n_beats < 5).all()
    assert np.isnan(made.index.rmssd_ms).all()
    assert np.isnan(made.index.sdnn_ms).all()


def test_waves_only_where_somebody_annotated():
    labelled = labelled_recording(duration_s=35.0, waves=True)
    made = cut(labelled)
    assert made.index.wave_row.tolist() == [0, -1, -1]
    assert made.waves.shape == (1, 2500)
    codes = next(iter(labelled.codes.values()))
    at_250_hz = codes[np.minimum(np.rint(np.arange(2500) * 0.8).astype(int), len(codes) - 1)]
    np.testing.assert_array_equal(made.waves[0], at_250_hz)
    assert made.index.annotated_share.tolist() == [
        pytest.approx(np.mean(at_250_hz != NOT_ANNOTATED)),
        0,
        0,
    ]
    assert made.waves[0][labelled.r_peaks[1] * 5 // 4] == QRS


def test_a_lead_without_waves_has_none():
    labelled = labelled_recording(leads=("II", "V1"), waves=True)
    only_v1 = dataclasses.replace(labelled, codes={"V1": labelled.codes["V1"]})
    made = cut(only_v1, "all")
    assert made.index.lead.tolist() == ["II", "II", "V1", "V1"]
    assert made.index.wave_row.tolist() == [-1, -1, 0, -1]


def test_leads():
    recording = labelled_recording(leads=("V1", "II", "aVR")).recording
    assert choose_leads(recording, "preferred") == [1]
    assert choose_leads(recording, "all") == [0, 1, 2]
    assert choose_leads(recording, ("avr", "V1", "aVR")) == [2, 0]
    with pytest.raises(RecordError, match="V9"):
        choose_leads(recording, ("V9",))


def test_same_samples_same_digest_wherever_they_lie():
    labelled = labelled_recording("whole", duration_s=30.0)
    part = Recording("part", labelled.recording.samples[:, 2000:], RATE, ("II",), ("mV",))
    whole, cut_out = cut(labelled), cut(dataclasses.replace(labelled_recording(), recording=part))
    assert whole.digests[1:].tolist() == cut_out.digests.tolist()
    assert len(set(whole.digests.tolist())) == 3


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
    assert made.index.rhythm.tolist() == ["N", "AFIB"]
    assert made.index.af.tolist() == [0, 1]
    assert len(made.r_peaks) == len(made.digests) == len(made.signals) == 2


def test_nothing_left():
    labelled = labelled_recording()
    flat = dataclasses.replace(labelled.recording, samples=np.zeros((1, 5000), np.float32))
    made = cut(dataclasses.replace(labelled, recording=flat, codes={}))
    assert len(made.index) == len(made.r_peaks) == 0
    assert made.signals.shape == (0, 2500)
    assert made.left_out == {"flat line": 2}


def test_concatenate_counts_wave_rows_on():
    one = cut(labelled_recording("a", waves=True))
    both = concatenate([one, cut(labelled_recording("b")), one])
    assert both.index.wave_row.tolist() == [0, -1, -1, -1, 1, -1]
    assert both.waves.shape == (2, 2500)
    assert len(both.r_peaks) == len(both.digests) == 6


def test_too_short_a_record_is_an_error():
    with pytest.raises(RecordError, match="'short'"):
        cut(labelled_recording("short", duration_s=9.5))
