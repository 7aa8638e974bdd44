from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.databases.labels import beats, p_waves_are_marked, rhythm_spans

from .files import marks


def test_a_rhythm_lasts_until_the_next():
    annotations = marks(
        (100, "+"), (110, "N"), (300, "+"), (600, "+"), notes=("(N", "", "(AFIB", "(AFL")
    )
    spans = rhythm_spans(annotations, n_samples=1000, sampling_rate=100.0)
    assert [(s.start_s, s.stop_s, s.label, s.af) for s in spans] == [
        (0.0, 1.0, "unlabelled", -1),
        (1.0, 3.0, "N", 0),
        (3.0, 6.0, "AFIB", 1),
        (6.0, 10.0, "AFL", -1),
    ]


def test_notes_that_are_no_rhythm_do_not_end_one():
    annotations = marks((0, "+"), (50, "+"), (60, '"'), notes=("(AFIB\0", "ST0+", "(N"))
    (span,) = rhythm_spans(annotations, n_samples=100, sampling_rate=100.0)
    assert (span.label, span.af, span.stop_s) == ("AFIB", 1, 1.0)


def test_without_rhythm_annotations_the_record_is_unlabelled():
    (span,) = rhythm_spans(marks((5, "N")), n_samples=100, sampling_rate=100.0)
    assert (span.label, span.af, span.start_s, span.stop_s) == ("unlabelled", -1, 0.0, 1.0)


@given(st.lists(st.integers(0, 1200)), st.integers(1, 1000))
def test_spans_follow_each_other_from_the_start_to_the_end(samples, n_samples):
    annotations = marks(*((s, "+") for s in sorted(samples)), notes=("(N",) * len(samples))
    spans = rhythm_spans(annotations, n_samples, sampling_rate=1.0)
    assert spans[0].start_s == 0
    assert spans[-1].stop_s == n_samples
    assert all(a.stop_s == b.start_s for a, b in pairwise(spans))


def test_beats_are_qrs_complexes():
    annotations = marks((1, "+"), (2, "N"), (3, "~"), (4, "V"), (5, "!"), (6, "x"), (7, "/"))
    samples, symbols = beats(annotations)
    assert samples.tolist() == [2, 4, 7]
    assert symbols == ("N", "V", "/")


@pytest.mark.parametrize(
    ("symbols", "expected"), [("pNpN", True), ("pNtNt", True), ("NtNtNp", False), ("Nt", False)]
)
def test_p_is_marked_where_half_of_the_beats_have_it(symbols, expected):
    assert p_waves_are_marked(marks(*enumerate(symbols))) is expected
