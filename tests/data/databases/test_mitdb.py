import numpy as np

from xecg.data.databases import get_database
from xecg.data.databases.physionet import MITDB

from .files import RATE, marks, write_record


def test_rhythms_beats_and_person(tmp_path):
    annotations = marks(
        (50, "+"), (60, "N"), (300, "V"), (500, "+"), (510, "~"), (520, "N"),
        notes=("(N", "", "", "(AFIB", "", ""),
    )  # fmt: skip
    write_record(tmp_path, "202", leads=("MLII", "V1"), atr=annotations)
    labelled = get_database("mitdb", tmp_path).read("202")
    assert labelled.person == "mitdb-201"
    assert labelled.r_peaks.tolist() == [60, 300, 520]
    assert labelled.beat_symbols == ("N", "V", "N")
    assert [(s.label, s.af, s.start_s) for s in labelled.rhythms] == [
        ("unlabelled", -1, 0.0), ("N", 0, 50 / RATE), ("AFIB", 1, 500 / RATE),
    ]  # fmt: skip
    assert not labelled.codes


def test_parts_repeated_in_x_mitdb_are_no_records(tmp_path):
    write_record(tmp_path, "108", atr=marks((10, "N")))
    write_record(tmp_path / "x_mitdb", "x_108", atr=marks((10, "N")))
    assert get_database("mitdb", tmp_path).records() == ["108"]


def test_real_counts(real_database):
    """All 48 records: beats, minutes of AF, and the windows of 10 s of one rhythm."""
    database = get_database("mitdb", real_database("mitdb"))
    records = database.records()
    assert len(records) == 48
    assert len({MITDB.person_of(record) for record in records}) == 47
    n_beats, windows, af_records, af_s = 0, {1: 0, 0: 0}, set(), 0.0
    for record in records:
        labelled = database.read(record)
        n_beats += len(labelled.r_peaks)
        af_s += sum(s.stop_s - s.start_s for s in labelled.rhythms if s.af == 1)
        af_records |= {record for s in labelled.rhythms if s.af == 1}
        for start in np.arange(0, 1800, 10):
            over = {s.af for s in labelled.rhythms if s.start_s < start + 10 and s.stop_s > start}
            if len(over) == 1 and over != {-1}:
                windows[over.pop()] += 1
    assert n_beats == 109494
    assert round(af_s / 60, 1) == 132.6
    assert af_records == {"201", "202", "203", "210", "217", "219", "221", "222"}
    assert windows == {1: 712, 0: 7652}
