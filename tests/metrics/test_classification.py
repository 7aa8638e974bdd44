import time

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import expit

from xecg.errors import DataError
from xecg.metrics.bootstrap import group_weights
from xecg.metrics.classification import (
    LEAST,
    af_metrics,
    calibrate,
    classification_report,
    operating_points,
    predictive_value,
)


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


def drawn(n: int = 20_000, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Margins of which the probability is true at ``share`` of AF, and labels."""
    rng = np.random.default_rng(0)
    af = (rng.random(n) < share).astype(np.int64)
    margin = rng.normal(2 * (2 * af - 1), 2.0)  # log-likelihood ratio 1 for 1
    return margin, af


@given(slope=st.floats(0.3, 3), shift=st.floats(-2, 2))
def test_a_distorted_margin_is_mended(slope: float, shift: float) -> None:
    margin, af = drawn(4000)
    distorted = {"one": slope * margin + shift, "two": margin}
    found = calibrate(distorted, af, 0.5)
    mended = {name: a * distorted[name] + b for name, (a, b) in found.items()}
    assert np.allclose(mended["one"], mended["two"], atol=0.2 + 0.1 * np.abs(margin))


@pytest.mark.parametrize("prevalence", [0.1, 0.5])
def test_probabilities_are_those_of_the_prevalence(prevalence: float) -> None:
    margin, af = drawn()
    slope, intercept = calibrate({"one": margin}, af, prevalence)["one"]
    assert slope == pytest.approx(1, abs=0.1)
    assert intercept == pytest.approx(np.log(prevalence / (1 - prevalence)), abs=0.2)
    met, label = drawn(share=prevalence)
    p = expit(slope * met + intercept)
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1)):
        inside = (p > low) & (p <= high)
        assert p[inside].mean() == pytest.approx(label[inside].mean(), abs=0.05)


def test_one_class_cannot_be_calibrated() -> None:
    with pytest.raises(DataError, match="100%"):
        calibrate({"one": np.ones(3)}, np.ones(3, np.int64), 0.1)


@given(
    seed=st.integers(0, 1000),
    n=st.integers(2, 300),
    decimals=st.integers(1, 6),
)
@example(seed=235, n=143, decimals=1)  # a window in AF has a probability of 0
def test_thresholds_do_what_is_said_of_them(seed: int, n: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    af = rng.permutation(np.arange(n) % 2)
    p = np.round(np.clip(rng.normal(0.3 + 0.4 * af, 0.2), 0, 1), decimals)
    points = operating_points(p, af)
    for point in points.values():
        called = p > point["threshold"]
        assert called[af == 1].mean() == pytest.approx(point["sensitivity"])
        assert 1 - called[af == 0].mean() == pytest.approx(point["specificity"])
    sensitive = points["sensitive"]
    assert sensitive["sensitivity"] >= LEAST or sensitive["threshold"] == 0
    best = max(p[af == 1].__gt__(t).mean() - p[af == 0].__gt__(t).mean() for t in [0, *p])
    youden = points["balanced"]["sensitivity"] + points["balanced"]["specificity"] - 1
    assert youden == pytest.approx(best)


def test_predictive_value_is_that_of_bayes() -> None:
    assert predictive_value(0.9, 0.9, 0.5) == pytest.approx(0.9)
    assert predictive_value(0.9, 0.9, 0.1) == pytest.approx(0.5)
    assert np.isnan(predictive_value(0.0, 1.0, 0.1))
