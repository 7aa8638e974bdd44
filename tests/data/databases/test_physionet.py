"""Rhythms out of ``.atr``: records in the layouts of afdb, ltafdb and cpsc2021."""

import pytest

from xecg.data.databases import get_database
from xecg.errors import RecordError

from .files import RATE, marks, write_record


def spans(database, record):
    return [(s.label, s.af, s.start_s) for s in database.read(record).rhythms]


def test_afdb(tmp_path):
    rhythm = marks((50, "+"), (500, "+"), (900, "+"), (1500, "+"),
                   notes=("(N", "(AFIB", "(AFL", "(J"))  # fmt: skip
    write_record(tmp_path, "04015", leads=("ECG1", "ECG2"), atr=rhythm, qrs=marks((60, "N")))
    for record in ("00735", "03665"):
        (tmp_path / f"{record}.hea").write_text(f"{record} 0 250 9205760\n")
        (tmp_path / f"{record}.atr").write_bytes((tmp_path / "04015.atr").read_bytes())
    database = get_database("afdb", tmp_path)
    assert database.records() == ["04015"]
    labelled = database.read("04015")
    assert (labelled.person, labelled.r_peaks) == ("afdb-04015", None)
    assert spans(database, "04015") == [
        ("unlabelled", -1, 0.0), ("N", 0, 50 / RATE), ("AFIB", 1, 500 / RATE),
        ("AFL", -1, 900 / RATE), ("J", 0, 1500 / RATE),
    ]  # fmt: skip
    with pytest.raises(RecordError, match="00735"):
        database.read("00735")


def test_ltafdb(tmp_path):
    reference = marks(
        (0, "+"), (60, "N"), (300, '"'), (500, "+"), (800, "V"), (900, "A"),
        notes=("(SBR", "", "MISSB", "(AFIB", "", ""),
    )  # fmt: skip
    for record in ("00", "122"):
        write_record(tmp_path, record, atr=reference, qrs=marks((60, "N"), (2400, "N")))
    database = get_database("ltafdb", tmp_path)
    assert database.records() == ["00", "122"]
    labelled = database.read("122")
    assert (labelled.person, labelled.beat_symbols) == ("ltafdb-122", ("N", "V", "A"))
    assert spans(database, "122") == [("SBR", 0, 0.0), ("AFIB", 1, 500 / RATE)]
    assert labelled.rhythms[-1].stop_s == 900 / RATE


@pytest.mark.parametrize(
    ("diagnosis", "changes", "expected"),
    [
        ("non atrial fibrillation", (), [("N", 0, 0.0)]),
        (
            "paroxysmal atrial fibrillation",
            ("(AFIB", "(N", "(AFL", "(N"),
            [
                ("N", 0, 0.0),
                ("AFIB", 1, 1.0),
                ("N", 0, 2.0),
                ("AFL", -1, 3.0),
                ("N", 0, 4.0),
            ],
        ),
        ("persistent atrial fibrillation", ("(AFIB",), [("unlabelled", -1, 0.0), ("AFIB", 1, 1.0)]),
        ("", (), [("unlabelled", -1, 0.0)]),
    ],
)
def test_cpsc2021(tmp_path, diagnosis, changes, expected):
    at = [(round(RATE * i), "+") for i in range(1, len(changes) + 1)]
    reference = marks(*at, (2000, "N"), notes=(*changes, ""))
    for place, record in (("Training_set_I", "data_9_1"), ("Training_set_II", "data_61_3")):
        write_record(
            tmp_path / place,
            record,
            leads=("I", "II"),
            comments=[diagnosis] * bool(diagnosis),
            atr=reference,
        )
    database = get_database("cpsc2021", tmp_path)
    assert database.records() == ["Training_set_I/data_9_1", "Training_set_II/data_61_3"]
    assert database.read("Training_set_II/data_61_3").person == "cpsc2021-61"
    assert spans(database, "Training_set_II/data_61_3") == expected
    assert get_database("cpsc2021", tmp_path / "Training_set_I").records() == ["data_9_1"]
