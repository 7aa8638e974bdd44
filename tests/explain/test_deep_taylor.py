from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from zennit.rules import AlphaBeta, Pass, ZBox

from xecg.errors import ConfigError, DataError, NetworkError
from xecg.explain import deep_taylor
from xecg.explain.deep_taylor import (
    DeepTaylor,
    input_between,
    nonnegative_input,
    run_steps,
    signed_input,
)
from xecg.networks.xecgarch import XECGArch

from .dense_oracle import decompose
from .random_chains import SEEDS, TIME, chains, convolutions, law, windows

REFERENCE = Path(__file__).parent / "reference"
RULES = ("innvestigate", "zbox")


def keras_network(arrays):
    """The network of a reference file, whose kernels are (width, in, out)."""
    layers = []
    for index in range(3):
        kernel = torch.from_numpy(arrays[f"w_{index}_Conv1D_0"]).permute(2, 1, 0)
        conv = nn.Conv1d(kernel.shape[1], kernel.shape[0], kernel.shape[2], padding="same")
        set_weights(conv, kernel, arrays[f"w_{index}_Conv1D_1"])
        layers += [conv, nn.ReLU()]
    linear = nn.Linear(8, 2)
    set_weights(linear, torch.from_numpy(arrays["w_3_Dense_0"]).T, arrays["w_3_Dense_1"])
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), linear)


def set_weights(layer, weight, bias):
    layer.load_state_dict({"weight": weight, "bias": torch.from_numpy(bias)})


@pytest.mark.parametrize("form", ["separate_relu", "relu_in_conv"])
@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("inputs", ["x", "x01"])
@pytest.mark.parametrize("target", [0, 1])
def test_equals_innvestigate(form, bounded, inputs, target):
    with np.load(REFERENCE / f"innvestigate_dtd_{form}.npz") as file:
        arrays = dict(file)
    explain = DeepTaylor(
        keras_network(arrays), relu_in_conv=form == "relu_in_conv", bounded=bounded
    )
    x = torch.from_numpy(arrays[inputs]).permute(0, 2, 1)
    expected = arrays[f"deep_taylor{'.bounded' if bounded else ''}_{inputs}_{target}"]
    found = explain.attribute(x, target).permute(0, 2, 1).numpy()
    assert np.abs(found - expected).max() <= 3e-6 * np.abs(expected).max()


SHAPE = (3, 2, 20)


def exact(denominator):
    """zennit's own stabiliser shifts every sum by 1e-6; this one only keeps off zero."""
    return denominator + (denominator == 0)


ALPHA1_BETA0 = AlphaBeta(1, 0, stabilizer=exact, zero_params=["bias"])


@st.composite
def single_layers(draw):
    torch.manual_seed(draw(SEEDS))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(SHAPE[1] * SHAPE[2], 3))
    return draw(st.one_of(convolutions(2, 4).map(nn.Sequential), st.just(linear))).eval()


def relevance_of(x, output_of, weights):
    """Relevance of ``x`` where each output has the relevance ``weights``."""
    x = x.clone().requires_grad_()
    output = output_of(x)
    return torch.autograd.grad(output, x, weights.expand_as(output))[0]


def assert_equal(rule, reference, layer, x):
    """In float64: the reference's form cancels where ours does not."""
    layer, x = layer.double().requires_grad_(False), x.double()
    weights = torch.rand(len(x), *[1] * (layer(x).dim() - 1), dtype=x.dtype)
    *before, last = layer
    steps = [*((module, None) for module in before), (last, rule(last))]
    ours = relevance_of(x, lambda x: run_steps(steps, x), weights)
    handles = reference.copy().register(last)
    theirs = relevance_of(x, layer, weights)
    handles.remove()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@law
@given(single_layers(), windows(0.0, 1.0, SHAPE))
def test_rule_for_nonnegative_input_equals_alpha_beta(layer, x):
    assert_equal(nonnegative_input, ALPHA1_BETA0, layer, x)


@law
@given(single_layers(), windows(-1.0, 1.0, SHAPE))
def test_rule_for_signed_input_equals_alpha_beta(layer, x):
    assert_equal(signed_input, ALPHA1_BETA0, layer, x)


@law
@given(single_layers(), windows(-1.0, 2.0, SHAPE))
def test_rule_for_bounded_input_equals_zbox(layer, x):
    zbox = ZBox(-1.0, 2.0, stabilizer=exact, zero_params=["bias"])
    assert_equal(partial(input_between, low=-1.0, high=2.0), zbox, layer, x)


@law
@given(windows(-1.0, 1.0, SHAPE))
def test_handing_on_equals_pass(x):
    layer = nn.Sequential(nn.BatchNorm1d(2).eval())
    assert_equal(lambda _: (), Pass(), layer, x)


def test_nothing_is_shared_where_nothing_contributes():
    layer = nn.Linear(2, 2).requires_grad_(False)
    layer.weight.copy_(torch.tensor([[-1.0, 0.0], [1e-38, 1e-38]]))
    steps, x = [(layer, nonnegative_input(layer))], torch.tensor([[1.0, 1.0]])
    relevance = relevance_of(x, lambda x: run_steps(steps, x), torch.full((1, 1), 1e6))
    assert relevance.tolist() == [[0.0, 0.0]]


# Windows that touch no bound repeat no value, so that float32 and float64 have the same maxima.
@law
@given(
    chains(padding_modes=["zeros"], gaps=True),
    windows(-1, 1, touch=False),
    st.integers(0, 1),
    st.booleans(),
    st.booleans(),
)
def test_innvestigate_rules_equal_dense_matrices(network, x, target, relu_in_conv, bounded):
    explain = DeepTaylor(network, relu_in_conv=relu_in_conv, bounded=bounded, low=-1, high=1)
    found = explain.attribute(x, target)
    bounds = (-1, 1) if bounded else None
    settings = {"rules": "innvestigate", "relu_in_conv": relu_in_conv, "bounds": bounds}
    assert_equals_oracle(found, network, x, target, settings)


@law
@given(chains(padding_modes=["zeros"], gaps=True), windows(touch=False), st.integers(0, 1))
def test_zbox_rules_equal_dense_matrices(network, x, target):
    found = DeepTaylor(network, "zbox").attribute(x, target)
    settings = {"rules": "zbox", "bounds": (0.0, 1.0)}
    assert_equals_oracle(found, merged(network), x, target, settings)


def merged(network):
    """The network with batch normalisation merged in float64."""
    layers = []
    for layer in network.double():
        if isinstance(layer, nn.BatchNorm1d):
            layers[-1] = nn.utils.fusion.fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def assert_equals_oracle(found, network, x, target, settings):
    expected = torch.stack([decompose(list(network), one, target, **settings) for one in x])
    scale = expected.abs().max().clamp(min=1e-3)
    assert (found - expected).abs().max() <= 1e-4 * scale


def trained_xecgarch(seed=0):
    """Two branches with batch statistics of a training network, in training mode."""
    torch.manual_seed(seed)
    network = XECGArch.build(channels=8)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.train()


def test_what_zennit_merges_may_lie_over_the_parameters(monkeypatch):
    class Newer(deep_taylor.SequentialMergeBatchNorm):
        """As zennit 1.0, which makes attributes of the parameters' names."""

        def apply(self, root_module):
            found = super().apply(root_module)
            for module in root_module:
                for name, value in module._parameters.items():
                    if value is not None:
                        vars(module)[name] = getattr(module, name).clone()
                        value.zero_()
            return found

    network, x = trained_xecgarch(), torch.rand(4, 1, 500)
    expected = DeepTaylor(network, "zbox").attribute(x, 1)
    monkeypatch.setattr(deep_taylor, "SequentialMergeBatchNorm", Newer)
    for name, relevance in DeepTaylor(network, "zbox").attribute(x, 1).items():
        assert torch.equal(relevance, expected[name])


def test_relevance_is_conserved_in_both_branches():
    network, x = trained_xecgarch(), torch.rand(4, 1, 500)
    for target in (0, 1):
        relevance = DeepTaylor(network, "zbox").attribute(x, target)
        logits = network.eval()(x)
        for name in ("morphology", "rhythm"):
            expected = logits[name][:, target].relu()
            torch.testing.assert_close(relevance[name].sum((1, 2)), expected)


@pytest.mark.parametrize("rules", RULES)
def test_a_branch_alone_has_the_relevance_it_has_in_the_network(rules):
    network, x = trained_xecgarch(), torch.rand(4, 1, 500)
    both = DeepTaylor(network, rules).attribute(x, 1)
    for name, relevance in both.items():
        branch = nn.Sequential(network.branches[name], network.heads[name])
        assert torch.equal(DeepTaylor(branch, rules).attribute(x, 1), relevance)
        assert relevance.shape == x.shape
        assert relevance.dtype == torch.float32


@pytest.mark.parametrize("rules", RULES)
def test_predicted_is_what_each_branch_predicts(rules):
    network, x = trained_xecgarch(), torch.rand(6, 1, 500)
    explain = DeepTaylor(network, rules)
    predicted = explain.attribute(x, "predicted")
    logits = network.eval()(x)
    for name in predicted:
        classes = logits[name].argmax(dim=1)
        assert torch.equal(predicted[name], explain.attribute(x, classes)[name])


@pytest.mark.parametrize("rules", RULES)
def test_an_explanation_is_logits_and_relevance_of_the_predicted_class(rules):
    network, x = trained_xecgarch(), torch.rand(5, 1, 300)
    explain = DeepTaylor(network, rules)
    with torch.inference_mode():
        explained, called = explain.explain(x), explain(x)
        logits = network.eval()(x)
    for name, explanation in explained.items():
        assert torch.allclose(explanation.logits, logits[name], atol=1e-5)
        assert not explanation.logits.requires_grad
        assert torch.equal(explanation.relevance, called[name])


def test_threads_may_share_one():
    network, windows = trained_xecgarch(), torch.rand(6, 2, 1, 300)
    explain = DeepTaylor(network)
    expected = [explain(x)["rhythm"] for x in windows]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda x: explain(x)["rhythm"], windows))
    assert all(map(torch.equal, expected, found))


def state_of(network):
    """All that an explanation must leave as it is."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {
        "ids": {name: id(value) for name, value in tensors.items()},
        "values": {name: value.detach().clone() for name, value in tensors.items()},
        "gradients": {
            name: None if value.grad is None else (id(value.grad), value.grad.clone())
            for name, value in network.named_parameters()
        },
        "requires_grad": [value.requires_grad for value in network.parameters()],
        "modes": [module.training for module in network.modules()],
        "hooks": [
            {
                name: list(value)
                for name, value in vars(module).items()
                if "_hooks" in name and value
            }
            for module in network.modules()
        ],
        "random": torch.get_rng_state(),
    }


@pytest.mark.parametrize("rules", RULES)
def test_network_is_untouched(rules):
    network, x = trained_xecgarch(), torch.rand(2, 1, 500)
    network.branches["rhythm"].eval().requires_grad_(False)
    sum(logits.sum() for logits in network(x).values()).backward()
    calls = []
    network.heads["rhythm"].register_forward_hook(lambda *_: calls.append(1))
    before = state_of(network)
    DeepTaylor(network, rules).attribute(x)
    after = state_of(network)
    for key in before.keys() - {"values", "gradients", "random"}:
        assert before[key] == after[key], key
    torch.testing.assert_close(after["values"], before["values"], rtol=0, atol=0)
    torch.testing.assert_close(after["gradients"], before["gradients"], rtol=0, atol=0)
    assert torch.equal(after["random"], before["random"])
    assert calls == []


def test_the_network_is_explained_as_it_was_when_the_explanation_was_made():
    network, x = trained_xecgarch(), torch.rand(2, 1, 500)
    explain = DeepTaylor(network)
    before = explain(x, 1)
    network.load_state_dict(trained_xecgarch(seed=3).state_dict())
    for name, relevance in explain(x, 1).items():
        assert torch.equal(relevance, before[name])
    short = explain(x[..., :400], 1)  # another length may be computed otherwise
    assert {relevance.shape for relevance in short.values()} == {(2, 1, 400)}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(
    "context",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)],
)
def test_context_of_the_call_does_not_matter(rules, context):
    network = trained_xecgarch()
    x = torch.rand(2, 1, 500)
    expected = DeepTaylor(network, rules).attribute(x, 1)
    with context():
        found = DeepTaylor(network, rules).attribute(x.clone(), 1)
    for name in expected:
        assert torch.equal(found[name], expected[name])
        assert not found[name].requires_grad
        assert not found[name].is_inference()


def test_bounds_may_be_exceeded_only_where_innvestigate_allows_it():
    network = trained_xecgarch()
    x = torch.rand(2, 1, 500) + 0.5
    DeepTaylor(network, bounded=True).attribute(x)
    with pytest.raises(DataError, match=r"in \[0.0, 1.0\].*found 0.5"):
        DeepTaylor(network, "zbox").attribute(x)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rules": "lrp"}, "lrp"),
        ({"rules": "zbox", "relu_in_conv": True}, "relu_in_conv"),
        ({"low": 1.0, "high": 1.0}, "low"),
        ({"low": float("nan")}, "low"),
    ],
)
def test_contradicting_settings_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        DeepTaylor(nn.Linear(1, 1), **settings)


@pytest.mark.parametrize(
    ("x", "target", "named"),
    [
        (torch.rand(2, 500), 0, r"\(2, 500\)"),
        (torch.rand(0, 1, 500), 0, r"\(0, 1, 500\)"),
        (torch.ones(2, 1, 500, dtype=torch.int64), 0, "int64"),
        (torch.full((2, 1, 500), torch.nan), 0, "finite"),
        (torch.rand(2, 1, 500), 2, "0 to 1"),
        (torch.rand(2, 1, 500), -1, "0 to 1"),
        (torch.rand(2, 1, 500), "AF", "AF"),
        (torch.rand(2, 1, 500), torch.tensor([0, 1, 1]), r"\(3,\)"),
        (torch.rand(2, 1, 500), torch.tensor([0.0, 1.0]), "float32"),
        (torch.rand(2, 1, 500), None, "None"),
        (torch.rand(2, 3, 500), 0, r"\(3, 500\)"),
        (torch.rand(2, 1, 500, device="meta"), 0, "meta"),
    ],
)
def test_wrong_windows_and_targets_are_refused(x, target, named):
    with pytest.raises(DataError, match=named):
        DeepTaylor(trained_xecgarch()).attribute(x, target)


@pytest.mark.parametrize(
    ("network", "settings", "named"),
    [
        (nn.Sequential(nn.Conv1d(1, 2, 3)), {}, r"logits \(batch, classes\)"),
        (nn.Sequential(nn.BatchNorm1d(1), nn.Conv1d(1, 2, 3)), {"bounded": True}, r"0 \(Batch"),
        (nn.Sequential(nn.Flatten(), nn.ReLU()), {"rules": "zbox"}, "found none"),
    ],
)
def test_networks_that_the_rules_do_not_fit_are_refused(network, settings, named):
    with pytest.raises(NetworkError, match=named):
        DeepTaylor(network, **settings).attribute(torch.rand(2, 1, 500))


def test_diverged_network_is_refused():
    network = trained_xecgarch()
    nn.init.constant_(network.heads["rhythm"].linear.weight, torch.nan)
    with pytest.raises(NetworkError, match="diverged"):
        DeepTaylor(network).attribute(torch.rand(2, 1, 500))


def test_input_may_have_several_channels():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(3, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 46, 4))
    x = torch.rand(5, 3, 50)
    relevance = DeepTaylor(network, "zbox").attribute(x)
    assert relevance.shape == x.shape
    torch.testing.assert_close(relevance.sum((1, 2)), network(x).amax(dim=1).relu())


@law
@given(chains(bias=False), windows(), st.integers(0, 1))
def test_relevance_sums_to_the_positive_part_of_the_logit(network, x, target):
    relevance = DeepTaylor(network, "zbox").attribute(x, target)
    expected = network(x)[:, target].relu()
    torch.testing.assert_close(relevance.sum((1, 2)), expected, rtol=1e-4, atol=1e-6)


@law
@given(chains(), windows(), st.integers(0, 1))
def test_bias_only_takes_relevance_away(network, x, target):
    relevance = DeepTaylor(network, "zbox").attribute(x, target).sum((1, 2))
    assert (relevance <= network(x)[:, target].relu() * (1 + 1e-4) + 1e-6).all()


@law
@given(chains(), windows(), st.sampled_from(RULES), st.integers(0, 1))
def test_relevance_is_never_negative_and_zero_where_the_logit_is_not_positive(
    network, x, rules, target
):
    relevance = DeepTaylor(network, rules).attribute(x, target)
    assert (relevance >= 0).all()
    assert not relevance[network(x)[:, target] <= 0].any()


@law
@given(chains(), windows(), st.sampled_from(RULES))
def test_relevance_does_not_depend_on_the_batch(network, x, rules):
    explain = DeepTaylor(network, rules)
    together = explain.attribute(x, torch.tensor([0, 1, 0]))
    alone = torch.cat([explain.attribute(x[i : i + 1], i % 2) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


@law
@given(chains(max_blocks=2, pooled=[1]), windows(), st.sampled_from(RULES), st.integers(0, 1))
def test_relevance_shifts_with_the_input(network, x, rules, target):
    stride, margin = 16, 2 * TIME  # the longest stride of two blocks; beyond every border's reach
    here = nn.functional.pad(x, (2 * TIME, 2 * TIME))
    explain = DeepTaylor(network, rules)
    relevance = explain.attribute(here, target)
    shifted = explain.attribute(here.roll(stride, -1), target)
    inside = slice(margin - stride, -margin)
    expected = relevance.roll(stride, -1)
    torch.testing.assert_close(shifted[..., inside], expected[..., inside], rtol=1e-3, atol=1e-6)
