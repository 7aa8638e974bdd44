import pytest

from xecg.inference import records as progress
from xecg.inference.records import ProgressBar


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_short_work_shows_no_bar(clock, capsys):
    with ProgressBar("work", 3) as bar:
        for _ in range(3):
            bar.windows(4)
            bar.record()
    assert capsys.readouterr().err == ""


def test_long_work_shows_records_and_windows(clock, capsys):
    with ProgressBar("work", 3) as bar:
        bar.windows(4)
        bar.record()
        clock[0] += 2.1
        bar.windows(4)
        bar.record()
        bar.windows(4)
        bar.record()
    shown = capsys.readouterr().err.split("\r")
    assert "work:  33%" in shown[1]
    assert "3/3" in shown[-1]
    assert "12 windows" in shown[-1]
