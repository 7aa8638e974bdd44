import csv

import numpy as np
import pytest

from xecg.data.databases import get_database
from xecg.data.windowing import age_and_sex
from xecg.errors import DataError, RecordError

from .files import write_record

ROWS = """ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_lr,filename_hr
1,15709.0,56.0,1,"{'NORM': 100.0, 'SR': 0.0}",3,records100/00000/00001_lr,records500/00000/00001_hr
2,13243.0,56.0,0,"{'AFIB': 0.0}",2,records100/00000/00002_lr,records500/00000/00002_hr
3,13243.0,56.0,1,"{'AFIB': 0.0, 'AFLT': 0.0}",2,records100/00000/00003_lr,records500/00000/00003_hr
4,,,0,"{'AFLT': 100.0}",2,records100/00000/00004_lr,records500/00000/00004_hr
5,7.0,56.0,1,"{'IMI': 80.0}",2,records100/00000/00005_lr,records500/00000/00005_hr
"""


@pytest.fixture
def published(tmp_path):
    (tmp_path / "ptbxl_database.csv").write_text(ROWS)
    for number in range(1, 6):
        leads = ("I", "II", "V1")
        write_record(tmp_path / "records100" / "00000", f"{number:05d}_lr", leads=leads)
    return tmp_path


def test_statements_and_patients(published):
    database = get_database("ptbxl", published)
    labelled = [database.read(record) for record in database.records()]
    assert [(x.rhythms[0].label, x.rhythms[0].af) for x in labelled] == [
        ("SR", 0), ("AFIB", 1), ("AFLT", -1), ("AFLT", -1), ("other", 0),
    ]  # fmt: skip
    assert [x.person[6:] for x in labelled] == [
        "patient-15709", "patient-13243", "patient-13243", "ecg-4", "patient-7",
    ]  # fmt: skip


def test_age_and_sex(published):
    database = get_database("ptbxl", published)
    found = [age_and_sex(database.read(name).recording.comments) for name in database.records()]
    assert found[1:3] == [(56, "M"), (56, "F")]
    assert np.isnan(found[3][0])


def test_records_of_500_hz_where_they_are(published):
    (published / "records500").mkdir()
    records = get_database("ptbxl", published).records()
    assert records[0] == "records500/00000/00001_hr"


def test_ecgs_without_statements(published):
    write_record(published / "records100" / "00000", "00503_lr")
    (published / "records.csv").write_text(
        "record,label\nrecords100/00000/00503_lr,not_af\nrecords100/00000/00002_lr,not_af\n"
    )
    database = get_database("ptbxl", published)
    assert len(database.records()) == 6
    labelled = database.read("records100/00000/00503_lr")
    assert (labelled.person, labelled.rhythms[0].af) == ("ptbxl-ecg-503", 0)
    assert database.read("records100/00000/00002_lr").rhythms[0].af == 1  # the statements count


@pytest.mark.parametrize("codes", ["", "SR", "[1]", "{'SR'"])
def test_statements_that_cannot_be_read(published, codes):
    table = published / "ptbxl_database.csv"
    table.write_text(ROWS.replace("{'AFIB': 0.0}", codes))
    with pytest.raises(RecordError, match="00002_lr"):
        get_database("ptbxl", published).read("records100/00000/00002_lr")


@pytest.mark.parametrize("name", ["scp_codes", "patient_id", "filename_lr"])
def test_a_table_without_a_column(published, name):
    (published / "ptbxl_database.csv").write_text(ROWS.replace(name, "x"))
    database = get_database("ptbxl", published)
    with pytest.raises(DataError, match=name):
        [database.read(record) for record in database.records()]


def test_real_counts(real_database):
    database = get_database("ptbxl", real_database("ptbxl"))
    records = database.records()
    assert len(records) == 5633
    with (database.folder / "ptbxl_database.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows[::50]:
        labelled = database.read(row["filename_lr"])
        assert labelled.person == f"ptbxl-patient-{float(row['patient_id']):.0f}"
        flutter, af = ("AFLT" in row["scp_codes"]), ("AFIB" in row["scp_codes"])
        assert labelled.rhythms[0].af == (-1 if flutter else int(af))
