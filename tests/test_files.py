"""Files are there whole or not at all."""

from pathlib import Path

import numpy as np
import pytest

from xecg.files import write_table, write_whole


def test_content_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def full(self: Path, data: bytes) -> int:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_table_has_a_row_per_entry(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_table(path, {"record": ["a,b", "c"], "p": np.array([0.123456789, 1.0], np.float32)})
    assert path.read_text() == 'record,p\n"a,b",0.123457\nc,1\n'


def test_columns_of_different_length_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_table(tmp_path / "t.csv", {"a": [1, 2], "b": [1]})
    assert not list(tmp_path.iterdir())
