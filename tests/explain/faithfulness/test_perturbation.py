import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from torch import nn

from xecg.errors import ConfigError, DataError
from xecg.explain.faithfulness.attributions import relevance_maps
from xecg.explain.faithfulness.decisions import Decisions
from xecg.explain.faithfulness.filling import FILLINGS
from xecg.explain.faithfulness.perturbation import MEASURES, ORDERS, perturbation_curves
from xecg.explain.faithfulness.segments import relevance_ranks, segment_means


def random_ranks(n: int, segments: int, seed: int = 0):
    return relevance_ranks(np.random.default_rng(seed).random((n, segments)), seed)


@pytest.mark.parametrize("filling", FILLINGS)
def test_curves_are_those_of_one_window_and_one_step_after_the_other(
    decisions: Decisions, filling: str
) -> None:
    ranks = random_ranks(12, 14)  # the last segment has one sample
    curves = perturbation_curves(decisions, ranks, filling, length=3, steps=4)
    np.testing.assert_allclose(curves.shares, [0, 4 / 14, 7 / 14, 10 / 14, 1])
    for order, places in {"MoRF": ranks, "LeRF": 13 - ranks}.items():
        for step, n_replaced in enumerate((0, 4, 7, 10, 14)):
            replaced = np.repeat(places < n_replaced, 3, axis=1)[:, :40]
            x = FILLINGS[filling](decisions.x.squeeze(1).numpy(), replaced)
            with torch.no_grad():
                logits = decisions.network(torch.from_numpy(x)[:, None])
            for measure, outputs in zip(MEASURES, (logits.softmax(1), logits), strict=True):
                expected = outputs[torch.arange(12), decisions.classes]
                found = curves.outputs[order][measure][:, step]
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_of_a_positive_sum_no_order_has_a_larger_area_than_that_of_its_terms(
    decisions: Decisions,
) -> None:
    """With zero, the change of a sum is the sum of what was taken: its terms are the truth."""
    with torch.no_grad():
        decisions.network.linear.weight.abs_()
    terms = relevance_maps("input_x_gradient", decisions)
    best = perturbation_curves(decisions, relevance_ranks(terms, 0), "zero", length=1)
    area = best.area("logit")
    for seed in range(5):
        other = perturbation_curves(decisions, random_ranks(12, 40, seed), "zero", length=1)
        assert (area > other.area("logit")).all()
    assert (best.change("MoRF", "logit") <= 0).all()
    assert (np.diff(best.change("MoRF", "logit"), n=2, axis=1) >= -1e-5).all()  # largest first


@pytest.mark.parametrize("filling", FILLINGS)
def test_both_curves_start_at_the_whole_window_and_end_at_the_same(
    decisions: Decisions, filling: str
) -> None:
    curves = perturbation_curves(decisions, random_ranks(12, 8), filling, length=5, steps=4)
    for measure in MEASURES:
        most, least = (curves.change(order, measure) for order in ORDERS)
        assert not most[:, 0].any()
        np.testing.assert_allclose(most[:, -1], least[:, -1], atol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_the_reverse_order_has_the_opposite_area(seed: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(40, 4), nn.ReLU(), nn.Linear(4, 2))
    decisions = Decisions.of(network, torch.rand(3, 1, 40))
    ranks = random_ranks(3, 8, seed)
    forth = perturbation_curves(decisions, ranks, "interpolation", length=5, steps=8)
    back = perturbation_curves(decisions, 7 - ranks, "interpolation", length=5, steps=8)
    for measure in MEASURES:
        np.testing.assert_allclose(forth.area(measure), -back.area(measure), atol=1e-9)


def test_an_area_is_the_mean_gap_between_the_curves(decisions: Decisions) -> None:
    curves = perturbation_curves(decisions, random_ranks(12, 40), "zero", length=1, steps=7)
    gap = curves.change("LeRF", "logit") - curves.change("MoRF", "logit")
    np.testing.assert_allclose(curves.area("logit"), trapezoid(gap, curves.shares, axis=1))


def test_it_is_told_how_many_signals_are_done(decisions: Decisions) -> None:
    told: list[int] = []
    perturbation_curves(decisions, random_ranks(12, 8), "zero", length=5, steps=4, done=told.append)
    assert sum(told) == 12 * 5 * 2


def test_quantus_pixel_flipping_gives_the_same_curve(decisions: Decisions) -> None:
    quantus = pytest.importorskip("quantus", reason="quantus is not installed (extra: compare)")
    maps = relevance_maps("input_x_gradient", decisions)
    flipping = quantus.PixelFlipping(
        features_in_step=4,
        abs=False,
        normalise=False,
        perturb_baseline=0.0,
        disable_warnings=True,
        display_progressbar=False,
    )
    expected = flipping(
        model=decisions.network,
        x_batch=decisions.x.numpy(),
        y_batch=decisions.classes.numpy(),
        a_batch=maps[:, None],
        channel_first=True,
        softmax=True,
        device="cpu",
    )
    ranks = relevance_ranks(segment_means(maps, 1), 0)
    curves = perturbation_curves(decisions, ranks, "zero", length=1, steps=10)
    found = curves.outputs["MoRF"]["probability"][:, 1:]  # Quantus leaves the whole window out
    np.testing.assert_allclose(found, np.array(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filling": "noise"}, "interpolation, zero; found 'noise'"),
        ({"steps": 0}, "within 1 to 8; found 0"),
        ({"steps": 9}, "within 1 to 8; found 9"),
    ],
)
def test_settings_out_of_range_are_refused(
    decisions: Decisions, settings: dict[str, str | int], message: str
) -> None:
    arguments = {"filling": "zero", "length": 5, "steps": 4} | settings
    with pytest.raises(ConfigError, match=message):
        perturbation_curves(decisions, random_ranks(12, 8), **arguments)


def test_ranks_of_other_segments_are_refused(decisions: Decisions) -> None:
    with pytest.raises(DataError, match=r"\(12, 8\), found \(12, 40\)"):
        perturbation_curves(decisions, random_ranks(12, 40), "zero", length=5)
