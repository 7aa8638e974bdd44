import pytest

from xecg.data.databases import get_database
from xecg.data.synthetic_records import SETTINGS_FILE, SyntheticSettings, synthetic_records
from xecg.errors import ConfigError, DataError

SMALL = SyntheticSettings(persons=2, records_per_person=1, duration_s=10.0)


@pytest.fixture
def folder(tmp_path):
    return synthetic_records(tmp_path / "records", SMALL, progress=False)


def test_makes_records_that_a_database_reads(folder):
    database = get_database("synthetic", folder)
    assert len(database.records()) == 2
    assert database.read(database.records()[0]).recording.duration_s == 10.0


def test_same_settings_reuse_what_is_there(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert synthetic_records(folder, SMALL, progress=False) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_other_settings_are_refused_and_named(folder):
    with pytest.raises(DataError, match=r'"persons": 3.* found .*"persons": 2.*--root .*records'):
        synthetic_records(folder, SyntheticSettings(persons=3), progress=False)


def test_records_of_unknown_settings_are_refused(folder):
    (folder / SETTINGS_FILE).unlink()
    with pytest.raises(DataError, match=r"found no settings\.json"):
        synthetic_records(folder, SMALL, progress=False)


def test_a_setting_out_of_range_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError, match="persons: expected 1"):
        synthetic_records(tmp_path / "records", SyntheticSettings(persons=0), progress=False)
    assert not (tmp_path / "records").exists()
    assert not (tmp_path / "records.partial").exists()
