"""Tables of labels, and what WFDB annotations say of rhythms, beats and P waves."""

import os
import re
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.databases.base import RhythmSpan
from xecg.data.databases.labels import LabelTable, Row, beats, rhythm_spans
from xecg.data.databases.physionet import p_waves_are_marked
from xecg.errors import DataError, RecordError
from xecg.signal.recording import Recording

from .files import marks

RECORDING = Recording("long-gone", np.zeros((1, 1000)), 100.0, ("II",), ("mV",))


def read_labels(path, columns=()):
    return LabelTable(path, {}, columns).read()


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        (tmp_path / "records.csv").write_text(text, encoding=encoding)
        return tmp_path / "records.csv"

    return write


@pytest.fixture(scope="module")
def table_of(tmp_path_factory):
    numbers = count()

    def write(text):
        path = tmp_path_factory.mktemp("tables") / f"{next(numbers)}.csv"
        path.write_text(text)
        return path

    return write


def test_columns_in_any_order_with_others_between(table):
    path = table("label,age,record,person\nAF, 70, a/1, Ada\nSR,, 2,\n")
    assert read_labels(path) == {"a/1": (Row("AF", "Ada"),), "2": (Row("SR"),)}


@pytest.mark.parametrize(
    "column",
    ["Person", "patient", "patient_id", "Subject ID", "PatientNo", "pid", "participant_id"],
)
def test_persons_under_another_name(table, column):
    assert read_labels(table(f"record,label,{column}\n1,AF,7\n")) == {"1": (Row("AF", "7"),)}


def test_columns_that_are_not_used_are_told(table, caplog):
    read_labels(table("record,label,case_id,person_hash\n1,AF,7,x\n"))
    assert "not used: case_id; persons are told apart by person_hash" in caplog.text
    read_labels(table("record,label,who\n1,AF,7\n2,AF,7\n"))
    assert "not used: who; persons are told apart by record" in caplog.text


def test_a_table_as_excel_saves_it(table):
    assert read_labels(table("record,label\n1,AF\n", "utf-8-sig")) == {"1": (Row("AF"),)}


def test_a_table_without_a_header(table):
    assert read_labels(table("A1,N\nA2,~\n"), ("record", "label"))["A2"] == (Row("~"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a table.*No columns"),
        ("record;label\n1;AF\n", "found 'record;label'"),
        ("record,rhythm\n1,AF\n", "found 'record,rhythm'"),
        ("record,label\n1,AF\n1,SR\n", "row 2, '1,SR,,,': names a record a second time"),
        ("record,label\n1,\n", "row 1, '1,,,,': expected a record and a label"),
        ("record,label\n1,flutter, typical\n", "double quotes"),
        ("record,label,person,MRN\n1,AF,7,8\n", "one of persons .* found .*person,MRN"),
        ("record,label\n,AF\n", "row 1, ',AF,,,': expected a record"),
        ("record,label,start_s\n1,AF,0\n", "both of start_s,end_s, found"),
        *[
            (
                f"record,label,{names}\n1,AF,0,9\n",
                f"both of start_s,end_s, found .*{re.escape(names)}",
            )
            for names in ("Start_s,End_s", "start,end", "onset_s,offset_s", "start (s),stop")
        ],
        ("record,label,person\n1,AF,7.0\n2,SR,7\n", "row 1, '1,AF,7.0,,': its person"),
        ("record,label,person\n1,AF,7\u200b\n2,SR,7\n", "its person is written in another way"),
        ("record,label,start_s,end_s\n1,AF,9,3\n", "row 1, '1,AF,,9,3': expected 0 <= start_s"),
        ("record,label,start_s,end_s\n1,AF,-1,3\n", "row 1, '1,AF,,-1,3': expected"),
        ("record,label,start_s,end_s\n1,AF,nan,3\n", "row 1, '1,AF,,nan,3': expected"),
        ("record,label,start_s,end_s\n1,AF,inf,\n", "row 1, '1,AF,,inf,': expected"),
        ("record,label,start_s,end_s\n1,AF,0,4\n1,SR,3,9\n", "row 2, .* a second time"),
        ("record,label,start_s,end_s\n1,AF,,\n1,SR,3,9\n", "row 2, .* a second time"),
        ("record,label,person,start_s,end_s\n1,AF,a,0,4\n1,SR,b,4,9\n", "two persons"),
    ],
)
def test_what_is_wrong_is_said(table, text, message):
    with pytest.raises(DataError, match=message):
        read_labels(table(text))


def test_a_record_with_several_stretches(table):
    path = table("record,label,start_s,end_s\n1,SR,40,60.5\n2,SR,,\n1,AF,0,40\n")
    rows = read_labels(path)
    assert rows["1"] == (Row("AF", "", 0, 40), Row("SR", "", 40, 60.5))
    assert rows["2"] == (Row("SR"),)
    spans = LabelTable(path, {"SR": 0}).rhythms("2", RECORDING)
    assert spans == (RhythmSpan(0.0, 10.0, "SR", 0),)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8, unique=True), st.randoms())
def test_stretches_are_in_order_and_none_is_in_another(table_of, edges, random):
    edges = sorted(edges)
    stretches = list(pairwise(edges))
    random.shuffle(stretches)
    lines = ["record,label,start_s,end_s", *(f"1,AF,{a},{b}" for a, b in stretches)]
    rows = read_labels(table_of("\n".join(lines)))["1"]
    assert [(row.start_s, row.stop_s) for row in rows] == list(pairwise(edges))
    inside = f"1,SR,{edges[0]},{edges[-1]}"
    with pytest.raises(DataError, match="names a record a second time"):
        read_labels(table_of("\n".join([*lines, inside])))


def stretch(table, start_s, stop_s):
    path = table(f"record,label,start_s,end_s\n1,AF,{start_s},{stop_s}\n")
    return LabelTable(path, {"AF": 1}).rhythms("1", RECORDING)[0]


@pytest.mark.parametrize(("stop_s", "ends_at"), [(8, 8.0), (10, 10.0), (10.9, 10.0)])
def test_a_stretch_ends_with_the_record(table, stop_s, ends_at):
    assert stretch(table, 4, stop_s).stop_s == ends_at


@pytest.mark.parametrize(("start_s", "stop_s"), [(0, 11), (10, 12), (10, "")])
def test_a_stretch_beyond_the_record_is_refused(table, start_s, stop_s):
    with pytest.raises(RecordError, match=r"long-gone.*'AF'"):
        stretch(table, start_s, stop_s)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_labels(tmp_path / "records.csv")


def test_a_table_that_is_no_text(tmp_path):
    (tmp_path / "records.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_labels(tmp_path / "records.csv")


def test_a_changed_table_is_read_again(table):
    path = table("record,label\n1,AF\n")
    read_labels(path)
    table("record,label\n1,SR\n")
    os.utime(path, ns=(1, 1))
    assert read_labels(path)["1"] == (Row("SR"),)


def test_unknown_labels_are_listed_with_what_to_do(table):
    path = table('record,label,start_s,end_s\n1,AF,,\n2,"V, T",0,1\n2,?,1,2\n')
    with pytest.raises(DataError, match=r"labels '\?', 'V, T' are not .* expected 'AF', .*--af"):
        LabelTable(path, {"AF": 1}).records()


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
