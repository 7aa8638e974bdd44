import collections

import pytest

from xecg.data.databases import get_database
from xecg.errors import DataError, RecordError

from .files import write_record

LABELS = "A00001,N\nA00002,A\nA00003,~\nA00004,O\n"


@pytest.fixture
def unpacked(tmp_path):
    for i in range(1, 5):
        write_record(tmp_path / "training2017", f"A0000{i}", leads=("ECG",))
    (tmp_path / "training2017" / "REFERENCE-v3.csv").write_text(LABELS)
    return tmp_path


@pytest.mark.parametrize(
    ("record", "label", "af"),
    [("A00001", "N", 0), ("A00002", "A", 1), ("A00003", "~", -1), ("A00004", "O", 0)],
)
def test_a_label_holds_for_the_whole_record(unpacked, record, label, af):
    labelled = get_database("cinc2017", unpacked).read(record)
    (span,) = labelled.rhythms
    assert (span.start_s, span.stop_s, span.label, span.af) == (0.0, 10.0, label, af)
    assert labelled.person == ""
    assert labelled.r_peaks is None
    assert not labelled.codes


def test_the_root_may_be_the_folder_of_records(unpacked):
    database = get_database("cinc2017", unpacked / "training2017")
    assert database.records() == ["A00001", "A00002", "A00003", "A00004"]


def test_the_third_revision_of_the_labels_is_preferred_even_above_the_records(unpacked):
    (unpacked / "training2017" / "REFERENCE-v3.csv").rename(unpacked / "REFERENCE-v3.csv")
    (unpacked / "training2017" / "REFERENCE.csv").write_text("A00002,N\n")
    for root in (unpacked, unpacked / "training2017"):
        assert get_database("cinc2017", root).read("A00002").rhythms[0].af == 1
    (unpacked / "REFERENCE-v3.csv").unlink()
    assert get_database("cinc2017", unpacked).read("A00002").rhythms[0].af == 0


def test_records_as_served_one_by_one(tmp_path):
    write_record(tmp_path / "training" / "A00", "A00001", leads=("ECG",))
    (tmp_path / "REFERENCE-v3.csv").write_text("A00001,A\n")
    assert get_database("cinc2017", tmp_path).read("A00001").rhythms[0].af == 1


def test_records_without_labels_are_the_wrong_folder(unpacked):
    (unpacked / "training2017" / "REFERENCE-v3.csv").unlink()
    with pytest.raises(DataError, match=r"expected REFERENCE-v3\.csv or REFERENCE\.csv"):
        get_database("cinc2017", unpacked)


def test_a_label_that_is_not_the_challenges(unpacked):
    (unpacked / "training2017" / "REFERENCE-v3.csv").write_text("A00001,AF\n")
    database = get_database("cinc2017", unpacked)
    with pytest.raises(DataError, match="labels 'AF' are not"):
        database.records()
    with pytest.raises(RecordError, match="expected a label"):
        database.read("A00001")


def test_real_counts(real_database):
    database = get_database("cinc2017", real_database("cinc2017"))
    records = database.records()
    assert len(records) == 8528
    assert all((database.folder / f"{record}.hea").is_file() for record in records)
    lines = database.reference.read_text().split()
    counts = collections.Counter(line.split(",")[1] for line in lines)
    assert counts == {"A": 758, "N": 5076, "O": 2415, "~": 279}
    labelled = database.read("A00004")
    assert labelled.rhythms[0].af == 1
    assert (labelled.recording.sampling_rate, len(labelled.recording.leads)) == (300.0, 1)
