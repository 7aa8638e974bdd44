import logging
import threading
import time

import pytest

from xecg.data.prepare import only_one, whole_or_nothing
from xecg.errors import StoreError


def fill(folder, text):
    folder.mkdir()
    (folder / "file").write_text(text)


def interrupted(out):
    with whole_or_nothing(out) as folder:
        fill(folder, "half")
        raise KeyboardInterrupt


def test_appears_when_it_is_whole(tmp_path):
    out = tmp_path / "out"
    with whole_or_nothing(out) as folder:
        fill(folder, "new")
        assert not out.exists()
    assert (out / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_replaces_what_was_there_only_if_all_went_well(tmp_path):
    out = tmp_path / "out"
    fill(out, "old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(out)
    assert (out / "file").read_text() == "old"
    with whole_or_nothing(out) as folder:
        fill(folder, "new")
    assert (out / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_removes_what_a_killed_process_left(tmp_path):
    fill(tmp_path / "out.partial", "half")
    with whole_or_nothing(tmp_path / "out") as folder:
        assert not folder.exists()
        fill(folder, "new")
    assert (tmp_path / "out" / "file").read_text() == "new"


def test_puts_back_what_was_there_if_the_new_one_cannot_be_moved(tmp_path):
    out = tmp_path / "out"
    fill(out, "old")
    with pytest.raises(StoreError, match="cannot be written"), whole_or_nothing(out):
        pass  # nothing was filled, so nothing can be moved
    assert (out / "file").read_text() == "old"


def test_one_after_the_other_and_the_second_says_that_it_waits(tmp_path, caplog):
    out = tmp_path / "below" / "out"
    order = []

    def second():
        with only_one(out) as waited:
            order.append(("second", waited))

    with caplog.at_level(logging.WARNING), only_one(out) as waited:
        thread = threading.Thread(target=second)
        thread.start()
        while "waiting" not in caplog.text:
            time.sleep(0.01)
        order.append(("first", waited))
    thread.join()
    assert order == [("first", False), ("second", True)]
    assert f"{out}: another process is preparing it; waiting" in caplog.text


def test_a_place_that_takes_no_files(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"cannot be written.*another --out"),
        only_one(tmp_path / "file" / "out"),
    ):
        pytest.fail("got a lock")
