"""AF against non-AF: metrics while training, and a report with intervals over persons at test."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryCalibrationError,
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
    BinarySpecificity,
)

from xecg.errors import DataError
from xecg.metrics.bootstrap import Interval, check_rows, divide, intervals

CALIBRATION_BINS = 15

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]


def af_metrics(prefix: str = "", threshold: float = 0.5) -> MetricCollection:
    """Metrics of P(AF) against labels (1 for AF), both ``(batch,)``, named as in the report.

    Args:
        prefix: Goes before each name.
        threshold: P(AF) above which a window counts as AF.
    """
    return MetricCollection(
        {
            "accuracy": BinaryAccuracy(threshold),
            "sensitivity": BinaryRecall(threshold),
            "specificity": BinarySpecificity(threshold),
            "ppv": BinaryPrecision(threshold),
            "f1": BinaryF1Score(threshold),
            "auroc": BinaryAUROC(),
            "auprc": BinaryAveragePrecision(),
            "calibration_error": BinaryCalibrationError(n_bins=CALIBRATION_BINS, norm="l1"),
        },
        prefix=prefix,
    )


def classification_report(
    p_af: ArrayLike,
    target: ArrayLike,
    groups: ArrayLike,
    *,
    threshold: float = 0.5,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Every metric of :func:`af_metrics` with its interval over persons.

    AUPRC is the average precision (steps, no interpolation); the calibration error is the expected
    one (Guo et al. 2017) of P(AF) in 15 bins of equal width. A metric that a resample leaves
    undefined, such as the sensitivity without AF, is left out of that resample.

    Args:
        p_af: P(AF) of each window, ``(n,)``, in [0, 1].
        target: 1 for AF, 0 for not, ``(n,)``.
        groups: Person (or record) of each window, ``(n,)``.
        threshold: P(AF) above which a window counts as AF.
        n_resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        An interval per metric; ``n`` counts windows.

    Raises:
        DataError: The lengths differ, there is no window, or a value is no probability or label.
    """
    probability, label = np.asarray(p_af, dtype=float), np.asarray(target)
    names = np.asarray(groups)
    check_rows(groups=names, p_af=probability, target=label)
    if not ((probability >= 0) & (probability <= 1)).all():
        raise DataError("p_af must lie between 0 and 1; found values outside or NaN")
    if not np.isin(label, (0, 1)).all():
        raise DataError(f"target must be 0 or 1; found {np.unique(label)}")
    order = np.argsort(-probability, kind="stable")  # once, for the curves of all resamples
    probability, af = probability[order], label[order].astype(float)
    at_threshold = _thresholded(probability > threshold, af)
    curves = _ranked(probability, af)
    calibration = _calibration(probability, af)

    def statistics(weights: FloatArray) -> dict[str, FloatArray]:
        return {
            **at_threshold(weights),
            **curves(weights),
            "calibration_error": calibration(weights),
        }

    return intervals(statistics, names[order], n_resamples=n_resamples, seed=seed)


def _thresholded(
    called: NDArray[np.bool_], af: FloatArray
) -> Callable[[FloatArray], dict[str, FloatArray]]:
    outcomes = np.stack([called * af, called * (1 - af), ~called * af, ~called * (1 - af)], axis=1)

    def statistics(weights: FloatArray) -> dict[str, FloatArray]:
        tp, fp, fn, tn = (weights @ outcomes).T
        return {
            "accuracy": divide(tp + tn, tp + fp + fn + tn),
            "sensitivity": divide(tp, tp + fn),
            "specificity": divide(tn, tn + fp),
            "ppv": divide(tp, tp + fp),
            "f1": divide(2 * tp, 2 * tp + fp + fn),
        }

    return statistics


def _ranked(
    probability: FloatArray, af: FloatArray
) -> Callable[[FloatArray], dict[str, FloatArray]]:
    """AUROC and AUPRC of rows sorted by falling probability; equal ones are one step."""
    steps = np.flatnonzero(np.r_[True, np.diff(probability) != 0])

    def statistics(weights: FloatArray) -> dict[str, FloatArray]:
        positives = np.add.reduceat(weights * af, steps, axis=1)
        negatives = np.add.reduceat(weights * (1 - af), steps, axis=1)
        tp, fp = positives.cumsum(axis=1), negatives.cumsum(axis=1)
        # Pairs ranked rightly, ties half: the area under the trapezoids.
        concordant = (negatives * (tp - positives / 2)).sum(axis=1)
        precision = np.divide(tp, tp + fp, out=np.zeros_like(tp), where=tp > 0)
        return {
            "auroc": divide(concordant, tp[:, -1] * fp[:, -1]),
            "auprc": divide((positives * precision).sum(axis=1), tp[:, -1]),
        }

    return statistics


def _calibration(probability: FloatArray, af: FloatArray) -> Statistic:
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    excess = np.zeros((len(bins), CALIBRATION_BINS))
    excess[np.arange(len(bins)), bins] = probability - af

    def statistic(weights: FloatArray) -> FloatArray:
        return divide(np.abs(weights @ excess).sum(axis=1), weights.sum(axis=1))

    return statistic
