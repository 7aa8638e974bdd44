import copy
import sys

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from xecg.errors import ConfigError, NetworkError, UnknownNameError
from xecg.explain.attributions import ATTRIBUTIONS, BranchExplainer, branch_outputs
from xecg.explain.deep_taylor import DeepTaylor
from xecg.networks.weights import find_weights, load_xecgarch
from xecg.networks.xecgarch import PWaveNetwork, RRNetwork, XECGArch
from xecg.signal.synthetic import synthesize

X = torch.rand(40, 1, 300, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def linear():
    """Logits that are weighted sums of 40 samples, so that everything is known in closed form."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(40, 2)).eval().requires_grad_(False)


def grown(network):
    """A network that answers: batch statistics and heads are not those of a new one."""
    torch.manual_seed(0)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if name.endswith("running_mean"):
            nn.init.normal_(tensor, std=0.3)
        elif "head" in name and name.endswith("weight"):
            nn.init.uniform_(tensor, 0, 1)
    return network.train()


@pytest.mark.parametrize("attribution", ["input_x_gradient", "integrated_gradients"])
def test_attributions_of_a_weighted_sum_are_its_terms(linear, attribution):
    x, classes = torch.rand(6, 1, 40), torch.tensor([0, 1, 1, 0, 1, 0])
    found = ATTRIBUTIONS[attribution](linear)(x, classes)
    torch.testing.assert_close(found[:, 0], linear[1].weight[classes] * x[:, 0], atol=1e-5, rtol=0)
    slopes = ATTRIBUTIONS["gradient"](linear)(x, classes)
    torch.testing.assert_close(slopes[:, 0], linear[1].weight[classes])


def test_the_epsilon_rule_gives_the_terms_of_a_positive_logit_whatever_their_sign(linear):
    x, classes = torch.rand(6, 1, 40), torch.tensor([0, 1, 1, 0, 1, 0])
    found = ATTRIBUTIONS["lrp_epsilon"](linear)(x, classes)
    positive = linear(x).gather(1, classes[:, None]) > 0
    expected = linear[1].weight[classes] * x[:, 0] * positive
    assert (expected < 0).any()
    torch.testing.assert_close(found[:, 0], expected)


def test_the_contrast_of_both_logits_is_no_other_map_of_the_released_network():
    network, _ = load_xecgarch(find_weights("xecgarch"))
    record = synthesize("N", seed=1).recording.samples
    x = torch.from_numpy((record - record.min()) / np.ptp(record)).float()[None]
    for output in branch_outputs(network).values():
        contrast = copy.deepcopy(output)
        for parameter in contrast[1].linear.parameters():
            parameter.requires_grad_(False).sub_(parameter.flip(0))
        one, other = (DeepTaylor(found)(x)[0, 0] for found in (output, contrast))
        assert spearmanr(one, other).statistic > 0.99


@pytest.mark.parametrize(
    ("attribution", "settings"),
    [
        ("innvestigate", {}),
        ("innvestigate_bounded", {"bounded": True}),
        ("zbox", {"rules": "zbox"}),
    ],
)
def test_deep_taylor_has_its_settings(linear, attribution, settings):
    x, classes = torch.rand(6, 1, 40), torch.tensor([0, 1, 1, 0, 1, 0])
    expected = DeepTaylor(linear, **settings)(x, classes)
    assert torch.equal(ATTRIBUTIONS[attribution](linear)(x, classes), expected)


@pytest.mark.parametrize("attribution", [*ATTRIBUTIONS, "tests.explain.test_attributions.Steep"])
def test_each_branch_is_explained_for_its_own_decision(attribution):
    network = grown(XECGArch.build(channels=4))
    expected = branch_outputs(network.eval().requires_grad_(False))
    with torch.inference_mode():
        explained = BranchExplainer(network, attribution).explain(X)
    assert list(explained) == ["morphology", "rhythm"]
    for name, (logits, relevance) in explained.items():
        torch.testing.assert_close(logits, network(X)[name])
        one = ATTRIBUTIONS[attribution](expected[name])(X[33:34], logits[33:34].argmax(dim=1))
        torch.testing.assert_close(relevance[33:34], one.abs(), rtol=1e-4, atol=1e-7)
        assert relevance.shape == X.shape
        assert relevance.min() >= 0
        assert relevance.any()


class Steep:
    """A method from a package of the user's own: where the signal is steep."""

    def __init__(self, network):
        self.network = network

    def __call__(self, x, target):
        return torch.gradient(x, dim=-1)[0]


def test_the_network_is_explained_as_it_was_and_left_alone():
    network = grown(XECGArch.build(channels=4))
    explainer = BranchExplainer(network, "gradient")
    before = explainer.explain(X)["rhythm"].relevance
    assert network.training
    nn.init.zeros_(network.heads["rhythm"].linear.weight)
    assert torch.equal(explainer.explain(X)["rhythm"].relevance, before)


def test_p_wave_relevance_is_of_the_logit_where_it_is_positive():
    network = grown(PWaveNetwork(channels=4)).eval()
    with torch.no_grad():
        steps = torch.conv1d(network.branches["morphology"](X), network.head.weight)[:, 0]
        network.head.conv.bias.fill_(-steps.median())  # either sign
        steps -= steps.median()
    ((name, (logits, relevance)),) = BranchExplainer(network).explain(X).items()
    assert name == "morphology"
    torch.testing.assert_close(logits, steps.relu().mean(dim=1, keepdim=True))
    assert relevance.any()
    nn.init.constant_(network.head.conv.bias, -1e3)  # no P wave is found
    assert not BranchExplainer(network).explain(X)["morphology"].relevance.any()


def test_rr_relevance_is_of_more_or_less_variability_than_the_average():
    network = grown(RRNetwork(channels=4)).eval()
    ((name, (logits, relevance)),) = BranchExplainer(network).explain(X).items()
    assert name == "rhythm"
    rmssd = network(X)[:, 0]
    torch.testing.assert_close(logits, torch.stack([-rmssd, rmssd], dim=1))
    assert (relevance.sum((1, 2)) > 0).all()  # whatever the sign


def test_another_network_is_explained_at_its_logits():
    class Other(nn.Module):
        def __init__(self, names):
            super().__init__()
            self.branches = nn.ModuleDict({name: nn.Conv1d(1, 2, 5) for name in names})
            self.end = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten())

        def forward(self, x):
            logits = {name: self.end(branch(x)) for name, branch in self.branches.items()}
            return logits if len(logits) > 1 else logits["a"]

    for names in ("ab", "a"):
        assert list(BranchExplainer(Other(names)).explain(X)) == list(names)
    with pytest.raises(NetworkError, match="Linear"):
        branch_outputs(nn.Linear(2, 2))


def test_unknown_methods_and_wrong_shapes_are_named():
    network = XECGArch.build(channels=4)
    with pytest.raises(UnknownNameError, match=r"zbox.*found 'saliency'"):
        BranchExplainer(network, "saliency")
    with pytest.raises(NetworkError, match=r"Short.*\(32, 1, 299\)"):
        BranchExplainer(network, "tests.explain.test_attributions.Short").explain(X)


class Short(Steep):
    def __call__(self, x, target):
        return x[..., 1:]


def test_without_captum_it_is_said_what_to_install(linear, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    for name in [name for name in sys.modules if name.split(".")[0] == "captum"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(ConfigError, match="captum"):
        ATTRIBUTIONS["integrated_gradients"](linear)
