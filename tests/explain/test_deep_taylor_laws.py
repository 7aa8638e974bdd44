import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from xecg.explain.deep_taylor import DeepTaylor

from .random_chains import TIME, chains, law, windows

RULES = ("innvestigate", "zbox")


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
