"""The traced network and its maps are those of DeepTaylor; what cannot be traced is refused.

tests/inference/test_export.py compares whole branches.
"""

import pytest
import torch
from torch import nn

from xecg.errors import NetworkError
from xecg.explain.deep_taylor import DeepTaylor
from xecg.explain.graph import explained_program


class Small(nn.Module):
    """A branch of strides, dilations and sizes at which a transposed convolution has a rest."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleDict({"only": nn.Sequential(*layers)})

    def forward(self, x):
        return self.branches["only"](x)


def test_it_is_the_network_with_its_maps():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(3).requires_grad_(False)
    norm.running_mean.uniform_()
    norm.weight.uniform_(0.5, 1.5)
    head = nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 2)
    convolutions = (
        *(nn.Conv1d(1, 3, 5, stride=3, padding=1), norm, nn.ReLU()),
        *(nn.Conv1d(3, 3, 3, stride=2, dilation=2, padding=2), nn.ReLU()),
    )
    network = Small(*convolutions, *head).eval()
    network.branches["only"][-1].bias.data.fill_(0.5)
    module = explained_program(network, 64).module()
    for batch in (1, 4):
        x = torch.rand(batch, 1, 64)
        x[0, 0, :30] = 0  # where nothing contributes, a share is 0 / 0
        wanted, said = DeepTaylor(network).explain(x), module(x)
        assert wanted.relevance.abs().max() > 0
        torch.testing.assert_close(said["relevance_only"], wanted.relevance.abs())
        torch.testing.assert_close(said["logit_only"], wanted.logits.amax(dim=1))
        torch.testing.assert_close(said["p_af"], wanted.logits.softmax(dim=1)[:, 1])


def test_another_layer_is_refused_by_name():
    network = Small(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.MaxPool1d(62), nn.Flatten()).eval()
    with pytest.raises(NetworkError, match="MaxPool1d"):
        explained_program(network, 64)
