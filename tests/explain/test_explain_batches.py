"""Explaining the predicted class batch by batch."""

import pytest
import torch
from torch import nn

from xecg.errors import DataError
from xecg.explain import DeepTaylor
from xecg.networks.xecgarch import XECGArch


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = XECGArch.build(channels=4).eval()
    for head in network.heads.values():
        nn.init.uniform_(head[-1].weight, 0, 1)
    return network


@pytest.mark.parametrize("rules", ["innvestigate", "zbox"])
@pytest.mark.parametrize("batch_size", [None, 1, 3, 5, 8])
def test_an_explanation_is_logits_and_relevance_of_the_predicted_class(network, rules, batch_size):
    x = torch.rand(5, 1, 300)
    deep_taylor = DeepTaylor(network, rules)
    with torch.inference_mode():
        explained = deep_taylor.explain(x, batch_size=batch_size)
        logits, relevance = network(x), deep_taylor.attribute(x, "predicted")
    for name, explanation in explained.items():
        assert torch.allclose(explanation.logits, logits[name], atol=1e-5)
        assert torch.allclose(explanation.relevance, relevance[name], atol=1e-6)
        assert explanation.relevance.shape == x.shape
        assert explanation.relevance.any()


def test_a_network_of_one_output_gives_one_explanation(network):
    x = torch.rand(4, 1, 300)
    chain = network.chain("rhythm")
    explanation = DeepTaylor(chain).explain(x, batch_size=2)
    assert torch.allclose(explanation.logits, chain(x), atol=1e-5)
    assert explanation.logits.shape == (4, 2)
    assert not explanation.logits.requires_grad


def test_windows_are_checked_as_a_whole(network):
    x = torch.rand(4, 1, 300)
    x[3, 0, 0] = 2
    with pytest.raises(DataError, match=r"must lie in \[0\.0, 1\.0\]"):
        DeepTaylor(network, "zbox").explain(x, batch_size=1)
