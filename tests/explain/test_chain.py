import copy

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from xecg.errors import NetworkError
from xecg.explain.deep_taylor import chain_of, frozen_copy, layers_to, traced

X = torch.rand(2, 1, 32)


def head(channels=2):
    return [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, 2)]


def explained(network, merge=False):
    """The output of a copy, and the layers to it, as copied for an explanation."""
    output = traced(frozen_copy(network), X)
    return output, chain_of(layers_to(output, "the output"), merge=merge)


def paths(chain):
    return [layer.path for layer in chain]


class Backwards(nn.Module):
    """Registers its layers in the opposite order."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(*head())
        self.norm = nn.BatchNorm1d(2)
        self.conv = nn.Conv1d(1, 2, 3)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)))


def fit_and_revert(network):
    return TorchSyncBatchNorm().revert(TorchSyncBatchNorm().apply(network))


class Functional(Backwards):
    def forward(self, x):
        return self.head(F.relu(self.norm(self.conv(x))))


class FunctionalInPlace(Backwards):
    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu_())


class FunctionalAtTheEnd(Backwards):
    def forward(self, x):
        return super().forward(x).softmax(dim=1)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class TwoBranches(nn.Module):
    """Shares its first layer; registered with batch normalisation of one behind the other."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(1, 2, 3)
        self.convs = nn.ModuleDict({"a": nn.Conv1d(2, 2, 3), "b": nn.Conv1d(2, 2, 3)})
        self.norms = nn.ModuleDict({"a": nn.BatchNorm1d(2), "b": nn.BatchNorm1d(2)})
        self.heads = nn.ModuleDict({name: nn.Sequential(*head()) for name in "ab"})

    def forward(self, x):
        x = self.stem(x)
        return {name: self.heads[name](self.norms[name](self.convs[name](x))) for name in "ab"}


def test_order_is_that_of_computation():
    _, chain = explained(Backwards())
    assert paths(chain) == ["conv", "norm", "head.0", "head.1", "head.2"]


def test_each_output_has_its_own_chain():
    network = TwoBranches().eval()
    for name, output in traced(frozen_copy(network), X).items():
        layers = layers_to(output, name)
        assert paths(layers)[:3] == ["stem", f"convs.{name}", f"norms.{name}"]
        assert torch.equal(output, network(X)[name])


def test_layers_that_do_nothing_are_left_out():
    network = nn.Sequential(nn.Identity(), nn.Conv1d(1, 2, 3), nn.Dropout(0.5), *head())
    assert paths(explained(network)[1]) == ["1", "3", "4", "5"]


def test_a_layer_that_computes_twice_stands_there_twice():
    relu = nn.ReLU(inplace=True)
    network = nn.Sequential(nn.Conv1d(1, 2, 3), relu, nn.Conv1d(2, 2, 3), relu, *head())
    _, layers = explained(network)
    assert [layer.path for layer in layers][:4] == ["0", "1", "2", "1"]
    assert layers[1].module is not layers[3].module


def test_copies_compute_in_eval_mode_and_float32():
    network = nn.Sequential(
        nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.Dropout(0.9), *head()
    ).double()
    output, _ = explained(network)
    expected = copy.deepcopy(network).float().eval()(X)
    assert torch.equal(output, expected)
    assert output.dtype == torch.float32


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (nn.Sequential(nn.Conv1d(1, 2, 3), nn.GELU(), *head()), r"1 \(GELU\)"),
        (nn.Sequential(nn.Conv1d(1, 2, 3), nn.LSTM(30, 4), *head()), r"1 \(LSTM\)"),
        (nn.Sequential(weight_norm(nn.Conv1d(1, 2, 3)), *head()), r"0\.parametrizations"),
        (nn.Sequential(nn.Conv1d(1, 2, 3), Residual(nn.ReLU()), *head()), r"2 \(AdaptiveAvg"),
        (Functional(), r"head\.0 \(AdaptiveAvgPool1d\)"),
        (FunctionalInPlace(), r"head\.0 \(AdaptiveAvgPool1d\)"),
        (FunctionalAtTheEnd(), "the output is not"),
        (nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2, track_running_stats=False)), r"1 \("),
        (nn.GELU(), r"network \(GELU\)"),
    ],
)
def test_what_is_no_chain_of_covered_layers_is_refused_by_name(network, named):
    with pytest.raises(NetworkError, match=named):
        explained(network)


@pytest.mark.parametrize(
    "sync", [TorchSyncBatchNorm().apply, fit_and_revert], ids=["during", "after"]
)
def test_batch_norms_that_processes_share_in_a_fit_are_plain_ones(sync):
    torch.manual_seed(0)
    network = Backwards()
    nn.init.normal_(network.norm.running_mean)
    nn.init.uniform_(network.norm.weight)
    expected, layers = explained(network)
    synchronised = sync(network)
    assert type(synchronised.norm) is not nn.BatchNorm1d
    output, chain = explained(synchronised)
    assert paths(chain) == paths(layers)
    assert torch.equal(output, expected)


def test_merging_keeps_the_output_and_leaves_no_normalisation():
    torch.manual_seed(0)
    norms = [nn.BatchNorm1d(4), nn.BatchNorm1d(2, affine=False)]
    for norm in norms:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.normal_(norms[0].weight)
    conv, (first, second) = nn.Conv1d(1, 4, 3, bias=False), norms
    network = nn.Sequential(conv, first, nn.Dropout(0.5), nn.ReLU(), *head(4), second)
    output, chain = explained(network, merge=True)
    assert paths(chain) == ["0", "3", "4", "5", "6"]
    torch.testing.assert_close(nn.Sequential(*(layer.module for layer in chain))(X), output)


def test_a_normalisation_behind_a_shared_layer_is_merged_once_for_each_output():
    network = TwoBranches()
    network.stem = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2))
    nn.init.constant_(network.stem[1].weight, 3.0)
    for name, output in traced(frozen_copy(network), X).items():
        chain = chain_of(layers_to(output, name), merge=True)
        layers = nn.Sequential(*(layer.module for layer in chain))
        torch.testing.assert_close(layers(X), output)


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ([nn.BatchNorm1d(1), nn.Conv1d(1, 2, 3)], r"0 \(BatchNorm1d\) follows the input"),
        ([nn.Conv1d(1, 2, 3), nn.ReLU(), nn.BatchNorm1d(2)], r"2 .* follows 1 \(ReLU\)"),
        ([nn.Conv1d(1, 2, 3), nn.Linear(30, 5), nn.BatchNorm1d(2)], r"2 .* follows 1 \(Linear\)"),
    ],
)
def test_what_cannot_be_merged_is_refused_by_name(layers, named):
    with pytest.raises(NetworkError, match=named):
        explained(nn.Sequential(*layers), merge=True)
