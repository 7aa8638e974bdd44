import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.errors import ConfigError, RecordError
from xecg.signal.preprocessing import Preprocessing, cut_windows, window_starts
from xecg.signal.wfdb import find_records, read_recording


def noise(duration_s, rate, seed=0):
    return np.random.default_rng(seed).standard_normal(int(duration_s * rate)).astype(np.float32)


@given(st.integers(0, 500), st.integers(1, 60), st.integers(1, 80), st.booleans())
def test_windows_lie_within_the_record_and_none_is_missed(n_samples, window, stride, align_last):
    starts = window_starts(n_samples, window, stride, align_last=align_last)
    assert (np.diff(starts) > 0).all()
    if n_samples < window:
        assert len(starts) == 0
        return
    assert starts[0] == 0
    assert starts[-1] + window <= n_samples
    assert n_samples - (starts[-1] + window) < (1 if align_last else stride)
    regular = starts[:-1] if align_last else starts
    np.testing.assert_array_equal(regular, stride * np.arange(len(regular)))


@given(st.integers(1, 60), st.integers(60, 500))
def test_windows_in_a_row_cover_every_sample_when_the_last_is_aligned(window, n_samples):
    covered = np.zeros(n_samples, dtype=bool)
    for start in window_starts(n_samples, window, window, align_last=True):
        covered[start : start + window] = True
    assert covered.all()


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (1, 0)])
def test_empty_windows_are_refused(window, stride):
    with pytest.raises(ConfigError, match="at least one sample"):
        window_starts(10, window, stride)


@pytest.mark.parametrize("rate", [100.0, 257.5, 300.0, 1000.0])
def test_windows_are_the_filtered_lead_scaled(rate):
    preprocessing = Preprocessing(window_s=4)
    lead = noise(21, rate)
    windows = cut_windows(lead, rate, preprocessing, stride_s=2, align_last=True)
    filtered = preprocessing.filter_and_resample(lead, rate)
    np.testing.assert_array_equal(windows.starts, [*range(0, 4001, 500), len(filtered) - 1000])
    for signal, start in zip(windows.signals, windows.starts, strict=True):
        np.testing.assert_array_equal(signal, preprocessing.scale(filtered[start : start + 1000]))
    assert windows.left_out == {}
    assert len(windows) == 10


def test_windows_touching_missing_samples_are_left_out_and_counted():
    lead = noise(50, 300)
    lead[3 * 300] = np.nan
    lead[20 * 300 - 1 : 20 * 300 + 1] = np.nan  # ends the second window, begins the third
    windows = cut_windows(lead, 300, Preprocessing())
    np.testing.assert_array_equal(windows.starts, [7500, 10_000])
    assert windows.left_out == {"missing samples": 3}
    assert np.isfinite(windows.signals).all()


@given(st.integers(0, 29 * 360 - 1))
def test_one_missing_sample_costs_exactly_the_window_that_holds_it(position):
    lead = noise(29, 360)
    lead[position] = np.nan
    windows = cut_windows(lead, 360, Preprocessing(window_s=2))
    touched = position // 720  # the last second belongs to no window
    assert windows.left_out == ({"missing samples": 1} if touched < 14 else {})
    assert 500 * touched not in windows.starts


def test_flat_windows_are_left_out_and_counted():
    lead = noise(40, 250) + 5
    lead[2500:5000] = 1.5
    windows = cut_windows(lead, 250, Preprocessing())
    np.testing.assert_array_equal(windows.starts, [0, 5000, 7500])
    assert windows.left_out == {"flat line": 1}


@pytest.mark.parametrize("level", [0.0, 3.7, -1e5])
def test_a_constant_lead_gives_no_window(level):
    windows = cut_windows(np.full(5000, level), 250, Preprocessing())
    assert windows.left_out == {"flat line": 2}
    assert windows.signals.shape == (0, 2500)


def test_a_lead_of_missing_samples_gives_no_window():
    windows = cut_windows(np.full(5000, np.nan), 250, Preprocessing())
    assert windows.left_out == {"missing samples": 2}


def test_short_record_is_named():
    with pytest.raises(RecordError, match=r"'A00007' lasts 9\.00 s.*10 s"):
        cut_windows(noise(9, 300), 300, Preprocessing(), record="A00007")


def test_record_that_cannot_be_filtered_is_named():
    with pytest.raises(RecordError, match=r"'slow'.*100 to 1000 Hz"):
        cut_windows(noise(20, 50), 50, Preprocessing(), record="slow")


def test_stride_that_is_no_whole_number_of_samples_is_refused():
    with pytest.raises(ConfigError, match="stride_s"):
        cut_windows(noise(20, 250), 250, Preprocessing(), stride_s=0.0101)


@pytest.mark.parametrize("name", ["cinc2017", "ludb", "mitdb", "qtdb", "xfusemap"])
def test_windows_of_a_real_record(real_database, name):
    recording = read_recording(find_records(real_database(name))[0])
    windows = cut_windows(recording.lead(), recording.sampling_rate, Preprocessing())
    assert len(windows) + sum(windows.left_out.values()) == recording.duration_s // 10
    assert (windows.signals.min(axis=1) == 0).all()
    assert (windows.signals.max(axis=1) == 1).all()
