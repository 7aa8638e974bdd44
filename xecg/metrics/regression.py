"""RR measures in ms: errors while training, and a report with intervals over persons at test."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torchmetrics import MeanAbsoluteError, MetricCollection, PearsonCorrCoef, R2Score

from xecg.errors import DataError
from xecg.metrics.bootstrap import FloatArray, Interval, divide, intervals


def rr_metrics(prefix: str = "") -> MetricCollection:
    """Returns MAE, R² and Pearson's r of measures ``(batch,)`` in ms, named as in the report."""
    metrics = {"mae_ms": MeanAbsoluteError(), "r2": R2Score(), "pearson_r": PearsonCorrCoef()}
    # Each by itself: in a group, R² and r would share a state, which keeps its precision alone.
    collection = MetricCollection(metrics, prefix=prefix, compute_groups=False)  # type: ignore[arg-type]
    return collection.set_dtype(torch.float64)  # sums of squares in float32 would cancel


def regression_report(
    predicted: ArrayLike, target: ArrayLike, groups: ArrayLike, *, n_resamples: int = 1000
) -> dict[str, Interval]:
    """Returns MAE (``mae_ms``), R² (``r2``) and Pearson's r (``pearson_r``) with intervals.

    Measures ``(n,)`` are in ms, groups persons or records; windows without a true measure (NaN)
    are left out. Raises DataError if lengths differ, or none is left.
    """
    found, true, names = np.asarray(predicted, float), np.asarray(target, float), np.asarray(groups)
    shapes = found.shape, true.shape, names.shape
    if len(set(shapes)) > 1 or found.ndim != 1:
        raise DataError(f"expected one predicted, target and group a window; found shapes {shapes}")
    known = ~np.isnan(true)
    x, y, error = found[known], true[known], (found - true)[known]
    if x.size:  # centred, so that sums of squares do not cancel; R² and r do not depend on it
        x, y = x - x.mean(), y - y.mean()
    sums = np.stack([np.ones_like(y), np.abs(error), error**2, x, y, x * x, y * y, x * y], axis=1)

    def errors(weights: FloatArray) -> dict[str, FloatArray]:
        n, absolute, squared, x, y, xx, yy, xy = (weights @ sums).T
        x_mean, y_mean = divide(x, n), divide(y, n)
        x_spread, y_spread = _spread(xx, n * x_mean**2), _spread(yy, n * y_mean**2)
        return {
            "mae_ms": divide(absolute, n),
            "r2": 1 - divide(squared, y_spread),
            "pearson_r": divide(xy - n * x_mean * y_mean, np.sqrt(x_spread * y_spread)),
        }

    return intervals(errors, names[known], n_resamples=n_resamples)


def _spread(squares: FloatArray, of_mean: FloatArray) -> FloatArray:
    """Returns the sum of squared deviations; zero, not a rounding error, of equal values."""
    spread = squares - of_mean
    return np.where(spread > 1e-9 * squares, spread, 0.0)
