"""Damaged files are read rightly or refused; ``make fuzz`` runs 10,000 cases."""

from pathlib import Path

import fuzz
import fuzz_targets
import pytest

from xecg.data.databases.labels import Row


def test_damaged_files_are_read_rightly_or_refused():
    counts, problems = fuzz.fuzz(600, names=[*fuzz_targets.READ])
    assert not problems
    assert counts["right"] > 100
    assert counts["refused"] > 100


def test_damaged_stores_weights_checkpoints_and_studies_are_as_they_were_or_refused():
    counts, problems = fuzz.fuzz(200, names=[*fuzz_targets.STORED])
    assert not problems
    assert counts["refused"] > 100


@pytest.mark.parametrize("name", fuzz_targets.STORED)
def test_whole_stores_weights_checkpoints_and_studies_are_read(name, monkeypatch):
    monkeypatch.setattr(fuzz, "mutate", lambda *_: None)
    assert fuzz.run_case(0, [name], [])[0] == "right"


def bad_read(kind):
    """A reader with a fault of some kind, which ``fuzz`` has to see."""

    def read(folder):
        if kind == "raw":
            raise KeyError(kind)
        if kind == "memory":
            raise MemoryError
        if kind == "outside":
            Path("/etc/passwd").read_text()
        return {"r0": Row("AF")}

    return read


@pytest.mark.parametrize("kind", ["raw", "memory", "outside", "wrong"])
def test_faults_of_a_reader_are_seen(monkeypatch, kind):
    opened = []
    fuzz.note_opened(opened)
    target = fuzz_targets.Target(
        fuzz_targets.write_table, bad_read(kind), fuzz_targets._equal, "*.csv"
    )
    monkeypatch.setitem(fuzz.TARGETS, "bad", target)
    monkeypatch.setattr(fuzz, "_good_files", lambda name: ({"records.csv": b"record,label\n"}, {}))
    assert fuzz.run_case(0, ["bad"], opened)[0] == kind
