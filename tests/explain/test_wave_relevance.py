import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xecg.errors import DataError
from xecg.explain.relevance import WAVES, relevance_statistics, summarize
from xecg.signal.heartbeats import detect_r_peaks
from xecg.signal.waves import NOT_ANNOTATED, OTHER, QRS, P, T, codes_around_r_peaks
from xecg.signal.wfdb import read_recording

RATE = 250.0
TIME = 2500
PEAKS = np.arange(200, TIME, 240)

# Enrichment of P, QRS, ST-T and other in the published maps of the original xECGArch, with the
# number of records: windows relative to R peaks, right predictions, at least 4 beats.
PUBLISHED = {
    ("morphology", "non-AF"): (474, 1.514, 0.697, 0.724, 1.010),
    ("morphology", "AF"): (234, 1.135, 0.830, 0.955, 0.984),
    ("rhythm", "non-AF"): (492, 1.183, 3.296, 0.622, 0.548),
    ("rhythm", "AF"): (242, 0.567, 2.978, 0.680, 0.742),
}

peaks_and_maps = st.tuples(
    st.lists(st.integers(0, TIME - 1), min_size=4, max_size=25, unique=True).map(sorted),
    st.integers(0, 2**32 - 1),
)


def random_map(seed):
    return np.random.default_rng(seed).exponential(size=(1, TIME)).astype(np.float32)


@given(peaks_and_maps)
@settings(max_examples=30, deadline=None)
def test_measures_equal_their_definition(example):
    peaks, seed = np.array(example[0]), example[1]
    relevance = random_map(seed)
    found = relevance_statistics(relevance, [peaks], RATE)
    codes = codes_around_r_peaks(peaks, TIME, RATE)
    for wave, code in zip(WAVES, (P, QRS, T, OTHER), strict=True):
        inside = relevance[0, codes == code].astype(np.float64)
        if not inside.size:
            assert np.isnan(found.enrichment[wave][0])
            continue
        share = inside.sum() / relevance.sum(dtype=np.float64)
        assert found.share[wave][0] == pytest.approx(share)
        assert found.mean[wave][0] == pytest.approx(inside.mean())
        assert found.enrichment[wave][0] == pytest.approx(share / (inside.size / TIME))
    assert sum(found.share[wave][0] for wave in WAVES) == pytest.approx(1)


@given(peaks_and_maps)
@settings(max_examples=20, deadline=None)
def test_even_relevance_is_chance_everywhere(example):
    found = relevance_statistics(np.full((1, TIME), 0.3), [np.array(example[0])], RATE)
    enrichments = np.array([found.enrichment[wave][0] for wave in WAVES])
    absent = np.array([found.share[wave][0] == 0 for wave in WAVES])
    assert enrichments[~absent] == pytest.approx(1)
    assert np.isnan(enrichments[absent]).all()
    assert found.gini[0] == pytest.approx(0, abs=1e-9)


@given(peaks_and_maps, st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_only_mean_and_conservation_depend_on_the_scale(example, scale):
    relevance = random_map(example[1]).astype(np.float64)
    peaks = [np.array(example[0])]
    one = relevance_statistics(relevance, peaks, RATE, logits=[2.0])
    other = relevance_statistics(relevance * scale, peaks, RATE, logits=[2.0])
    for wave in WAVES:
        assert other.share[wave] == pytest.approx(one.share[wave])
        assert other.enrichment[wave] == pytest.approx(one.enrichment[wave], nan_ok=True)
        assert other.mean[wave] == pytest.approx(scale * one.mean[wave], nan_ok=True)
    assert other.gini == pytest.approx(one.gini)
    assert other.pointing == one.pointing
    assert other.conservation == pytest.approx(scale * one.conservation)


def test_windows_do_not_depend_on_each_other():
    relevance = np.concatenate([random_map(seed) for seed in range(3)])
    peaks = [PEAKS, PEAKS[:6] + 11, PEAKS[3:]]
    together = relevance_statistics(relevance, peaks, RATE)
    for row in range(3):
        alone = relevance_statistics(relevance[row : row + 1], [peaks[row]], RATE)
        assert alone.enrichment["QRS"][0] == together.enrichment["QRS"][row]
        assert alone.gini[0] == together.gini[row]
    assert len(together) == 3
    assert together.n_beats.tolist() == [10, 6, 7]


def test_a_channel_axis_makes_no_difference():
    relevance = random_map(0)
    flat = relevance_statistics(relevance, [PEAKS], RATE)
    channel = relevance_statistics(relevance[:, None], [PEAKS], RATE)
    assert channel.share["P"] == flat.share["P"]


def test_relevance_on_the_r_peaks_is_all_qrs_and_points():
    relevance = np.zeros((1, TIME), dtype=np.float32)
    relevance[0, PEAKS] = 1
    found = relevance_statistics(relevance, [PEAKS], RATE)
    assert found.share["QRS"] == pytest.approx(1)
    assert found.enrichment["P"] == 0
    assert found.pointing == 1
    assert found.pointing_chance == pytest.approx(len(PEAKS) * 25 / TIME)


def test_true_masks_leave_out_what_nobody_annotated():
    codes = np.full((1, TIME), NOT_ANNOTATED, dtype=np.uint8)
    codes[0, 500:1500] = OTHER
    codes[0, 600:650] = P
    codes[0, 700:725] = QRS
    relevance = np.ones((1, TIME), dtype=np.float32)
    relevance[0, :500] = 1000.0  # not annotated: neither relevance nor time
    relevance[0, 600:650] = 4.0
    found = relevance_statistics(relevance, [PEAKS], RATE, waves=codes)
    total = 950 + 200
    assert found.share["P"] == pytest.approx(200 / total)
    assert found.mean["P"] == pytest.approx(4)
    assert found.enrichment["P"] == pytest.approx((200 / total) / (50 / 1000))
    assert found.share["ST-T"] == 0
    assert np.isnan(found.enrichment["ST-T"])  # no T wave was annotated


def test_what_cannot_be_measured_is_nan_and_counted():
    relevance = np.ones((5, TIME), dtype=np.float32)
    relevance[1] = 0
    relevance[2, 7] = np.nan
    relevance[4] = 0
    peaks = [PEAKS, PEAKS, PEAKS, PEAKS[:3], PEAKS[:3]]
    found = relevance_statistics(relevance, peaks, RATE, logits=[TIME, 1.0, 1.0, TIME, -1.0])
    assert found.valid.tolist() == [True, False, False, False, False]
    assert found.left_out == {"not finite": 1, "no relevance": 2, "fewer than 4 beats": 1}
    for wave in WAVES:
        for measure in (found.share, found.mean, found.enrichment):
            assert np.isnan(measure[wave]).tolist() == [False, True, True, True, True]
    assert np.isnan(found.pointing).tolist() == [False, True, True, True, True]
    assert np.isnan(found.gini).tolist() == [False, True, True, False, True]
    assert found.conservation == pytest.approx([1, 0, np.nan, 1, np.nan], nan_ok=True)


def test_a_window_without_annotation_is_counted():
    codes = np.full((2, TIME), OTHER, dtype=np.uint8)
    codes[1] = NOT_ANNOTATED
    found = relevance_statistics(np.ones((2, TIME)), [PEAKS, PEAKS], RATE, waves=codes)
    assert found.left_out == {"nothing annotated": 1}


def test_fewer_beats_can_be_allowed():
    found = relevance_statistics(np.ones((1, TIME)), [PEAKS[:1]], RATE, min_beats=1)
    assert found.valid.all()
    assert found.left_out == {}


def test_without_logits_conservation_is_unknown():
    assert np.isnan(relevance_statistics(np.ones((1, TIME)), [PEAKS], RATE).conservation).all()


def test_rounding_below_zero_is_not_negative_relevance():
    relevance = random_map(3)
    relevance[0, 5] = -1e-6
    assert relevance_statistics(relevance, [PEAKS], RATE).valid.all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relevance": np.ones(TIME)}, r"found shape \(2500,\)"),
        ({"relevance": np.ones((1, 2, TIME))}, r"found shape \(1, 2, 2500\)"),
        ({"relevance": np.ones((1, 0))}, r"found shape \(1, 0\)"),
        ({"relevance": np.ones((1, TIME), dtype=int)}, "found int64"),
        ({"relevance": -np.ones((1, TIME))}, "found -1 in window 0"),
        ({"r_peaks": []}, "R peaks of 1 windows, found 0"),
        ({"r_peaks": [np.array([5, TIME])]}, "0 to 2499, found 5 to 2500 in window 0"),
        ({"sampling_rate": 0.0}, "sampling rate in Hz, found 0.0"),
        ({"waves": np.zeros((1, 10), dtype=np.uint8)}, r"found \(1, 10\) of uint8"),
        ({"waves": np.zeros((1, TIME))}, "of float64"),
        ({"waves": np.full((1, TIME), 9, dtype=np.uint8)}, r"found \{9\}"),
        ({"logits": [1.0, 2.0]}, r"found shape \(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    arguments = {"relevance": np.ones((1, TIME)), "r_peaks": [PEAKS], "sampling_rate": RATE}
    with pytest.raises(DataError, match=message):
        relevance_statistics(**arguments | changes)


def test_the_published_maps_give_the_published_enrichments(real_database):
    folder = real_database("xfusemap")
    with np.load(folder / "relevance.npz") as published:
        records, maps, predicted = (published[k] for k in ("record", "relevance", "predicted"))
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        labels = {row["record"]: int(row["af"]) for row in csv.DictReader(file)}
    classes = np.array([labels[record] for record in records])
    recordings = [read_recording(folder / "records" / record) for record in records]
    peaks = [detect_r_peaks(r.samples[0], r.sampling_rate) for r in recordings]
    for column, branch in enumerate(("morphology", "rhythm")):
        statistics = relevance_statistics(maps[..., column], peaks, 500.0)
        rows = summarize(
            statistics,
            classes,
            predicted[:, column] == classes,
            records,
            branch=branch,
            n_resamples=10,
        )
        for rhythm in ("non-AF", "AF"):
            n, *enrichments = PUBLISHED[branch, rhythm]
            chosen = {
                row.wave: row
                for row in rows
                if (row.rhythm, row.prediction, row.measure) == (rhythm, "right", "enrichment")
            }
            assert abs(chosen["QRS"].n_windows - n) <= 2  # detectors differ between versions
            for wave, enrichment in zip(WAVES, enrichments, strict=True):
                assert chosen[wave].value == pytest.approx(enrichment, abs=0.005)
