import dataclasses

import numpy as np
import pytest
from fake_database import RATE, labelled_recording
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.databases.base import RhythmSpan
from xecg.data.windowing import heartbeats, only_sinus, rhythm_between


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
