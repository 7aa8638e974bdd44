import pickle

import numpy as np
import pytest

from xecg.data.databases import DATABASES, get_database
from xecg.data.databases.base import LabelledRecording, RhythmSpan
from xecg.errors import ConfigError, DataError, RecordError
from xecg.signal.recording import Recording

from .files import marks, write_record

RECORDING = Recording("r", np.zeros((1, 100)), 100.0, ("II",), ("mV",))


@pytest.mark.parametrize("database", DATABASES.values(), ids=DATABASES)
def test_each_database_says_what_it_is(database):
    assert database.title
    assert database.licence
    assert database.__doc__
    on_physionet = database.url.startswith("https://physionet.org/content/")
    assert on_physionet == (database.name not in ("folder", "synthetic"))
    assert bool(database.citation) == (database.name != "folder")
    assert not on_physionet or database.url.endswith(f"/{database.version}/")


def test_only_ludb_labels_each_lead_by_itself():
    assert {name for name, database in DATABASES.items() if database.leads == "all"} == {"ludb"}


def test_an_unknown_name_lists_the_known(tmp_path):
    with pytest.raises(ConfigError, match=r"mitdb.*'mitbd'"):
        get_database("mitbd", tmp_path)


@pytest.mark.parametrize("name", DATABASES)
class TestWrongRoot:
    def test_nothing(self, name, tmp_path):
        with pytest.raises(DataError, match=rf"{name}: .*missing, found nothing"):
            get_database(name, tmp_path / "missing")

    def test_a_file(self, name, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="found a file"):
            get_database(name, tmp_path / "file")

    def test_an_empty_folder(self, name, tmp_path):
        with pytest.raises(DataError, match="found an empty folder"):
            get_database(name, tmp_path)

    def test_another_folder(self, name, tmp_path):
        (tmp_path / "holidays.jpg").touch()
        (tmp_path / "letters").mkdir()
        with pytest.raises(DataError, match=r"found holidays\.jpg, letters/"):
            get_database(name, tmp_path)


@pytest.mark.parametrize("below", [".", "a", "a/b", "a/b/c"])
def test_records_may_lie_deeper(tmp_path, below):
    write_record(tmp_path / below, "100", atr=marks((10, "N")))
    database = pickle.loads(pickle.dumps(get_database("mitdb", tmp_path)))
    assert database.records() == ["100"]
    assert database.read("100").recording.leads == ("II",)


def test_a_record_that_cannot_be_read_is_a_record_error(tmp_path):
    write_record(tmp_path, "100", atr=marks((10, "N")))
    (tmp_path / "100.dat").unlink()
    with pytest.raises(RecordError, match="100"):
        get_database("mitdb", tmp_path).read("100")


@pytest.mark.parametrize(
    ("start", "stop", "af", "message"),
    [(0, 1, 2, "1, 0 or -1"), (1, 1, 0, "start < stop"), (-1, 1, 0, "0 <= start")],
)
def test_a_span_is_checked(start, stop, af, message):
    with pytest.raises(DataError, match=message):
        RhythmSpan(start, stop, "N", af)


def test_beats_and_symbols_belong_together():
    with pytest.raises(RecordError, match="found 2 beats and 1 symbols"):
        LabelledRecording(RECORDING, r_peaks=np.array([1, 2]), beat_symbols=("N",))


def test_codes_are_as_long_as_the_recording():
    with pytest.raises(RecordError, match=r"shape \(100,\), found \(99,\)"):
        LabelledRecording(RECORDING, codes={"II": np.zeros(99, np.uint8)})
