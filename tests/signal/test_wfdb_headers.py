import pytest

from xecg.errors import RecordError
from xecg.signal.wfdb import find_records, highest_rate, named_files, record_stem


def write(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.hea").write_text(text)
    return folder / f"{name}.hea"


@pytest.mark.parametrize("name", ["a01", "a01.hea", "a01.dat", "a01.mat"])
def test_a_record_goes_by_any_of_its_files(tmp_path, name):
    write(tmp_path, "a01", "a01 1 250\na01.dat 16\n")
    assert record_stem(tmp_path / name) == tmp_path / "a01"
    assert find_records(tmp_path / name) == [tmp_path / "a01"]


def test_records_are_found_below_a_folder_in_order_without_segments(tmp_path):
    write(
        tmp_path / "p1",
        "whole",
        "# two pieces and a gap\nwhole/3 1 250 300\ns1 100\n~ 100\ns2 100\n",
    )
    write(tmp_path / "p1", "s1", "s1 1 250 100\ns1.dat 16\n")
    write(tmp_path / "p1", "s2", "s2 1 250 100\ns2.dat 16\n")
    write(tmp_path, "alone", "alone 1 250 100\nalone.dat 16\n")
    # a segment's name elsewhere is another record
    write(tmp_path / "p2", "s1", "s1 1 250 100\ns1.dat 16\n")
    found = [record.relative_to(tmp_path).as_posix() for record in find_records(tmp_path)]
    assert found == ["alone", "p1/whole", "p2/s1"]


def test_folder_without_records_is_named(tmp_path):
    with pytest.raises(RecordError, match="no WFDB header"):
        find_records(tmp_path)


@pytest.mark.parametrize(
    "text", ["broken/2 1 250 9\n../up 4\n/ 5\n", "broken/2\n\0/\\ 1\n", "/a\n..\n", ""]
)
def test_a_broken_header_does_not_hide_the_other_records(tmp_path, text):
    header = write(tmp_path, "broken", text)
    write(tmp_path, "whole", "whole 1 250 100\nwhole.dat 16\n")
    (tmp_path / "dangling.hea").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.hea").mkdir()
    found = [record.name for record in find_records(tmp_path)]
    assert found == ["broken", "dangling", "folder", "whole"]
    assert all(size is None for size in named_files(header).values())


def test_record_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"nowhere\.hea"):
        find_records(tmp_path / "nowhere")


def test_named_files_with_their_sizes(tmp_path):
    header = write(tmp_path, "r", "r 2 250 3\nr.dat 16 200 12\nother.dat 16\n# r2.dat\n")
    (tmp_path / "r.dat").write_bytes(b"123456")
    assert named_files(header) == {tmp_path / "r.dat": 6, tmp_path / "other.dat": None}


def test_named_files_of_segments_are_their_headers(tmp_path):
    header = write(tmp_path, "m", "m/2 1 250 6\nm1 3\n~ 3\n")
    assert named_files(header) == {tmp_path / "m1.hea": None}


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("r 1 360 100\nr.dat 212\n", 360),
        ("r 1 250/360 100\nr.dat 212\n", 250),
        ("r 1 257.5(12) 100\nr.dat 16+24\n", 257.5),
        ("r 1\nr.dat 212\n", 250),
        ("r 2 62.5 100\nr.dat 16x4\nr.dat 16x2:3\n", 250),
        ("\n# comment\nr 0 128\n", 128),
    ],
)
def test_highest_rate(tmp_path, text, rate):
    assert highest_rate(write(tmp_path, "r", text)) == rate


def test_highest_rate_of_segments(tmp_path):
    write(tmp_path, "s1", "s1 1 125 100\ns1.dat 16x2\n")
    assert highest_rate(write(tmp_path, "m", "m/2 1 125 200\n~ 100\ns1 100\n")) == 250
