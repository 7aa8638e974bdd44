import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xecg.errors import ConfigError, DataError, UnknownNameError
from xecg.explain.relevance import (
    STATISTICS,
    WAVES,
    domain_specificity,
    enrichment_column,
    wave_relevance,
)
from xecg.signal.waves import NOT_ANNOTATED, OTHER, QRS, P, T, codes_around_r_peaks, detect_r_peaks
from xecg.signal.wfdb import read_recording

RATE, TIME = 250.0, 2500
PEAKS = np.arange(200, TIME, 240)
COLUMNS = [enrichment_column(wave) for wave in WAVES]

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
few = settings(max_examples=20, deadline=None)


def random_map(seed):
    return np.random.default_rng(seed).exponential(size=(1, TIME)).astype(np.float32)


def measure(relevance, peaks=PEAKS, **options):
    return wave_relevance(relevance, [peaks] * len(relevance), RATE, **options)


@given(peaks_and_maps)
@few
def test_enrichments_equal_their_definition(example):
    peaks, relevance = np.array(example[0]), random_map(example[1])
    (found,) = measure(relevance, peaks)[COLUMNS].to_numpy()
    codes = codes_around_r_peaks(peaks, TIME, RATE)
    for value, code in zip(found, (P, QRS, T, OTHER), strict=True):
        inside = relevance[0, codes == code].astype(np.float64)
        if not inside.size:
            assert np.isnan(value)
            continue
        share = inside.sum() / relevance.sum(dtype=np.float64)
        assert value == pytest.approx(share / (inside.size / TIME))


@given(peaks_and_maps)
@few
def test_even_relevance_is_chance_everywhere(example):
    found = measure(np.full((1, TIME), 0.3), np.array(example[0])).iloc[0]
    assert found[COLUMNS].dropna().to_numpy() == pytest.approx(1)


@given(peaks_and_maps, st.floats(1e-3, 1e3))
@few
def test_only_conservation_depends_on_the_scale(example, scale):
    relevance, peaks = random_map(example[1]).astype(np.float64), np.array(example[0])
    one = measure(relevance, peaks, logits=[2.0])
    other = measure(relevance * scale, peaks, logits=[2.0])
    one["conservation"] *= scale
    np.testing.assert_allclose(other, one, rtol=1e-9)
    assert one.conservation[0] == pytest.approx(scale * relevance.sum() / 2)


def test_windows_do_not_depend_on_each_other_or_on_a_channel_axis():
    relevance = np.concatenate([random_map(seed) for seed in range(3)])
    peaks = [PEAKS, PEAKS[:6] + 11, PEAKS[3:]]
    together = wave_relevance(relevance[:, None], peaks, RATE)
    for row in range(3):
        alone = wave_relevance(relevance[row : row + 1], [peaks[row]], RATE)
        assert np.array_equal(alone.to_numpy()[0], together.to_numpy()[row], equal_nan=True)


def test_relevance_on_the_r_peaks_is_all_qrs():
    relevance = np.zeros((1, TIME), dtype=np.float32)
    relevance[0, PEAKS] = 1
    found = measure(relevance).iloc[0]
    assert found.enrichment_qrs == pytest.approx(TIME / (len(PEAKS) * 24))
    assert found.enrichment_p == 0


def test_true_masks_leave_out_what_was_not_annotated():
    codes = np.full((1, TIME), NOT_ANNOTATED, dtype=np.uint8)
    codes[0, 500:1500] = OTHER
    codes[0, 600:650] = P
    codes[0, 700:725] = QRS
    relevance = np.ones((1, TIME), dtype=np.float32)
    relevance[0, :500] = 1000.0  # not annotated: neither relevance nor time
    relevance[0, 600:650] = 4.0
    found = measure(relevance, waves=codes).iloc[0]
    assert found.enrichment_p == pytest.approx((200 / 1150) / (50 / 1000))
    assert np.isnan(found.enrichment_st_t)  # no T wave was annotated


def test_a_window_that_cannot_be_measured_is_nan_in_every_column():
    relevance = np.ones((6, TIME), dtype=np.float32)
    relevance[1] = 0
    relevance[2, 7] = np.nan
    codes = np.tile(codes_around_r_peaks(PEAKS, TIME, RATE), (6, 1))
    codes[4] = NOT_ANNOTATED
    peaks = [PEAKS, PEAKS, PEAKS, PEAKS[:3], PEAKS, PEAKS[:4]]
    found = wave_relevance(relevance, peaks, RATE, codes, logits=np.full(6, TIME))
    measured = [True, False, False, False, False, True]
    assert found.notna().all(axis=1).tolist() == measured
    assert found.notna().any(axis=1).tolist() == measured
    assert found.conservation[0] == pytest.approx(1)


def test_conservation_is_known_for_positive_logits_only():
    found = measure(np.full((3, TIME), 0.1), logits=[250.0, 0.0, -1.0]).conservation
    assert found.tolist() == pytest.approx([1.0, np.nan, np.nan], nan_ok=True)
    assert measure(np.ones((1, TIME))).conservation.isna().all()


def test_rounding_below_zero_is_taken_for_zero():
    relevance = np.ones((1, TIME), dtype=np.float32)
    relevance[0, 5] = -1e-6
    assert measure(relevance).notna().any(axis=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relevance": np.ones(TIME)}, r"\(2500,\)"),
        ({"relevance": np.ones((1, 2, TIME))}, r"\(1, 2, 2500\)"),
        ({"relevance": np.ones((1, 0))}, r"\(1, 0\)"),
        ({"relevance": np.ones((1, TIME), dtype=int)}, "int64"),
        ({"relevance": -np.ones((1, TIME))}, "-1 in window 0"),
        ({"r_peaks": []}, "found 0"),
        ({"r_peaks": [np.array([5, TIME])]}, "2500 in window 0"),
        ({"sampling_rate": 0.0}, "Hz, found 0.0"),
        ({"waves": np.zeros((1, 10), dtype=np.uint8)}, r"\(1, 10\) of uint8"),
        ({"waves": np.zeros((1, TIME))}, "float64"),
        ({"waves": np.full((1, TIME), 9, dtype=np.uint8)}, r"codes \[9\]"),
        ({"logits": [1.0, 2.0]}, r"\(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    arguments = {"relevance": np.ones((1, TIME)), "r_peaks": [PEAKS], "sampling_rate": RATE}
    with pytest.raises(DataError, match=message):
        wave_relevance(**arguments | changes)


def late_share(maps):
    """A statistic from a package of the user's own: share of relevance in the second half."""
    half = maps.relevance.shape[1] // 2
    return maps.relevance[:, half:].sum(axis=1) / maps.relevance.sum(axis=1)


def test_a_statistic_of_ones_own_is_a_column(monkeypatch):
    path = "tests.explain.test_relevance.late_share"
    found = measure(random_map(0), statistics=["conservation", path])
    assert found.columns.tolist() == ["conservation", "late_share"]
    monkeypatch.setitem(STATISTICS._registered, "late_share", late_share)
    everything = measure(random_map(0))
    assert everything.late_share[0] == found.late_share[0]
    monkeypatch.setitem(STATISTICS._registered, "late_share", lambda maps: maps.relevance)
    with pytest.raises(DataError, match="late_share"):
        measure(random_map(0))
    with pytest.raises(UnknownNameError, match="entropy"):
        measure(random_map(0), statistics=["entropy"])


def test_domain_specificity_is_positive_where_a_branch_prefers_its_own_wave():
    assert domain_specificity(2.0, 1.0, "morphology") == pytest.approx(1)
    assert domain_specificity(1.0, 4.0, "rhythm") == pytest.approx(2)
    for branch in ("morphology", "rhythm"):
        for p, qrs in ((0.0, 1.0), (1.0, 0.0), (np.nan, 1.0)):
            assert np.isnan(domain_specificity(p, qrs, branch))
    with pytest.raises(ConfigError, match="texture"):
        domain_specificity(1.0, 1.0, "texture")


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
        table = wave_relevance(maps[..., column], peaks, 500.0)
        for code, rhythm in enumerate(("non-AF", "AF")):
            n, *enrichments = PUBLISHED[branch, rhythm]
            right = table[(predicted[:, column] == code) & (classes == code)][COLUMNS]
            # Detectors differ between versions.
            assert abs(right.enrichment_qrs.count() - n) <= 2
            assert right.mean().to_list() == pytest.approx(enrichments, abs=0.005)
