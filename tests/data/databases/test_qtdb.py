import collections

import numpy as np
import pytest

from xecg.data.databases import get_database
from xecg.data.databases.physionet import qtdb_person, unmarked_stretches
from xecg.signal.waves import NOT_ANNOTATED, QRS, P, T
from xecg.signal.wfdb import read_annotations

from .files import marks, write_record

RR = 200


def beat(start, *, p=True):
    """The marks of one beat as the annotators set them: no T onset."""
    waves = [(40, "("), (50, "N"), (60, ")"), (110, "t"), (130, ")")]
    if p:
        waves = [(0, "("), (10, "p"), (20, ")"), *waves]
    return [(start + sample, symbol) for sample, symbol in waves]


def beats_at(*numbers, p=True):
    return marks(*(mark for number in numbers for mark in beat(200 + RR * number, p=p)))


def write_qtdb(folder, waves, rhythm=None):
    atr = None if rhythm is None else marks((0, "+"), (250, "N"), notes=(rhythm, ""))
    annotations = {"q1c": waves} | ({} if atr is None else {"atr": atr})
    write_record(folder, "sel100", leads=("MLII", "V5"), seconds=12.0, **annotations)
    return get_database("qtdb", folder).read("sel100")


def test_both_leads_share_codes_within_the_marked_stretch(tmp_path):
    labelled = write_qtdb(tmp_path, beats_at(0, 1, 2, 3))
    assert set(labelled.codes) == {"MLII", "V5"}
    codes = labelled.codes["MLII"]
    assert [codes[i] for i in (210, 250, 320)] == [P, QRS, T]
    marked = np.flatnonzero(codes != NOT_ANNOTATED)
    assert (marked[0], marked[-1]) == (200, 200 + 3 * RR + 130)
    assert len(marked) == marked[-1] - marked[0] + 1


def test_beats_between_marked_ones_are_not_taken_for_none(tmp_path):
    codes = write_qtdb(tmp_path, beats_at(0, 1, 2, 5, 6, 8)).codes["V5"]
    for last, following in ((2, 5), (6, 8)):
        end, start = 200 + RR * last + 130, 200 + RR * following
        assert (codes[end + 1 : start] == NOT_ANNOTATED).all()
        assert codes[end] == T
        assert codes[start] == P


def test_a_single_beat_has_no_stretch_between():
    assert unmarked_stretches(beats_at(0)) == []
    assert unmarked_stretches(marks()) == []


@pytest.mark.parametrize(("rhythm", "known"), [("(AFIB", True), ("(N", False), (None, False)])
def test_no_p_is_knowledge_in_af_only(tmp_path, rhythm, known):
    codes = write_qtdb(tmp_path, beats_at(0, 1, 2, p=False), rhythm).codes
    assert bool(codes) == known
    assert not any(P in lead for lead in codes.values())


def test_rhythm_and_beats_where_they_were_annotated(tmp_path):
    labelled = write_qtdb(tmp_path, beats_at(0, 1), "(AFIB")
    assert [span.af for span in labelled.rhythms] == [1]
    assert labelled.r_peaks.tolist() == [250]


def test_neither_without_reference_annotations(tmp_path):
    labelled = write_qtdb(tmp_path, beats_at(0, 1))
    assert [(span.label, span.af) for span in labelled.rhythms] == [("unlabelled", -1)]
    assert labelled.r_peaks is None


@pytest.mark.parametrize(
    ("record", "origin", "person"),
    [
        ("sel100", "100", "mitdb-100"),
        ("sel232", "232", "mitdb-232"),
        ("sel301", "301", "qtdb-sel301"),
        ("sel803", "803", "svdb-803"),
        ("sel844", "844", "afpdb-p13"),
        ("sel16265", "mqt2", "qtdb-sel16265"),
        ("sel14046", "14046", "qtdb-sel14046"),
        ("sele0121", "e0121", "qtdb-sele0121"),
        ("sele0122", "e0122", "qtdb-sele0121"),
    ],
)
def test_persons(record, origin, person):
    comments = ("Digoxin", f"Produced by xform from record {origin}, beginning at 7:00.000")
    assert qtdb_person(record, comments) == person


def test_real_counts(real_database):
    folder = real_database("qtdb")
    database = get_database("qtdb", folder)
    records = database.records()
    marked = {record: read_annotations(folder / record, "q1c") for record in records}
    p_waves = {record: found.symbols.count("p") for record, found in marked.items()}
    assert len(records) == 105
    assert sum(p_waves.values()) == 3194
    assert sum(map(bool, p_waves.values())) == 98

    labelled = {record: database.read(record) for record in records}
    persons = collections.Counter(x.person.split("-")[0] for x in labelled.values())
    assert persons == {"mitdb": 15, "svdb": 13, "qtdb": 77}
    assert len({x.person for x in labelled.values()}) == 102
    # P on few beats or none, and no AF annotated: nothing is known of P.
    assert {record for record, x in labelled.items() if not x.codes} == {
        "sel102", "sel104", "sel232", "sel310", "sel35", "sel36", "sel37", "sel50",
    }  # fmt: skip
    assert QRS in labelled["sel221"].codes["MLII"]
    assert P not in labelled["sel221"].codes["MLII"]
    in_af = {record for record, x in labelled.items() if any(s.af == 1 for s in x.rhythms)}
    assert in_af == {"sel221"}
    shares = [
        (x.codes[x.recording.leads[0]] != NOT_ANNOTATED).mean()
        for x in labelled.values() if x.codes
    ]  # fmt: skip
    assert max(shares) < 0.1
