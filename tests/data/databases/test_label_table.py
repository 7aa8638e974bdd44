import os

import pytest

from xecg.data.databases.labels import Row, check_labels, read_labels
from xecg.errors import DataError


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        (tmp_path / "records.csv").write_text(text, encoding=encoding)
        return tmp_path / "records.csv"

    return write


def test_columns_in_any_order_with_others_between(table):
    path = table("label,age,record,person\nAF, 70, a/1, Ada\nSR,, 2,\n")
    assert read_labels(path) == {"a/1": Row("AF", "Ada"), "2": Row("SR", "")}


def test_a_table_as_excel_saves_it(table):
    assert read_labels(table("record,label\n1,AF\n", "utf-8-sig")) == {"1": Row("AF")}


def test_a_table_without_a_header(table):
    assert read_labels(table("A1,N\nA2,~\n"), ("record", "label"))["A2"] == Row("~")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a table.*No columns"),
        ("record;label\n1;AF\n", "found 'record;label'; missing record, label"),
        ("record,rhythm\n1,AF\n", "found 'record,rhythm'; missing label"),
        ("record,label\n1,AF\n1,SR\n", "row 2 names record 1 a second time"),
        ("record,label\n1,\n", "row 1 has no label"),
        ("record,label\n1,flutter, typical\n", "double quotes"),
        ("record,label,Person\n1,AF,7\n", "found Person"),
        ("record,label,patient_id\n1,AF,7\n", "found patient_id"),
        ("record,label,Subject ID\n1,AF,7\n", "found Subject ID"),
        ("record,label\n,AF\n", "row 1 has no record"),
    ],
)
def test_what_is_wrong_is_said(table, text, message):
    with pytest.raises(DataError, match=message):
        read_labels(table(text))


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_labels(tmp_path / "records.csv")


def test_a_table_that_is_no_text(tmp_path):
    (tmp_path / "records.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_labels(tmp_path / "records.csv")


def test_a_changed_table_is_read_again(table):
    path = table("record,label\n1,AF\n")
    read_labels(path)
    table("record,label\n1,SR\n")
    os.utime(path, ns=(1, 1))
    assert read_labels(path)["1"].label == "SR"


def test_unknown_labels_are_listed_with_what_to_do(table):
    rows = {"1": Row("AF"), "2": Row("V, T"), "3": Row("?")}
    with pytest.raises(DataError, match=r"labels '\?', 'V, T' are not .* expected 'AF', .*; do"):
        check_labels(table(""), rows, ["AF"], "do")
