import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from xecg.errors import ConfigError
from xecg.explain.deep_taylor import DeepTaylor
from xecg.explain.faithfulness.attributions import METHODS, find_methods, relevance_maps
from xecg.explain.faithfulness.decisions import Decisions


def explained_weights(decisions: Decisions) -> NDArray[np.float32]:
    """The weights of each window's explained logit, ``(n, time)``."""
    return decisions.network.linear.weight[decisions.classes].numpy()


def test_the_gradient_of_a_weighted_sum_is_its_weights(decisions: Decisions) -> None:
    found = relevance_maps("gradient", decisions)
    np.testing.assert_allclose(found, np.abs(explained_weights(decisions)), rtol=1e-6)


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients"])
def test_attributions_of_a_weighted_sum_are_its_terms(decisions: Decisions, method: str) -> None:
    terms = explained_weights(decisions) * decisions.x.squeeze(1).numpy()
    np.testing.assert_allclose(relevance_maps(method, decisions), np.abs(terms), atol=1e-5)


def test_integrated_gradients_are_complete() -> None:
    """Their sum is the logit minus that of the flat line at zero; here none is negative."""
    torch.manual_seed(0)
    layers = [nn.Conv1d(1, 3, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 2)]
    network = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
        layers[0].bias.neg_()  # so that the slope changes on the way from zero
    x = torch.rand(20, 1, 64)
    decisions = Decisions.of(network, x)
    found = relevance_maps("integrated_gradients", decisions).sum(axis=1)
    with torch.no_grad():
        rise = network(x) - network(torch.zeros(1, 1, 64))
    expected = rise.gather(1, decisions.classes[:, None]).squeeze(1).numpy()
    np.testing.assert_allclose(found, expected, rtol=0.02)


@pytest.mark.parametrize("rules", ["innvestigate", "zbox"])
def test_deep_taylor_is_that_of_the_explained_class(decisions: Decisions, rules: str) -> None:
    expected = DeepTaylor(decisions.network, rules).attribute(decisions.x, decisions.classes)
    found = relevance_maps(f"dtd_{rules}", decisions)
    np.testing.assert_array_equal(found, expected.squeeze(1).numpy())
    assert found.any()


def test_the_steepest_sample_is_the_most_relevant_one_of_steepness(linear: nn.Sequential) -> None:
    x = torch.zeros(1, 1, 40)
    x[..., 20:] = 1
    (found,) = relevance_maps("steepness", Decisions.of(linear, x))
    assert np.flatnonzero(found).tolist() == [19, 20]


def test_random_maps_come_from_their_seed_and_differ_between_windows(decisions: Decisions) -> None:
    found = relevance_maps("random", decisions, seed=1)
    np.testing.assert_array_equal(found, relevance_maps("random", decisions, seed=1))
    assert not np.array_equal(found, relevance_maps("random", decisions, seed=2))
    assert len(np.unique(found, axis=0)) == len(decisions)


@pytest.mark.parametrize("method", METHODS)
def test_every_map_is_float32_never_negative_and_told_of(method: str, decisions: Decisions) -> None:
    told: list[int] = []
    with torch.inference_mode():
        found = relevance_maps(method, decisions, done=told.append)
    assert found.shape == (12, 40)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert sum(told) == 12


@pytest.mark.parametrize("method", [name for name in METHODS if name != "random"])
def test_a_window_has_the_same_map_in_any_batch(method: str, decisions: Decisions) -> None:
    alone = relevance_maps(method, decisions.take(torch.tensor([5])))
    together = relevance_maps(method, decisions)
    np.testing.assert_allclose(together[5:6], alone, rtol=1e-5, atol=1e-7)


def test_a_method_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"dtd_zbox.*found 'saliency'"):
        find_methods(["gradient", "saliency"])


def test_without_captum_it_is_said_what_to_install(
    decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    for name in [name for name in sys.modules if name.split(".")[0] == "captum"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(ConfigError, match=r"pip install 'xecg-lightning\[compare\]'"):
        relevance_maps("integrated_gradients", decisions)
