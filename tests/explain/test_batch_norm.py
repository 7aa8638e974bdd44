import pytest
import torch
from torch import nn

from xecg.errors import NetworkError
from xecg.explain.deep_taylor import copy_chains, merge_batch_norms

X = torch.rand(2, 1, 32)


def test_merging_keeps_the_output():
    torch.manual_seed(0)
    norms = [nn.BatchNorm1d(4), nn.BatchNorm1d(2, affine=False)]
    for norm in norms:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.normal_(norms[0].weight)
    first, second = norms
    head = nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2)
    network = nn.Sequential(
        nn.Conv1d(1, 4, 3, bias=False), first, nn.Dropout(0.5), nn.ReLU(), *head, second
    )
    chain = copy_chains(network, X)
    merged = merge_batch_norms(chain)
    assert [layer.path for layer in merged.layers] == ["0", "3", "4", "5", "6"]
    layers = nn.Sequential(*(layer.module for layer in merged.layers))
    torch.testing.assert_close(layers(X), chain.output)


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ([nn.BatchNorm1d(1), nn.Conv1d(1, 2, 3)], r"0 \(BatchNorm1d\) follows the input"),
        ([nn.Conv1d(1, 2, 3), nn.ReLU(), nn.BatchNorm1d(2)], r"2 .* follows 1 \(ReLU\)"),
        ([nn.Conv1d(1, 2, 3), nn.Linear(30, 5), nn.BatchNorm1d(2)], r"2 .* follows 1 \(Linear\)"),
    ],
)
def test_what_cannot_be_merged_is_refused_by_name(layers, named):
    chain = copy_chains(nn.Sequential(*layers), X)
    with pytest.raises(NetworkError, match=named):
        merge_batch_norms(chain)
