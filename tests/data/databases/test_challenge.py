import collections
import csv

import pytest

from xecg.data.databases import get_database
from xecg.data.databases.challenge import rhythm_of
from xecg.errors import RecordError

from .files import write_record

AF, AFL, SR, PVC = "164889003", "164890007", "426783006", "427172004"


@pytest.mark.parametrize(
    ("codes", "label", "af"),
    [
        ({AF}, "atrial fibrillation", 1),
        ({AF, PVC}, "atrial fibrillation", 1),
        ({AFL}, "atrial flutter", -1),
        ({AF, AFL}, "atrial fibrillation and flutter", -1),
        ({SR, PVC}, "sinus rhythm", 0),
        ({PVC}, "other", 0),
        (set(), "other", 0),
    ],
)
def test_what_diagnoses_say_about_af(codes, label, af):
    assert rhythm_of(codes) == (label, af)


@pytest.mark.parametrize(
    ("lines", "af"),
    [
        *[((f"Dx: {code}",), 1) for code in ("282825002", "426749004", "314208002", "440059007")],
        *[((f"Dx: {code}",), -1) for code in ("195080001", "427665004", "720448006")],
        *[((f"Dx{text}",), 1) for text in (f"  {AF}", f"= {AF};{PVC}", f": {PVC} {AF}")],
        *[((f"dx: {text}",), 1) for text in (f"{PVC}|{AF}", f"[{AF}, {PVC}]", f"{AF}.0")],
        ((f"Dx: {PVC}", "Rx: Unknown", f"Dx: {AF}"), 1),
        ((f"Dx: {AF}", f"Dx: {AFL}"), -1),
        *[((f"Dx: {text}",), None) for text in ("AF", "Unknown", "-", "房颤", "I48", "164889004")],
        *[((f"Dx: {SR}, {text}",), None) for text in ("Unknown", f"{AF}?", f"!{AF}", "1.6e8")],
        ((f"Dx: {SR},", f"{AF}, {PVC}"), 1),
        ((f"Dx: {SR}", "Dx: AF"), None),
        *[(("Dx:", text), None) for text in (f"- {AF}", f"1. {AF}", f"({AF})", "AF")],
        *[((f"Dx: {SR}", f"{name}: {AF}"), None) for name in ("Dx2", "Diagnosis", "- and")],
        *[((f"Dx: {text}{AF}",), None) for text in ("-", "~", f"{SR}, -", f"{SR} -")],
        *[((f"Dx: {text}",), 1) for text in (f"{SR}-{AF}", f"{SR} - {AF}", f"- {AF}")],
        (("Dx:", "History: palpitations", "Age: 60"), 0),
        ((f"Diagnosis: {SR}",), None),
    ],
)
def test_diagnoses_as_people_write_them(tmp_path, lines, af):
    """What cannot be read is never "not AF": null stands for a record that is refused."""
    write_record(tmp_path, "A1")
    with (tmp_path / "A1.hea").open("a", encoding="utf-8") as file:
        file.writelines(f"# {line}\n" for line in lines)
    database = get_database("challenge", tmp_path)
    if af is None:
        with pytest.raises(RecordError, match="SNOMED CT codes"):
            database.read("A1")
    else:
        assert database.read("A1").rhythms[0].af == af


def test_records_anywhere_below_the_root(tmp_path):
    write_record(tmp_path / "ptb-xl" / "g1", "HR1", comments=(f"Dx: {SR}",))
    write_record(tmp_path / "georgia", "E1", comments=("Age: 60", f"Dx: {PVC}, {AF}"))
    write_record(tmp_path, "A1", comments=("Source: CPSC2018", f"Dx: {AFL}"))
    database = get_database("challenge", tmp_path)
    assert database.records() == ["A1", "georgia/E1", "ptb-xl/g1/HR1"]
    labelled = [database.read(record) for record in database.records()]
    assert [x.rhythms[0].af for x in labelled] == [-1, 1, 0]
    assert [x.source for x in labelled] == ["CPSC2018", "", ""]
    assert [x.person for x in labelled] == ["", "", ""]


def test_a_header_without_diagnoses(tmp_path):
    write_record(tmp_path, "A1", comments=("Age: 60",))
    with pytest.raises(RecordError, match=r"A1: expected a comment '# Dx"):
        get_database("challenge", tmp_path).read("A1")


def test_real_labels_agree_with_the_table_beside_them(real_database):
    folder = real_database("xfusemap")
    with (folder / "labels.csv").open() as file:
        table = {line["record"]: line for line in csv.DictReader(file)}
    database = get_database("challenge", folder)
    records = database.records()
    assert len(records) == 763
    afs = collections.Counter()
    for record in records:
        labelled, line = database.read(record), table[record.rsplit("/", 1)[-1]]
        (span,) = labelled.rhythms
        assert (span.af == 1, span.af == -1) == (line["af"] == "1", line["flutter"] == "1")
        assert labelled.source == line["source"]
        afs[span.af] += 1
    assert afs == {1: 256, 0: 507}


@pytest.mark.parametrize("place", ["xfusemap", ".", "ptbxl"])
def test_patients_of_ptb_xl_are_those_of_its_table(tmp_path, place):
    for name in ("HR00123", "HR00124", "A0001"):
        write_record(tmp_path / "xfusemap" / "records", name, comments=["Dx: 164889003"])
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "xfusemap_patients.csv").write_text("record,patient_id\nHR00123,437.0\n")
    database = get_database("challenge", tmp_path / "xfusemap")
    assert len(database.tables()) == 1
    persons = [database.read(record).person for record in database.records()]
    assert persons == ["", "ptbxl-patient-437", "ptbxl-ecg-124"]
