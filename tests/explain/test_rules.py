import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from zennit.rules import AlphaBeta, Pass, ZBox

from xecg.explain import deep_taylor as rules

from .random_chains import SEEDS, convolutions, law, windows

SHAPE = (3, 2, 20)


def exact(denominator):
    """zennit's own stabiliser shifts every sum by 1e-6; this one only keeps off zero."""
    return denominator + (denominator == 0)


ALPHA1_BETA0 = AlphaBeta(1, 0, stabilizer=exact, zero_params=["bias"])


@st.composite
def layers(draw):
    torch.manual_seed(draw(SEEDS))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(SHAPE[1] * SHAPE[2], 3))
    return draw(st.one_of(convolutions(2, 4).map(nn.Sequential), st.just(linear))).eval()


def relevance_by(rule, layer, x, weights):
    """Relevance of ``x`` where each output has the relevance ``weights``."""
    x = x.clone().requires_grad_()
    rule = rule.copy()
    handles = rule.register(layer[-1])
    output = layer(x)
    (relevance,) = torch.autograd.grad(output, x, weights.expand_as(output))
    handles.remove()
    return relevance


def assert_equal(rule, reference, layer, x):
    """In float64: the reference's form cancels where ours does not."""
    layer, x = layer.double(), x.double()
    weights = torch.rand(len(x), *[1] * (layer(x).dim() - 1), dtype=x.dtype)
    ours = relevance_by(rule, layer, x, weights)
    theirs = relevance_by(reference, layer, x, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@law
@given(layers(), windows(0.0, 1.0, SHAPE))
def test_rule_for_nonnegative_input_equals_alpha_beta(layer, x):
    assert_equal(rules.nonnegative_input(), ALPHA1_BETA0, layer, x)


@law
@given(layers(), windows(-1.0, 1.0, SHAPE))
def test_rule_for_signed_input_equals_alpha_beta(layer, x):
    assert_equal(rules.signed_input(), ALPHA1_BETA0, layer, x)


@law
@given(layers(), windows(-1.0, 2.0, SHAPE))
def test_rule_for_bounded_input_equals_zbox(layer, x):
    zbox = ZBox(-1.0, 2.0, stabilizer=exact, zero_params=["bias"])
    assert_equal(rules.input_between(-1.0, 2.0), zbox, layer, x)


@law
@given(windows(-1.0, 1.0, SHAPE))
def test_average_shares_among_positive_inputs(x):
    layer = nn.Sequential(nn.AvgPool1d(4))
    relevance = relevance_by(rules.positive_input(), layer, x, torch.ones(3, 1, 1))
    positive = x.clamp(min=0).unflatten(2, (5, 4))
    expected = (positive / exact(positive.sum(-1, keepdim=True))).flatten(2)
    torch.testing.assert_close(relevance, expected)


@law
@given(windows(-1.0, 1.0, SHAPE))
def test_unchanged_equals_pass(x):
    layer = nn.Sequential(nn.BatchNorm1d(2).eval())
    assert_equal(rules.Unchanged(), Pass(), layer, x)


def test_nothing_is_shared_where_nothing_contributes():
    layer = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        layer[0].weight.copy_(torch.tensor([[-1.0, 0.0], [1e-38, 1e-38]]))
    x = torch.tensor([[1.0, 1.0]])
    relevance = relevance_by(rules.nonnegative_input(), layer, x, torch.full((1, 1), 1e6))
    assert relevance.tolist() == [[0.0, 0.0]]


def test_only_layers_with_a_rule_are_hooked_and_only_inside_the_context():
    chain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with rules.rules_on(chain, [rules.nonnegative_input(), None, rules.nonnegative_input()]):
        assert [len(layer._forward_hooks) > 0 for layer in chain] == [True, False, True]
    assert not any(len(layer._forward_hooks) for layer in chain)


def test_a_chain_needs_a_rule_or_none_for_each_layer():
    with pytest.raises(ValueError, match="shorter"):
        rules.rules_on(nn.Sequential(nn.ReLU(), nn.ReLU()), [None])
