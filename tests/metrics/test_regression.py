import numpy as np
import pytest
import torch

from xecg.errors import DataError
from xecg.metrics.regression import regression_report, rr_metrics


def measures(n=200, seed=0):
    generator = np.random.default_rng(seed)
    target = generator.lognormal(4, 0.7, n)
    return target * generator.normal(1, 0.2, n), target


def test_report_has_the_metrics_values():
    predicted, target = measures()
    metrics = rr_metrics()
    for one, other in zip(np.split(predicted, 4), np.split(target, 4), strict=True):
        metrics.update(torch.tensor(one), torch.tensor(other))
    found = regression_report(predicted, target, np.arange(200))
    for name, value in metrics.compute().items():
        assert found[name].value == pytest.approx(float(value), rel=1e-5)
        assert found[name].low < found[name].value < found[name].high


def test_windows_without_a_target_are_left_out():
    predicted, target = measures()
    gaps = np.r_[target, np.nan, np.nan]
    found = regression_report(np.r_[predicted, 7.0, 9.0], gaps, np.arange(202))
    alone = regression_report(predicted, target, np.arange(200))
    assert found == alone
    assert found["mae_ms"].n == 200


def test_perfect_and_constant_predictions():
    _, target = measures()
    perfect = regression_report(target, target, np.arange(200))
    assert [perfect[name].value for name in ("mae_ms", "r2", "pearson_r")] == pytest.approx(
        [0, 1, 1]
    )
    mean = regression_report(np.full(200, target.mean()), target, np.arange(200))
    assert mean["r2"].value == pytest.approx(0)
    assert np.isnan(mean["pearson_r"].value)


def test_a_large_offset_does_not_cancel():
    predicted, target = measures()
    near = regression_report(predicted, target, np.arange(200))
    far = regression_report(predicted + 1e6, target + 1e6, np.arange(200))
    assert far["r2"].value == pytest.approx(near["r2"].value, rel=1e-6)
    assert far["pearson_r"].low == pytest.approx(near["pearson_r"].low, rel=1e-6)
    metrics = rr_metrics()
    metrics.update(torch.tensor(predicted + 1e6), torch.tensor(target + 1e6))
    for name, value in metrics.compute().items():
        assert float(value) == pytest.approx(near[name].value, rel=1e-3), name


@pytest.mark.parametrize("seed", range(10))
def test_a_resample_of_equal_targets_has_no_r2(seed):
    predicted, target = measures(3, seed)
    found = regression_report(predicted, target, np.arange(3))
    assert found["r2"].low > -1e6


def test_nothing_to_compare():
    with pytest.raises(DataError, match="at least one row"):
        regression_report([1.0], [np.nan], [0])
    with pytest.raises(DataError, match=r"\(2,\), \(1,\), \(2,\)"):
        regression_report([1.0, 2.0], [1.0], [0, 1])
