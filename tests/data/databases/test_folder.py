import pytest

from xecg.data.databases import get_database
from xecg.errors import DataError, RecordError

from .files import write_record


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "clinic"
    for name in ("1", "2", "3"):
        write_record(folder / "ecgs", name)
    (folder / "records.csv").write_text(
        "record,label,person\necgs/1,AF,Ada\necgs/2.hea,SR,Bo\necgs/3,O,\n"
    )
    return folder


def test_labels_and_persons(own):
    database = get_database("folder", own)
    labelled = [database.read(record) for record in database.records()]
    assert [x.rhythms[0].af for x in labelled] == [1, 0, 0]
    assert [x.rhythms[0].label for x in labelled] == ["AF", "SR", "O"]
    assert [x.person for x in labelled] == [
        f"folder:{own.resolve()}/{name}" if name else "" for name in ("Ada", "Bo", "")
    ]


def test_the_meaning_of_labels_and_the_table_are_arguments(own):
    (own / "ecgs" / "labels.csv").write_text("record,label\n1,flimmern\n2,sinus\n3,flattern\n")
    database = get_database(
        "folder", own, table="ecgs/labels.csv", af=["flimmern"], not_af=["sinus"],
        left_out=["flattern"],
    )  # fmt: skip
    assert [database.read(record).rhythms[0].af for record in database.records()] == [1, 0, -1]


def test_unknown_labels_are_listed(own):
    (own / "records.csv").write_text("record,label\necgs/1,AF\necgs/2,VT\n")
    database = get_database("folder", own)
    with pytest.raises(
        DataError, match=r"labels 'VT' .* found 'AF', 'VT'; .*name their meaning by --af"
    ):
        database.records()
    with pytest.raises(RecordError, match="ecgs/2: expected a label"):
        database.read("ecgs/2")


def test_a_label_cannot_mean_two_things(own):
    with pytest.raises(DataError, match="'AF': expected one meaning"):
        get_database("folder", own, left_out=["AF"])


def test_a_missing_table_is_named(own):
    with pytest.raises(DataError, match=r"expected the table labels\.csv in"):
        get_database("folder", own, table="labels.csv")


def test_a_record_of_the_table_that_is_not_there(own):
    (own / "records.csv").write_text("record,label\necgs/9,AF\n")
    with pytest.raises(RecordError, match="9"):
        get_database("folder", own).read("ecgs/9")


def test_records_are_paths_below_the_folder_whatever_the_table_calls_them(own):
    (own / "b" / "ecgs").mkdir(parents=True)
    (own / "b" / "ecgs" / "1.mat.hea").touch()
    (own / "b" / "labels.csv").write_text(
        f"record,label\necgs/1.mat,AF\n../ecgs/1.hea,AF\n{own}/ecgs/2,N\n./../ecgs/3,N\n"
    )
    records = get_database("folder", own, table="b/labels.csv").records()
    assert records == ["b/ecgs/1.mat", "ecgs/1", "ecgs/2", "ecgs/3"]
    (own / "records.csv").write_text("record,label\necgs/1,AF\necgs/1.dat,AF\n")
    with pytest.raises(DataError, match=r"ecgs/.*a second time"):
        get_database("folder", own).records()
    (own / "records.csv").write_text("record,label\n../elsewhere/1,AF\n")
    with pytest.raises(DataError, match="elsewhere/1"):
        get_database("folder", own).records()


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_record_that_links_name_twice_has_no_two_labels(own, link):
    getattr(own / "ecgs" / "9.hea", link)(own / "ecgs" / "1.hea")
    (own / "records.csv").write_text("record,label\necgs/1,AF\necgs/9,N\n")
    with pytest.raises(DataError, match=r"ecgs/.*a second time"):
        get_database("folder", own).records()


@pytest.mark.parametrize("named", ["../elsewhere/1", "..", "ecgs/../../1", "/etc/1"])
def test_records_elsewhere_are_refused(own, named):
    (own / "records.csv").write_text(f"record,label\n{named},AF\n")
    with pytest.raises(DataError, match="expected records below"):
        get_database("folder", own).records()


def test_a_holter_with_several_rhythms(own):
    (own / "records.csv").write_text(
        "record,label,person,start_s,end_s\necgs/1,SR,Ada,4,6\necgs/1,AF,Ada,0,4\n"
    )
    labelled = get_database("folder", own).read("ecgs/1")
    assert [(s.start_s, s.stop_s, s.af) for s in labelled.rhythms] == [(0, 4, 1), (4, 6, 0)]
    assert labelled.person.endswith("/Ada")
