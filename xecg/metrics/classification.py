"""AF against non-AF: metrics while training, and a report with intervals over persons at test."""

import numpy as np
from numpy.typing import ArrayLike
from torchmetrics import MetricCollection, classification

from xecg.errors import DataError
from xecg.metrics.bootstrap import FloatArray, Interval, Statistics, divide, intervals

_BINS = 15  # of the calibration error


def af_metrics(prefix: str = "", threshold: float = 0.5) -> MetricCollection:
    """Returns metrics of P(AF) and labels (1 for AF), both ``(batch,)``, named as in the report.

    A window counts as AF where P(AF) is above ``threshold``; ``prefix`` comes before each name.
    """
    return MetricCollection(
        {
            "accuracy": classification.BinaryAccuracy(threshold),
            "sensitivity": classification.BinaryRecall(threshold),
            "specificity": classification.BinarySpecificity(threshold),
            "ppv": classification.BinaryPrecision(threshold),
            "f1": classification.BinaryF1Score(threshold),
            "auroc": classification.BinaryAUROC(),
            "auprc": classification.BinaryAveragePrecision(),
            "calibration_error": classification.BinaryCalibrationError(n_bins=_BINS, norm="l1"),
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
) -> dict[str, Interval]:
    """Returns every metric of :func:`af_metrics` with its interval over persons.

    AUPRC is the average precision (steps, no interpolation); the calibration error is the expected
    one (Guo et al. 2017) of P(AF) in 15 bins of equal width. ``n`` and ``n_groups`` count the
    windows that a metric is over, and their persons: those with AF for the sensitivity.

    P(AF), ``target`` (1 for AF, else 0) and groups (persons or records) are ``(n,)``. Raises
    DataError if lengths differ, there is no window, or a value is no probability or label.
    """
    probability, label, names = np.asarray(p_af, float), np.asarray(target), np.asarray(groups)
    shapes = probability.shape, label.shape, names.shape
    if len(set(shapes)) > 1 or probability.ndim != 1:
        raise DataError(f"expected one p_af, target and group a window; found shapes {shapes}")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise DataError("p_af must lie between 0 and 1; found values outside or NaN")
    if not np.isin(label, (0, 1)).all():
        raise DataError(f"target must be 0 or 1; found {np.unique(label)}")
    order = np.argsort(-probability, kind="stable")  # once, for the curves of all resamples
    probability, af, names = probability[order], label[order].astype(float), names[order]
    called, true = probability > threshold, af == 1
    outcomes = np.stack([called * af, called * (1 - af), ~called * af, ~called * (1 - af)], axis=1)
    bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    excess = np.where(bins[:, None] == np.arange(_BINS), (probability - af)[:, None], 0.0)
    curves = ranked(probability, af)
    over = {
        "accuracy": [true | ~true],
        "sensitivity": [true],
        "specificity": [~true],
        "ppv": [called],
        "f1": [true | called],
        "auroc": [true, ~true],
        "auprc": [true, ~true],
    }

    def statistics(weights: FloatArray) -> dict[str, FloatArray]:
        tp, fp, fn, tn = (weights @ outcomes).T
        return {
            "accuracy": divide(tp + tn, tp + fp + fn + tn),
            "sensitivity": divide(tp, tp + fn),
            "specificity": divide(tn, tn + fp),
            "ppv": divide(tp, tp + fp),
            "f1": divide(2 * tp, 2 * tp + fp + fn),
            **curves(weights),
            "calibration_error": divide(np.abs(weights @ excess).sum(axis=1), weights.sum(axis=1)),
        }

    return intervals(statistics, names, over=over, n_resamples=n_resamples)


def ranked(probability: FloatArray, af: FloatArray) -> Statistics:
    """Returns AUROC and AUPRC as functions of row weights ``(r, n)``.

    ``probability`` of AF ``(n,)`` falls, equal ones are one step; ``af`` is 1 for AF, else 0.
    """
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
