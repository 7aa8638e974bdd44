import time
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xecg.errors import DataError
from xecg.metrics.p_waves import COUNTS, WaveDetection, match, wave_report
from xecg.signal.waves import NOT_ANNOTATED, QRS, P

RATE = 250.0  # one sample is 4 ms
COUNTING = WaveDetection(RATE)
TIME = 1000


def codes_of(*spans, region=(0, TIME)):
    codes = np.full((1, TIME), NOT_ANNOTATED, dtype=np.uint8)
    codes[0, region[0] : region[1]] = 0
    for start, stop in spans:
        codes[0, start:stop] = P
    return codes


def probability_of(*spans):
    probability = np.full((1, TIME), 0.1, dtype=np.float32)
    for start, stop in spans:
        probability[0, start:stop] = 0.9
    return probability


def outcomes(probability, codes, at="_at_150ms"):
    counts = COUNTING.counts(torch.tensor(probability), torch.tensor(codes)).sum(axis=0)
    return tuple(int(counts[COUNTS.index(f"{name}{at}")]) for name in ("tp", "fp", "fn"))


def test_hits_misses_and_inventions():
    codes = codes_of((100, 125), (300, 325), (500, 525))
    probability = probability_of((105, 128), (500, 525), (700, 720))
    assert outcomes(probability, codes) == (2, 1, 1)


@pytest.mark.parametrize(
    ("shift_ms", "at_150", "at_40"), [(40, 1, 1), (44, 1, 0), (148, 1, 0), (152, 0, 0)]
)
def test_both_ends_must_lie_within_the_tolerance(shift_ms, at_150, at_40):
    shift = shift_ms // 4
    late = probability_of((400 + shift, 425 + shift))
    late_offset = probability_of((400, 425 + shift))
    for probability in (late, late_offset):
        assert outcomes(probability, codes_of((400, 425)))[0] == at_150
        assert outcomes(probability, codes_of((400, 425)), at="_at_40ms")[0] == at_40


def test_one_detection_finds_one_wave():
    codes, probability = codes_of((400, 420), (425, 445)), probability_of((412, 432))
    assert outcomes(probability, codes) == (1, 0, 1)


def test_short_gaps_are_closed_before_short_runs_are_dropped():
    codes = codes_of((400, 420))
    assert outcomes(probability_of((400, 406), (408, 414), (416, 420)), codes) == (1, 0, 0)
    assert outcomes(probability_of((400, 420), (428, 436)), codes) == (1, 1, 0)
    assert outcomes(probability_of((400, 420), (600, 606)), codes) == (1, 0, 0)
    assert outcomes(probability_of((400, 420), (600, 608)), codes) == (1, 1, 0)


@pytest.mark.parametrize("detected", [(300, 315), (295, 330), (306, 320), (150, 180), (290, 300)])
def test_nothing_counts_where_the_annotator_did_not_work(detected):
    cut = codes_of((300, 320), region=(300, 900))
    assert outcomes(probability_of(detected), cut) == (0, 0, 0)
    assert outcomes(probability_of(), cut) == (0, 0, 0)


@pytest.mark.parametrize("detected", [(0, 15), (990, TIME)])
def test_what_the_window_cuts_does_not_count(detected):
    assert outcomes(probability_of(detected), codes_of()) == (0, 0, 0)
    assert outcomes(probability_of(), codes_of(detected)) == (0, 0, 0)


def test_a_whole_wave_at_the_border_is_found_by_a_detection_across_it():
    codes = codes_of((304, 324), region=(300, 900))
    assert outcomes(probability_of((298, 322)), codes) == (1, 0, 0)
    assert outcomes(probability_of((100, 322)), codes) == (0, 0, 1)


def test_a_detection_of_everything_finds_nothing():
    codes = codes_of((100, 125), (300, 325), region=(50, 900))
    assert outcomes(np.ones((1, TIME), np.float32), codes) == (0, 0, 2)


def test_other_waves_are_no_p_waves():
    codes = codes_of((300, 320))
    codes[0, 330:350] = QRS
    assert outcomes(probability_of((300, 320)), codes) == (1, 0, 0)


def test_errors_are_detection_minus_reference_in_ms():
    metric = WaveDetection(RATE)
    codes = codes_of((100, 125), (300, 325))
    metric.update(torch.tensor(probability_of((102, 124), (306, 328))), torch.tensor(codes))
    found = metric.compute()
    assert float(found["onset_error_mean_ms_at_40ms"]) == pytest.approx(16)
    assert float(found["onset_error_sd_ms_at_40ms"]) == pytest.approx(8)
    assert float(found["offset_error_mean_ms_at_40ms"]) == pytest.approx(4)
    assert float(found["offset_error_sd_ms_at_40ms"]) == pytest.approx(8)


def test_steps_count_only_annotated_samples():
    metric = WaveDetection(RATE)
    codes = codes_of((300, 400), region=(300, 900))
    metric.update(torch.tensor(probability_of((200, 380))), torch.tensor(codes))
    assert float(metric.compute()["step_f1"]) == pytest.approx(2 * 80 / (2 * 80 + 20))


def random_batch(n=40, seed=0, n_waves=8):
    generator = np.random.default_rng(seed)
    codes = np.zeros((n, 2500), np.uint8)
    probability = np.full((n, 2500), 0.1, np.float32)
    for row in range(n):
        for start in generator.choice(np.arange(50, 2400, 150), n_waves, replace=False):
            codes[row, start : start + 25] = P
            if generator.random() < 0.9:
                onset, offset = start + generator.integers(-12, 13, 2)
                probability[row, onset : offset + 25] = 0.9
    return probability, codes


def test_batches_in_any_order_sum_to_the_whole():
    probability, codes = (torch.tensor(values) for values in random_batch())
    whole, parts = WaveDetection(RATE), WaveDetection(RATE)
    whole.update(probability, codes)
    for rows in (torch.arange(30, 40), torch.arange(30)):
        parts.update(probability[rows].bfloat16(), codes[rows])
    assert torch.equal(whole.totals, parts.totals)
    assert int(whole.totals.sum()) > 0


def test_processes_are_summed():
    probability, codes = (torch.tensor(values) for values in random_batch())
    whole, mine, others = (WaveDetection(RATE) for _ in range(3))
    whole.update(probability, codes)
    mine.update(probability[:9], codes[:9])
    others.update(probability[9:], codes[9:])
    mine.sync(
        dist_sync_fn=lambda totals, group: [totals, others.totals],
        distributed_available=lambda: True,
    )
    assert torch.equal(mine.totals, whole.totals)


def test_report_has_the_metrics_values_and_intervals_over_persons():
    probability, codes = random_batch()
    metric = WaveDetection(RATE)
    metric.update(torch.tensor(probability), torch.tensor(codes))
    counts = metric.counts(torch.tensor(probability), torch.tensor(codes))
    report = wave_report(counts, np.arange(40) // 4, COUNTING)
    values = metric.compute()
    assert report.keys() == values.keys()
    for name, value in values.items():
        assert report[name].value == pytest.approx(float(value), rel=1e-5), name
    f1 = report["f1_at_40ms"]
    assert f1.low < f1.value < f1.high
    assert (f1.n, f1.n_groups) == (40, 10)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000))
def test_a_perfect_detection_scores_one(seed):
    _, codes = random_batch(2, seed)
    counts = WaveDetection(RATE).counts(torch.tensor(codes == P), torch.tensor(codes))
    report = wave_report(counts, [0, 1], COUNTING)
    assert (report["f1_at_40ms"].low, report["f1_at_40ms"].high) == pytest.approx(
        (0.342, 1), abs=1e-3
    )
    assert all(report[name].value == 1 for name in report if "error" not in name)
    assert all(report[name].value == 0 for name in report if "error" in name)


def test_without_waves_and_detections_measures_are_undefined():
    metric = WaveDetection(RATE)
    metric.update(torch.zeros(2, 100), torch.zeros(2, 100, dtype=torch.uint8))
    assert all(torch.isnan(value) for value in metric.compute().values())


@pytest.mark.parametrize(
    ("probability", "codes", "message"),
    [
        (np.full((1, 9), np.nan), np.zeros((1, 9)), "between 0 and 1; found values outside or NaN"),
        (np.full((1, 9), 1.5), np.zeros((1, 9)), "between 0 and 1"),
        (np.zeros((1, 9)), np.zeros((1, 8)), r"found \(1, 9\) and \(1, 8\)"),
        (np.zeros(9), np.zeros(9), r"must both be \(windows, time\)"),
    ],
)
def test_impossible_input_is_refused(probability, codes, message):
    with pytest.raises(DataError, match=message):
        COUNTING.counts(torch.tensor(probability), torch.tensor(codes.astype(np.uint8)))


def test_a_report_needs_a_group_for_each_window():
    with pytest.raises(DataError, match=r"\(3,\)"):
        wave_report(np.zeros((2, len(COUNTS)), np.int64), [0, 1, 2], COUNTING)


def test_four_thousand_windows_take_less_than_a_few_seconds():
    probability, codes = random_batch(1000, n_waves=12)
    probability, codes = (torch.tensor(values).repeat(4, 1) for values in (probability, codes))
    metric, start = WaveDetection(RATE), time.process_time()
    for one, other in zip(probability.split(64), codes.split(64), strict=True):
        metric.update(one, other)
    assert time.process_time() - start < 6


spans = st.lists(st.integers(0, 60), max_size=10, unique=True).map(
    lambda edges: np.array(sorted(edges)[: len(edges) // 2 * 2], dtype=np.int64).reshape(-1, 2)
)


def best_by_trying_all(one, other, tolerance):
    """Largest number of pairs and, among those, the smallest error."""
    if len(one) > len(other):
        one, other = other, one
    best = (0, 0)
    for chosen in permutations(range(len(other)), len(one)):
        distance = np.abs(one - other[list(chosen)])
        near = (distance <= tolerance).all(axis=1)
        best = min(best, (-int(near.sum()), int(distance[near].sum())))
    return -best[0], best[1]


@settings(deadline=None, max_examples=150)
@given(spans, spans, st.integers(0, 40))
def test_most_pairs_and_of_those_the_nearest(one, other, tolerance):
    rows, columns = match(one, other, tolerance)
    distance = np.abs(one[rows] - other[columns])
    assert (distance <= tolerance).all()
    assert len(set(rows)) == len(set(columns)) == len(rows)
    assert (len(rows), distance.sum()) == best_by_trying_all(one, other, tolerance)


@given(spans, spans, st.integers(0, 40))
def test_symmetric_in_number_and_error(one, other, tolerance):
    rows, columns = match(one, other, tolerance)
    back, forth = match(other, one, tolerance)
    assert len(rows) == len(back)
    there = np.abs(one[rows] - other[columns]).sum()
    assert there == np.abs(other[back] - one[forth]).sum()


@given(spans, spans, st.integers(0, 40), st.integers(0, 40))
def test_a_wider_tolerance_never_loses_a_pair(one, other, tolerance, wider):
    narrow = match(one, other, tolerance)[0]
    assert len(match(one, other, tolerance + wider)[0]) >= len(narrow)


@pytest.mark.parametrize(("tolerance", "pairs"), [(9, 0), (10, 1), (10.9, 1)])
def test_the_tolerance_itself_is_within(tolerance, pairs):
    one, other = np.array([[100, 120]]), np.array([[110, 120]])
    assert len(match(one, other, tolerance)[0]) == pairs
