"""svdb, afpdb and aftdb: as published, and with a table of labelled stretches beside them."""

import csv

import pytest

from xecg.data.databases import get_database
from xecg.errors import DataError

from .files import marks, write_record


def test_published_svdb_has_beats_and_no_rhythm(tmp_path):
    write_record(tmp_path, "800", leads=("ECG1", "ECG2"), atr=marks((60, "N"), (300, "S")))
    labelled = get_database("svdb", tmp_path).read("800")
    assert [(s.af, s.label) for s in labelled.rhythms] == [(-1, "unlabelled")]
    assert labelled.beat_symbols == ("N", "S")


def test_published_afpdb_has_people_without_af(tmp_path):
    for name in ("n01", "p01", "p02", "p02c", "t01"):
        write_record(tmp_path, name, qrs=marks((60, "N")))
    write_record(tmp_path / "old", "p02")  # replaced by the publishers
    database = get_database("afpdb", tmp_path)
    assert database.records() == ["n01", "p01", "p02", "p02c", "t01"]
    labelled = [database.read(record) for record in database.records()]
    assert [x.rhythms[0].af for x in labelled] == [0, -1, -1, -1, -1]
    assert [x.person[6:] for x in labelled] == ["n01", "p01", "p01", "p01", "t01"]
    assert labelled[0].r_peaks is None  # nobody has audited them


def test_published_aftdb_is_all_af(tmp_path):
    for place in ("learning-set/s01", "learning-set/t01", "test-set-a/a01", "test-set-b/b01"):
        write_record(tmp_path / place.split("/")[0], place.split("/")[1])
    database = get_database("aftdb", tmp_path)
    labelled = {record: database.read(record) for record in database.records()}
    assert [x.rhythms[0].af for x in labelled.values()] == [1, 1, 1, 1]
    persons = {record.split("/")[1]: x.person for record, x in labelled.items()}
    assert persons == {
        "s01": "aftdb-st01", "t01": "aftdb-st01", "a01": "aftdb-a01", "b01": "aftdb-b01",
    }  # fmt: skip


def test_a_table_gives_stretches_and_chooses_records(tmp_path):
    for name in ("800", "801"):
        write_record(tmp_path, name, atr=marks((60, "N")))
    table = tmp_path / "records.csv"
    table.write_text("record,label,start_s,end_s\n800,not_af,0,4\n800,af,6,10\n")
    database = get_database("svdb", tmp_path)
    assert (database.records(), database.tables()) == (["800"], [table])
    spans = database.read("800").rhythms
    assert [(s.start_s, s.stop_s, s.af) for s in spans] == [(0, 4, 0), (6, 10, 1)]
    table.write_text("record,label,start_s,end_s\n800,flutter,0,4\n")
    with pytest.raises(DataError, match="flutter"):
        database.records()


@pytest.mark.parametrize(
    ("name", "records", "seconds", "persons"),
    [
        ("svdb", 74, {0: 127070}, 74),
        ("afpdb", 214, {0: 56090, 1: 4320}, 98),
        ("aftdb", 76, {1: 4430}, 67),
    ],
)
def test_real_counts(real_database, name, records, seconds, persons):
    database = get_database(name, real_database(name))
    labelled = {record: database.read(record) for record in database.records()}
    assert len(labelled) == records
    assert len({x.person for x in labelled.values()}) == persons
    spans = [s for x in labelled.values() for s in x.rhythms]
    found = {af: sum(s.stop_s - s.start_s for s in spans if s.af == af) for af in (0, 1)}
    assert {af: s for af, s in found.items() if s} == seconds
    with database.tables()[0].open() as table:
        named = {row["record"]: row["person"] for row in csv.DictReader(table)}
    named.pop("t100", None)  # which the table gives to t09 and t10, and its number to t99
    assert all(labelled[record].person == person for record, person in named.items())
