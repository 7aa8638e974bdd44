"""Probabilities that mean what they say, and thresholds that one may choose from."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from xecg.errors import DataError
from xecg.metrics.bootstrap import FloatArray

LEAST = 0.99  # sensitivity of the sensitive point, specificity of the specific one
PREVALENCES = (0.01, 0.05, 0.10, 0.30)  # of AF, at which predictive values are told


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
    return {
        name: {
            "threshold": float(thresholds[at]),
            "sensitivity": float(sensitivity[at]),
            "specificity": float(specificity[at]),
        }
        for name, at in places.items()
    }


def predictive_value(sensitivity: float, specificity: float, prevalence: float) -> float:
    """Returns the share of true ones among the windows that are called AF (Bayes)."""
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return true / (true + false) if true + false else float("nan")
