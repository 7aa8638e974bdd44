"""Which records paths stand for, and the windows of one."""

import os
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xecg.errors import RecordError
from xecg.inference.records import Made, Problem, list_records, read_windows
from xecg.signal.preprocessing import Preprocessing
from xecg.signal.synthetic import synthesize
from xecg.signal.wfdb import read_recording

PREPROCESSING = Preprocessing()


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".hea").write_text(f"{path.name} 1 250 10\n{path.name}.dat 16\n")
    return path


def test_records_go_by_their_names_in_the_order_asked_for(tmp_path):
    for name in ("b/2", "b/1", "a/3"):
        touch(tmp_path / name)
    records, failures = list_records([tmp_path / "b", tmp_path / "a" / "3.hea"])
    assert records == {"1": tmp_path / "b/1", "2": tmp_path / "b/2", "3": tmp_path / "a/3"}
    assert list(records) == ["1", "2", "3"]
    assert failures == {}


def test_records_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("ward/100", "home/100", "home/101"):
        touch(tmp_path / name)
    assert set(list_records([tmp_path])[0]) == {"ward/100", "home/100", "101"}


def test_as_many_folders_are_named_as_it_takes(tmp_path):
    for name in ("p1/day/100", "p2/day/100"):
        touch(tmp_path / name)
    assert set(list_records([tmp_path])[0]) == {"p1/day/100", "p2/day/100"}


def test_a_record_named_twice_is_listed_once(tmp_path, monkeypatch):
    record = touch(tmp_path / "a" / "100")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    paths = [record, Path("a/100.hea"), Path("link"), Path("a/../a")]
    assert list_records(paths)[0] == {"100": record}


def test_a_linked_file_keeps_its_name(tmp_path):
    stored = touch(tmp_path / "objects" / "e3b0c442")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "100.hea").symlink_to(stored.with_suffix(".hea"))
    assert list(list_records([tmp_path / "records"])[0]) == ["100"]


def test_a_path_without_records_does_not_stop_the_others(tmp_path):
    touch(tmp_path / "a" / "100")
    (tmp_path / "empty").mkdir()
    nowhere, empty = tmp_path / "nowhere", tmp_path / "empty"
    records, failures = list_records([nowhere, tmp_path / "a", empty])
    assert list(records) == ["100"]
    assert set(failures) == {str(nowhere), str(empty)}
    assert "no ECG" in failures[str(empty)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.sets(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join), min_size=1
    )
)
def test_names_are_unique_and_end_the_paths_of_their_records(tmp_path_factory, places):
    folder = tmp_path_factory.mktemp("tree")
    for place in places:
        touch(folder / place)
    records, _ = list_records([folder])
    assert sorted(records.values()) == sorted(folder / place for place in places)
    for name, path in records.items():
        assert PurePosixPath(path).match(name)


@pytest.mark.parametrize("sampling_rate", [100.0, 128.0, 257.5, 300.0, 500.0, 1000.0])
def test_windows_of_any_rate_cover_the_record_and_end_with_it(write_record, sampling_rate):
    path = write_record("r", sampling_rate=sampling_rate, duration_s=24.0)
    windows = read_windows(path, PREPROCESSING)
    assert windows.start_s.tolist() == [0, 10, 14]
    assert windows.signals.shape == (3, 2500)
    assert windows.signals.dtype == np.float32
    assert windows.signals.min(axis=1).tolist() == [0, 0, 0]
    assert windows.signals.max(axis=1).tolist() == [1, 1, 1]
    assert windows.left_out == ""


@pytest.mark.parametrize("sampling_rate", [100.0, 360.0, 1000.0])
def test_r_peaks_are_where_the_beats_are_in_every_window(write_record, sampling_rate):
    path = write_record("r", sampling_rate=sampling_rate, duration_s=24.0)
    truth = synthesize("N", sampling_rate=sampling_rate, duration_s=24.0, seed=7)
    true_s = truth.r_peaks / sampling_rate
    windows = read_windows(path, PREPROCESSING)
    for start_s, peaks in zip(windows.start_s, windows.r_peaks, strict=True):
        found_s = start_s + peaks / 250
        inner = true_s[(true_s > start_s + 0.1) & (true_s < start_s + 9.9)]
        assert np.abs(inner[:, None] - found_s).min(axis=1).max() < 0.04
        assert abs(len(found_s) - len(inner)) <= 2
        assert np.all((peaks >= 0) & (peaks < 2500))


@pytest.mark.parametrize("sampling_rate", [250.0, 300.0, 500.0, 1000.0])
def test_ten_seconds_are_enough_and_a_sample_less_is_not(write_record, sampling_rate):
    n = round(10 * sampling_rate)
    whole = write_record("whole", sampling_rate=sampling_rate, n_samples=n)
    assert len(read_windows(whole, PREPROCESSING)) == 1
    short = write_record("short", sampling_rate=sampling_rate, n_samples=n - 1)
    with pytest.raises(RecordError, match=r"'short' lasts 9\.9\d* s"):
        read_windows(short, PREPROCESSING)


@pytest.mark.parametrize("sampling_rate", [99.0, 1001.0])
def test_a_sampling_rate_out_of_range_is_refused(write_record, sampling_rate):
    path = write_record("r", sampling_rate=sampling_rate, duration_s=12.0)
    with pytest.raises(RecordError, match=f"'r'.*100 to 1000 Hz, found {sampling_rate}"):
        read_windows(path, PREPROCESSING)


def test_filtered_windows_keep_the_unit_of_the_lead(write_record):
    path = write_record("r", unit="uV")
    windows = read_windows(path, PREPROCESSING)
    filtered = PREPROCESSING.filter_and_resample(read_recording(path).samples[0], 250.0)
    assert windows.unit == "uV"
    np.testing.assert_array_equal(windows.filtered[0], filtered)
    np.testing.assert_array_equal(windows.signals, PREPROCESSING.scale(windows.filtered))


def test_the_lead_is_the_one_named_or_the_preferred_one(write_record):
    path = write_record("r", leads=("V1", "II"))
    recording = read_recording(path)
    for asked, index in ((None, 1), ("v1", 0), ("II", 1)):
        windows = read_windows(path, PREPROCESSING, lead=asked)
        assert windows.lead == recording.leads[index]
        np.testing.assert_array_equal(windows.raw, recording.samples[index])
    with pytest.raises(RecordError, match="no lead 'V6'; its leads are V1, II"):
        read_windows(path, PREPROCESSING, lead="V6")


def test_windows_that_cannot_be_used_are_named(write_record):
    path = write_record("r", duration_s=65.0, flat_s=(9.5, 30.5), missing_s=(52.0, 52.1))
    windows = read_windows(path, PREPROCESSING)
    assert windows.start_s.tolist() == [0, 30, 40, 55]
    assert windows.left_out == (
        "3 of 7 windows cannot be used (2 flat line, 1 missing samples), first at 10 s"
    )


def test_a_record_of_which_nothing_can_be_used_is_refused(write_record):
    path = write_record("r", flat_s=(0, 10))
    with pytest.raises(
        RecordError, match=r"'r', lead II: 1 of 1 windows .*flat line.*first at 0 s"
    ):
        read_windows(path, PREPROCESSING)


def test_a_record_goes_by_the_name_it_is_given(write_record):
    path = write_record("r")
    assert read_windows(path, PREPROCESSING).record == "r"
    assert read_windows(path, PREPROCESSING, record="home/r").record == "home/r"


def test_all_problems_are_written_down_but_only_failures_count(tmp_path, capsys):
    problems = [
        Problem("nowhere", "no such folder", True),
        Problem("a", 'short, "9 s"', True),
        Problem("b", "1 of 3 windows cannot be used", False),
    ]
    made = Made(tmp_path, [], problems)
    assert list(made.failures) == ["nowhere", "a"]
    made.report(tmp_path / "errors.csv")
    assert capsys.readouterr().err.splitlines() == [
        "xecg: nowhere: no such folder",
        'xecg: a: short, "9 s"',
        "xecg: b: 1 of 3 windows cannot be used",
    ]
    table = pd.read_csv(tmp_path / "errors.csv")
    assert table.to_dict("list") == {
        "record": ["nowhere", "a", "b"],
        "reason": ["no such folder", 'short, "9 s"', "1 of 3 windows cannot be used"],
    }


def test_without_problems_no_file_of_an_earlier_run_is_left(tmp_path):
    (tmp_path / "errors.csv").write_text("record,reason\nold,old\n")
    Made(tmp_path, [], []).report(tmp_path / "errors.csv")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_text_costs_its_record(write_record):
    """Bytes of a file's name that are no UTF-8 are escaped in the results and in the reason."""
    good = write_record("good")
    bad = Path(os.fsdecode(os.fsencode(good.parent) + b"/bad\xff.hea"))
    bad.write_text("")
    records, failures = list_records([good.parent])
    assert ([*records], failures) == (["bad\\udcff", "good"], {})
    with pytest.raises(RecordError) as caught:
        read_windows(bad, PREPROCESSING)
    assert "bad\\udcff.hea: cannot be read" in str(caught.value)
