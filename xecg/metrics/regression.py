"""RR measures in ms: errors while training, and a report with intervals over persons at test."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from xecg.metrics.bootstrap import Interval, check_rows, divide, intervals

FloatArray = NDArray[np.float64]


class RegressionErrors(Metric):
    """MAE (ms), R² and Pearson's r over all batches and processes; NaN where undefined.

    Values are kept to the end: sums of squares in float32 would cancel.
    """

    full_state_update = False
    predicted: list[Tensor]
    target: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("predicted", default=[], dist_reduce_fx="cat")
        self.add_state("target", default=[], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add a batch ``(batch,)`` in ms; windows without a target (NaN) are left out."""
        self.predicted.append(predicted.detach().float())
        self.target.append(target.detach().float())

    def compute(self) -> dict[str, Tensor]:
        """The errors of all windows."""
        predicted, target = (
            dim_zero_cat(kept).cpu().numpy().astype(float) for kept in (self.predicted, self.target)
        )
        known = ~np.isnan(target)
        errors = _Errors(predicted[known], target[known])(np.ones((1, int(known.sum()))))
        return {
            name: torch.tensor(float(value[0]), dtype=torch.float32, device=self.device)
            for name, value in errors.items()
        }


def rr_metrics(prefix: str = "") -> MetricCollection:
    """Errors of one RR measure, predicted and true ``(batch,)`` in ms, under the report's names."""
    return MetricCollection([RegressionErrors()], prefix=prefix)


def regression_report(
    predicted: ArrayLike,
    target: ArrayLike,
    groups: ArrayLike,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """MAE (``mae_ms``), R² (``r2``) and Pearson's r (``pearson_r``) with intervals over persons.

    Args:
        predicted: Predicted measure of each window in ms, ``(n,)``.
        target: True measure in ms, ``(n,)``; windows without one (NaN) are left out.
        groups: Person (or record) of each window, ``(n,)``.
        n_resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        An interval per metric; ``n`` counts windows with a true measure.

    Raises:
        DataError: The lengths differ, or no window has a true measure.
    """
    found, true = np.asarray(predicted, dtype=float), np.asarray(target, dtype=float)
    names = np.asarray(groups)
    check_rows(groups=names, predicted=found, target=true)
    known = ~np.isnan(true)
    errors = _Errors(found[known], true[known])
    return intervals(errors, names[known], n_resamples=n_resamples, seed=seed)


class _Errors:
    """Errors as a function of row weights."""

    def __init__(self, predicted: FloatArray, target: FloatArray) -> None:
        error = predicted - target
        # Centred, so that sums of squares do not cancel; neither R² nor r depends on it.
        x = predicted - predicted.mean() if predicted.size else predicted
        y = target - target.mean() if target.size else target
        sums = [np.ones_like(y), np.abs(error), error**2, x, y, x * x, y * y, x * y]
        self._columns = np.stack(sums, axis=1)

    def __call__(self, weights: FloatArray) -> dict[str, FloatArray]:
        n, absolute, squared, x, y, xx, yy, xy = (weights @ self._columns).T
        x_mean, y_mean = divide(x, n), divide(y, n)
        x_spread, y_spread = _spread(xx, n * x_mean**2), _spread(yy, n * y_mean**2)
        return {
            "mae_ms": divide(absolute, n),
            "r2": 1 - divide(squared, y_spread),
            "pearson_r": divide(xy - n * x_mean * y_mean, np.sqrt(x_spread * y_spread)),
        }


def _spread(squares: FloatArray, of_mean: FloatArray) -> FloatArray:
    """Sum of squared deviations; zero, not a rounding error, where all values are equal."""
    spread = squares - of_mean
    return np.where(spread > 1e-9 * squares, spread, 0.0)
