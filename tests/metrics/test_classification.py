import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xecg.errors import DataError
from xecg.metrics.bootstrap import group_weights
from xecg.metrics.classification import af_metrics, classification_report


def report(p_af, target, groups=None, **options):
    groups = np.arange(len(p_af)) if groups is None else groups
    return classification_report(p_af, target, groups, **{"n_resamples": 20, **options})


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.booleans()), min_size=4, max_size=60
    ).filter(lambda rows: {label for _, label in rows} == {True, False})
)  # fmt: skip
def test_report_and_training_metrics_agree_with_ties(rows):
    levels, target = np.array(rows).T
    p_af = (levels + 0.31) / 21  # 21 levels, none on the edge of a calibration bin
    found = report(p_af, target)
    metrics = af_metrics()
    metrics.update(torch.tensor(p_af), torch.tensor(target))
    for name, value in metrics.compute().items():
        expected = 0.0 if np.isnan(found[name].value) else found[name].value
        assert expected == pytest.approx(float(value), abs=1e-6), name


def test_metrics_by_hand():
    found = report([0.9, 0.8, 0.4, 0.6, 0.1], [1, 1, 1, 0, 0])
    values = {name: interval.value for name, interval in found.items()}
    assert values["sensitivity"] == pytest.approx(2 / 3)
    assert values["specificity"] == pytest.approx(1 / 2)
    assert values["ppv"] == pytest.approx(2 / 3)
    assert values["f1"] == pytest.approx(2 / 3)
    assert values["accuracy"] == pytest.approx(3 / 5)
    assert values["auroc"] == pytest.approx(5 / 6)
    assert values["auprc"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert values["calibration_error"] == pytest.approx((0.1 + 0.2 + 0.6 + 0.6 + 0.1) / 5)


@pytest.mark.parametrize("name", ["auroc", "auprc", "f1", "calibration_error"])
def test_weights_mean_the_same_as_repeated_rows(name):
    generator = np.random.default_rng(0)
    p_af, target = generator.random(40).round(1), generator.integers(0, 2, 40)
    groups = generator.integers(0, 9, 40)
    found = report(p_af, target, groups, n_resamples=30)[name]
    repeated = []
    for weights in group_weights(groups, 30, 0):
        rows = np.repeat(np.arange(40), weights)
        repeated.append(report(p_af[rows], target[rows])[name].value)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(repeated, [0.025, 0.975])))


def test_the_threshold_itself_is_not_above_it():
    metrics = af_metrics(threshold=0.25)
    metrics.update(torch.tensor([0.25, 0.5]), torch.tensor([0, 1]))
    assert float(metrics.compute()["specificity"]) == 1
    assert report([0.25, 0.5], [0, 1], threshold=0.25)["specificity"].value == 1


def test_a_perfect_classifier():
    found = report([0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1])
    assert all(one.value == 1 for name, one in found.items() if name != "calibration_error")
    assert found["calibration_error"].value == 0


def test_a_metric_counts_the_windows_and_persons_that_it_is_over():
    found = report([0.9, 0.8, 0.4, 0.6, 0.1], [1, 1, 1, 0, 0], ["a", "a", "b", "b", "c"])
    counts = {name: (one.n, one.n_groups) for name, one in found.items()}
    assert counts["sensitivity"] == (3, 2)
    assert counts["specificity"] == (2, 2)
    assert counts["ppv"] == (3, 2)
    assert counts["f1"] == (4, 2)
    assert counts["accuracy"] == counts["auroc"] == counts["calibration_error"] == (5, 3)


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_leaves_wilsons_interval_by_persons(right):
    target = np.repeat([1, 0], 30)
    persons = np.r_[np.arange(30) // 3, 10 + np.arange(30) // 6]  # ten with AF, five without
    found = report(target if right else 1 - target, target, persons)
    for name, n in (("sensitivity", 10), ("specificity", 5), ("auroc", 5), ("accuracy", 15)):
        edge = n / (n + 1.959964**2)
        expected = (edge, 1) if right else (0, 1 - edge)
        assert (found[name].low, found[name].high) == pytest.approx(expected, abs=1e-5), name


def test_without_af_what_needs_af_is_undefined():
    found = report([0.2, 0.4], [0, 0])
    assert np.isnan([found[name].value for name in ("sensitivity", "auroc", "auprc")]).all()
    assert found["specificity"].value == 1


def test_with_af_alone_there_is_a_report():
    found = report([0.2, 0.9, 0.8], [1, 1, 1])
    assert found["sensitivity"].value == pytest.approx(2 / 3)
    assert np.isnan([found[name].value for name in ("specificity", "auroc")]).all()
    assert (found["auprc"].low, found["auprc"].high) == (1, 1)


@pytest.mark.parametrize(
    ("p_af", "target", "groups", "message"),
    [
        ([0.5, 1.2], [0, 1], [0, 1], "p_af must lie between 0 and 1"),
        ([0.5, np.nan], [0, 1], [0, 1], "p_af must lie between 0 and 1"),
        ([0.5, 0.2], [0, -1], [0, 1], r"target must be 0 or 1; found \[-1  0\]"),
        ([0.5, 0.2], [0, 1], [0], r"\(2,\), \(2,\), \(1,\)"),
        ([], [], [], "at least one row"),
    ],
)
def test_impossible_input_is_refused(p_af, target, groups, message):
    with pytest.raises(DataError, match=message):
        classification_report(p_af, target, groups)


def test_a_thousand_resamples_of_many_windows_take_seconds():
    generator = np.random.default_rng(0)
    p_af = generator.random(10_000)
    start = time.perf_counter()
    report(p_af, generator.random(10_000) < p_af, np.arange(10_000) // 4, n_resamples=1000)
    assert time.perf_counter() - start < 10
