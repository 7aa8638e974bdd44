"""Relevance with a gradient: the maps of DeepTaylor, and what a loss can do to them."""

import pytest
import torch

from xecg.explain import DeepTaylor
from xecg.networks.branch import build_branch
from xecg.networks.penalties import positive_relevance
from xecg.networks.xecgarch import XECGArch


@pytest.mark.parametrize("name", ["morphology", "rhythm"])
@pytest.mark.parametrize("time", [2500, 1001])
def test_it_is_what_deep_taylor_says_of_a_branch(name: str, time: int) -> None:
    torch.manual_seed(0)
    network = XECGArch.build([name], channels=8).eval()
    branch, head = network.branches[name], network.heads[name]
    torch.nn.init.constant_(head.linear.bias, 5.0)  # a logit that is not positive has no map
    x = torch.rand(3, 1, time)
    activations = branch.activations(x)
    pooled = activations[-1].mean(dim=-1)
    shares = pooled * head.linear.weight[1].clamp_min(0)
    logit = network(x)[name][:, 1].clamp_min(0)
    of_channels = shares / shares.sum(dim=1, keepdim=True) * logit[:, None]
    steps = activations[-1].shape[-1]
    found = positive_relevance(
        branch, activations, of_channels[..., None].expand(-1, -1, steps) / steps
    )
    expected = DeepTaylor(network).attribute(x, 1)[name]
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.max().item())


def test_a_loss_on_it_moves_the_evidence() -> None:
    torch.manual_seed(0)
    branch = build_branch("morphology", channels=8)
    x = torch.rand(4, 1, 500)
    optimizer = torch.optim.AdamW(branch.parameters(), lr=1e-2)

    def share_of_the_first_half() -> torch.Tensor:
        activations = branch.activations(x)
        relevance = positive_relevance(branch, activations, activations[-1])
        return relevance[..., :250].sum() / relevance.sum()

    before = share_of_the_first_half()
    for _ in range(20):
        optimizer.zero_grad()
        (-share_of_the_first_half()).backward()
        optimizer.step()
    assert share_of_the_first_half() > before + 0.1
