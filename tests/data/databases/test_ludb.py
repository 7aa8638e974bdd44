import collections

import numpy as np
import pytest

from xecg.data.databases import get_database
from xecg.data.databases import physionet as ludb
from xecg.errors import RecordError
from xecg.signal.waves import NOT_ANNOTATED, QRS, P, T
from xecg.signal.wfdb import read_annotations

from .files import marks, write_record

BEAT = ((500, "("), (510, "p"), (520, ")"), (540, "("), (550, "N"), (560, ")"),
        (600, "("), (620, "t"), (640, ")"))  # fmt: skip
LOWER = ("i", "avr", "v1")


def write_ludb(folder, rhythm, *, without=""):
    waves = BEAT[3:] if without == "p" else BEAT
    comments = ("<age>: 51", "<diagnoses>:", *([f"Rhythm: {rhythm}."] if rhythm else []))
    write_record(
        folder / "data", "17", leads=LOWER, comments=comments,
        **{lead: marks(*waves) for lead in LOWER},
    )  # fmt: skip
    return get_database("ludb", folder)


def test_waves_of_each_lead_under_its_standard_name(tmp_path):
    labelled = write_ludb(tmp_path, "Sinus rhythm").read("17")
    assert labelled.person == "ludb-17"
    assert labelled.recording.leads == ("I", "aVR", "V1")
    assert set(labelled.codes) == {"I", "aVR", "V1"}
    codes = labelled.codes["aVR"]
    assert [codes[i] for i in (510, 550, 620)] == [P, QRS, T]
    assert (codes[:500] == NOT_ANNOTATED).all()
    assert (codes[641:] == NOT_ANNOTATED).all()
    assert (codes[500:641] != NOT_ANNOTATED).all()


@pytest.mark.parametrize(
    ("rhythm", "af"),
    [
        ("Atrial fibrillation", 1),
        ("Atrial flutter, typical", -1),
        ("Sinus rhythm", 0),
        ("Irregular sinus rhythm", 0),
    ],
)
def test_rhythm_from_the_header(tmp_path, rhythm, af):
    (span,) = write_ludb(tmp_path, rhythm).read("17").rhythms
    assert (span.label, span.af, span.start_s, span.stop_s) == (rhythm, af, 0.0, 10.0)


def test_a_header_without_a_rhythm(tmp_path):
    with pytest.raises(RecordError, match="#Rhythm"):
        write_ludb(tmp_path, "").read("17")


@pytest.mark.parametrize("rhythm", ["Atrial fibrillation", "Atrial flutter, typical"])
def test_no_p_in_af_and_flutter_is_knowledge(tmp_path, rhythm):
    codes = write_ludb(tmp_path, rhythm, without="p").read("17").codes
    assert all(QRS in lead and P not in lead for lead in codes.values())
    assert len(codes) == 3


def test_no_p_in_sinus_rhythm_is_none(tmp_path):
    assert not write_ludb(tmp_path, "Sinus rhythm", without="p").read("17").codes


def test_real_marks_rhythms_and_codes(real_database, monkeypatch):
    marked = collections.Counter()

    def counting(path, extension):
        annotations = read_annotations(path, extension)
        marked.update(annotations.symbols)
        return annotations

    monkeypatch.setattr(ludb, "read_annotations", counting)
    database = get_database("ludb", real_database("ludb"))
    labelled = {record: database.read(record) for record in database.records()}
    assert (marked["p"], marked["N"], marked["t"]) == (16797, 21965, 19661)
    assert len(labelled) == len({x.person for x in labelled.values()}) == 200
    afs = collections.Counter(x.rhythms[0].af for x in labelled.values())
    assert afs == {1: 15, -1: 3, 0: 182}
    # Third-degree AV block with a pacemaker, and atrial pacing: P waves that nobody marked.
    without = {record for record, x in labelled.items() if not x.codes}
    assert without == {"104", "111", "34", "45", "74", "90"}
    with_codes = [x for x in labelled.values() if x.codes]
    assert all(set(x.codes) == set(ludb.LEADS) for x in with_codes)
    assert all((P in x.codes["II"]) == (x.rhythms[0].af == 0) for x in with_codes)
    assert 0.6 < np.mean([x.codes["II"] != NOT_ANNOTATED for x in with_codes]) < 0.8
