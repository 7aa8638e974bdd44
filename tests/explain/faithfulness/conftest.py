from collections import OrderedDict

import pytest
import torch
from torch import nn

from xecg.explain.faithfulness.decisions import Decisions


@pytest.fixture
def linear() -> nn.Sequential:
    """Logits that are weighted sums of 40 samples, so that everything is known in closed form."""
    layers = nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=nn.Linear(40, 2)))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        weights = torch.randn(2, 40, generator=generator)
        layers.linear.weight.copy_(weights - weights.mean(dim=1, keepdim=True))
        layers.linear.bias.fill_(0.1)
    return layers.eval()


@pytest.fixture
def decisions(linear: nn.Sequential) -> Decisions:
    """What the weighted sums decide about 12 windows of random numbers in [0, 1]."""
    return Decisions.of(linear, torch.rand(12, 1, 40, generator=torch.Generator().manual_seed(4)))
