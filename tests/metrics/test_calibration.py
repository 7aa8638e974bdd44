"""Calibration finds the distortion of a margin; thresholds keep what their names promise."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import expit

from xecg.errors import DataError
from xecg.metrics.calibration import LEAST, calibrate, operating_points, predictive_value


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
