"""AF against non-AF: metrics while training, a report with intervals over persons, calibration."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torchmetrics import MetricCollection, classification

from xecg.errors import DataError
from xecg.metrics.bootstrap import FloatArray, Interval, Statistics, divide, intervals

_BINS = 15  # of the calibration error
LEAST = 0.99  # sensitivity of the sensitive point, specificity of the specific one
PREVALENCES = (0.01, 0.05, 0.10, 0.30)  # of AF, at which predictive values are told


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


def calibrate(
    margins: Mapping[str, FloatArray], af: NDArray[np.integer], prevalence: float
) -> dict[str, tuple[float, float]]:
    r"""Returns slope and intercept of each branch's logit margin.

    .. math::
        p_b = \sigma(a_b m_b + c_b), \qquad p = \frac{1}{B} \sum_b p_b

    The negative log-likelihood of :math:`p` and of each :math:`p_b` is the lowest on windows that
    are weighted so that ``prevalence`` of them are in AF: Platt 1999, for all branches together.

    Takes margins, the logit of AF minus that of non-AF, by branch ``(n,)``, and labels ``(n,)``.
    Raises DataError if the windows are all of one class.
    """
    share = af.mean()
    if not 0 < share < 1:
        raise DataError(f"calibration needs windows of both classes; found {share:.0%} of AF")
    weights = np.where(af == 1, prevalence / share, (1 - prevalence) / (1 - share))
    matrix = np.stack([*margins.values()])

    def cost(parameters: FloatArray) -> float:
        slopes, intercepts = parameters.reshape(2, -1, 1)
        branches = expit(np.exp(slopes) * matrix + intercepts)
        every = np.vstack([branches.mean(axis=0), branches])
        likelihood = np.log(np.where(af == 1, every, 1 - every).clip(1e-7))
        return float(-(likelihood * weights).mean())

    found = minimize(cost, np.zeros(2 * len(matrix)), method="Powell").x.reshape(2, -1)
    slopes, intercepts = np.exp(found[0]).tolist(), found[1].tolist()
    return dict(zip(margins, zip(slopes, intercepts, strict=True), strict=True))


def operating_points(p_af: FloatArray, af: NDArray[np.integer]) -> dict[str, dict[str, float]]:
    """Returns thresholds by name, each with the sensitivity and specificity above it.

    ``sensitive`` is the highest threshold of a sensitivity of ``LEAST``, ``specific`` the lowest of
    such a specificity, ``balanced`` that of the largest sum of both (Youden 1950). A threshold lies
    halfway between the probabilities ``(n,)`` of two windows. Where too many windows in AF have a
    probability of 0, or too many others the largest one, it is the lowest or the highest there is.
    """
    steps = np.unique(p_af)
    thresholds = np.concatenate([[0.0], (steps[1:] + steps[:-1]) / 2])
    non_af, in_af = (np.sort(p_af[af == code]) for code in (0, 1))
    specificity = np.searchsorted(non_af, thresholds, "right") / max(len(non_af), 1)
    sensitivity = 1 - np.searchsorted(in_af, thresholds, "right") / max(len(in_af), 1)
    places = {
        "sensitive": max(np.flatnonzero(sensitivity >= LEAST), default=0),
        "balanced": (sensitivity + specificity).argmax(),
        "specific": (specificity >= LEAST).argmax() if specificity[-1] >= LEAST else -1,
    }
    table = {"threshold": thresholds, "sensitivity": sensitivity, "specificity": specificity}
    return {name: {key: float(of[at]) for key, of in table.items()} for name, at in places.items()}


def predictive_value(sensitivity: float, specificity: float, prevalence: float) -> float:
    """Returns the share of true ones among the windows that are called AF (Bayes)."""
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return true / (true + false) if true + false else float("nan")
