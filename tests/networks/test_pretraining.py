"""Networks of the pre-training tasks."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from xecg.networks.pretraining import PWaveNetwork, RRNetwork

milliseconds = st.floats(1.0, 1000.0)


def test_p_wave_network_gives_a_logit_per_sample() -> None:
    assert PWaveNetwork(channels=8)(torch.rand(2, 1, 1003)).shape == (2, 1003)


def test_a_feature_may_speak_against_a_wave_unless_the_head_is_positive() -> None:
    features = torch.rand(2, 8, 20)
    for positive in (False, True):
        head = PWaveNetwork(channels=8, positive=positive).head
        torch.nn.init.constant_(head.conv.weight, -1.0)
        assert bool((head.weight > 0).all()) == positive
        silent = head(torch.zeros_like(features), 80)
        assert bool((head(features, 80) >= silent).all()) == positive


def test_rr_network_gives_two_measures() -> None:
    assert RRNetwork(channels=8)(torch.rand(2, 1, 1000)).shape == (2, 2)


@given(st.lists(st.tuples(milliseconds, milliseconds), min_size=3, max_size=20, unique=True))
def test_standardised_targets_come_back_in_ms(targets: list[tuple[float, float]]) -> None:
    network = RRNetwork(channels=8)
    values = torch.tensor(targets)
    network.standardise_by(values + torch.rand_like(values))
    back = network.milliseconds(network.standardised(values))
    assert torch.allclose(back, values, rtol=1e-3)


def test_standardised_training_targets_have_mean_0_and_deviation_1() -> None:
    network = RRNetwork(channels=8)
    targets = torch.rand(1000, 2) * 100 + 1
    network.standardise_by(targets)
    standardised = network.standardised(targets)
    assert torch.allclose(standardised.mean(0), torch.zeros(2), atol=1e-4)
    assert torch.allclose(standardised.std(0), torch.ones(2), atol=1e-4)


def test_scale_is_part_of_the_weights() -> None:
    assert {"mean", "std"} <= RRNetwork(channels=8).state_dict().keys()
