import numpy as np
import pytest

from xecg.errors import DataError
from xecg.explain.relevance import WAVES, relevance_statistics, summarize, summary_table, wave_title
from xecg.metrics.bootstrap import mean_interval

N, TIME, RATE = 40, 2500, 250.0
PEAKS = np.arange(150, TIME, 220)
CLASSES = np.arange(N) % 2
CORRECT = np.arange(N) % 5 != 0
GROUPS = np.array([f"person-{row // 4}" for row in range(N)])


@pytest.fixture(scope="module")
def statistics():
    relevance = np.random.default_rng(0).exponential(size=(N, TIME))
    relevance[3] = 0
    return relevance_statistics(relevance, [PEAKS] * N, RATE)


def by_key(rows):
    return {(r.rhythm, r.prediction, r.measure, r.wave): r for r in rows}


def test_values_and_intervals_are_those_of_the_mean_over_windows(statistics):
    rows = summarize(statistics, CLASSES, CORRECT, GROUPS, branch="rhythm", seed=5)
    chosen = (CLASSES == 1) & CORRECT & statistics.valid
    expected = mean_interval(statistics.enrichment["QRS"][chosen], GROUPS[chosen], seed=5)
    row = by_key(rows)["AF", "right", "enrichment", "QRS"]
    assert row.value == pytest.approx(expected.value)
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert (row.n_windows, row.n_groups) == (expected.n, expected.n_groups)
    assert row.low < row.value < row.high


def test_rows_cover_classes_predictions_and_measures(statistics):
    rows = by_key(summarize(statistics, CLASSES, CORRECT, GROUPS, branch="rhythm", n_resamples=5))
    for rhythm in ("non-AF", "AF"):
        for prediction in ("right", "wrong"):
            for wave in WAVES:
                for measure in ("share", "mean", "enrichment"):
                    assert (rhythm, prediction, measure, wave) in rows
            for measure in ("pointing", "pointing_chance", "gini", "domain specificity"):
                assert (rhythm, prediction, measure, "") in rows
    windows = sum(row.n_windows for key, row in rows.items() if key[2] == "gini")
    assert windows == N - 1  # one map has no relevance


def test_domain_specificity_is_that_of_the_mean_enrichments(statistics):
    rows = by_key(summarize(statistics, CLASSES, None, GROUPS, branch="morphology"))
    p, qrs = (rows["non-AF", "all", "enrichment", wave].value for wave in ("P", "QRS"))
    specificity = rows["non-AF", "all", "domain specificity", ""]
    assert specificity.value == pytest.approx(np.log2(p / qrs))
    assert specificity.low < specificity.value < specificity.high


def test_a_branch_without_a_domain_has_no_domain_specificity(statistics):
    rows = summarize(statistics, CLASSES, None, GROUPS, branch="texture", n_resamples=5)
    assert rows
    assert "domain specificity" not in {row.measure for row in rows}


def test_conservation_without_logits_has_no_value_and_no_windows(statistics):
    rows = by_key(summarize(statistics, CLASSES, None, GROUPS, branch="rhythm", n_resamples=5))
    row = rows["AF", "all", "conservation", ""]
    assert np.isnan([row.value, row.low, row.high]).all()
    assert (row.n_windows, row.n_groups) == (0, 0)


def test_windows_of_no_class_are_left_out_and_a_class_without_windows_has_no_rows(statistics):
    classes = np.where(CLASSES == 1, -1, 0)
    rows = summarize(statistics, classes, None, GROUPS, branch="rhythm", n_resamples=5)
    assert {row.rhythm for row in rows} == {"non-AF"}


def test_one_seed_gives_one_result(statistics):
    first, again, other = (
        summarize(statistics, CLASSES, None, GROUPS, branch="rhythm", n_resamples=50, seed=seed)
        for seed in (1, 1, 2)
    )
    assert str(first) == str(again) != str(other)


@pytest.mark.parametrize("column", ["classes", "correct", "groups"])
def test_columns_of_another_length_are_refused(statistics, column):
    columns = {"classes": CLASSES, "correct": CORRECT, "groups": GROUPS}
    columns[column] = columns[column][:-1]
    with pytest.raises(DataError, match=rf"Expected {column} of 40 windows, found shape \(39,\)"):
        summarize(statistics, **columns, branch="rhythm")


def test_another_class_is_refused(statistics):
    with pytest.raises(DataError, match="negative, found 2"):
        summarize(statistics, CLASSES + 1, None, GROUPS, branch="rhythm")


def test_in_af_p_is_where_p_would_be():
    assert wave_title("P", "AF") == "where P would be"
    assert wave_title("P", "non-AF") == "P"
    assert wave_title("QRS", "AF") == "QRS"


def test_the_table_has_a_line_for_each_class_and_says_where_p_is_none(statistics):
    rows = summarize(statistics, CLASSES, CORRECT, GROUPS, branch="rhythm", n_resamples=20)
    head, rule, *lines = summary_table(rows).splitlines()
    assert "P (AF: where P would be)" in head
    assert len({line.count("|") for line in (head, rule, *lines)}) == 1
    assert [line.split(" | ")[1:3] for line in lines] == [
        ["non-AF", "right"],
        ["non-AF", "wrong"],
        ["AF", "right"],
        ["AF", "wrong"],
    ]
    qrs = by_key(rows)["AF", "wrong", "enrichment", "QRS"]
    assert f"| {qrs.value:.3f} [{qrs.low:.3f}, {qrs.high:.3f}] |" in lines[3]


def test_the_table_shows_a_dash_where_nothing_was_measured():
    codes = np.zeros((2, TIME), dtype=np.uint8)  # not one wave is annotated
    statistics = relevance_statistics(np.ones((2, TIME)), [PEAKS] * 2, RATE, waves=codes)
    rows = summarize(statistics, [1, 1], None, ["a", "b"], branch="rhythm", n_resamples=5)
    assert summary_table(rows).splitlines()[-1].endswith("| - | - | - | 1.000 [1.000, 1.000] | - |")
