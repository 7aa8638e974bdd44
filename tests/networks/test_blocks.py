"""A block that is not trained gives what its layers give, in fewer passes."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from xecg.networks.branch import BlockSpec, Conv1d, ConvBlock


def a_block(ins: int = 3, outs: int = 5, spec: BlockSpec = BlockSpec(5, stride=2)) -> ConvBlock:  # noqa: B008
    """A block with statistics and weights of a training behind it, some of them negative."""
    block = ConvBlock(ins, outs, spec, dropout=0.2)
    nn.init.normal_(block.norm.weight)
    nn.init.normal_(block.norm.bias)
    nn.init.normal_(block.norm.running_mean)
    nn.init.uniform_(block.norm.running_var, 0.1, 3.0)
    return block.eval()


def by_its_layers(block: ConvBlock, x: torch.Tensor) -> torch.Tensor:
    for layer in block.children():
        x = layer(x)
    return x


def convolutions(block: ConvBlock, x: torch.Tensor) -> list[torch.Tensor]:
    """Weights that the block convolved by in one forward pass."""
    with patch.object(
        Conv1d, "convolved", autospec=True, side_effect=Conv1d.convolved
    ) as convolved:
        block(x)
    return [call.args[2] for call in convolved.call_args_list]


@given(
    st.sampled_from([1, 2, 16]),
    st.sampled_from([1, 3, 16]),
    st.sampled_from([1, 3, 9]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_values_are_those_of_the_layers(ins, outs, kernel, stride, dilation, seed):
    torch.manual_seed(seed)
    block = a_block(ins, outs, BlockSpec(kernel, stride, dilation))
    x = torch.randn(2, ins, 60)
    with torch.no_grad():
        torch.testing.assert_close(block(x), by_its_layers(block, x), rtol=1e-4, atol=1e-4)


def test_frozen_blocks_are_folded_and_stay_as_they_are():
    torch.manual_seed(0)
    block, x = a_block().requires_grad_(False), torch.rand(2, 3, 40)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    (weight,) = convolutions(block, x)
    assert weight is not block.conv.weight
    assert block(x).grad_fn is None  # nothing is stored for a backward pass
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


@pytest.mark.parametrize("asked", ["by the weights", "by the input", "training", "dropout"])
def test_blocks_that_learn_are_not_folded(asked):
    block, x = a_block(), torch.rand(2, 3, 40)
    block.requires_grad_(asked == "by the weights").train(asked == "training")
    block.dropout.train(asked in ("training", "dropout"))
    (weight,) = convolutions(block, x.requires_grad_(asked == "by the input"))
    assert weight is block.conv.weight


def test_whoever_watches_a_layer_sees_it():
    block, x, seen = a_block(), torch.rand(2, 3, 40), []
    block.norm.register_forward_hook(lambda layer, args, output: seen.append(args[0]))
    with torch.no_grad():
        block(x)
    torch.testing.assert_close(seen[0], block.conv(x))


def test_the_input_is_left_as_it_is():
    block, x = a_block(), torch.rand(2, 3, 40)
    before = x.clone()
    with torch.inference_mode():
        block(x)
    assert torch.equal(x, before)


def test_layers_of_another_kind_are_run_as_they_are():
    torch.manual_seed(0)
    block, x = a_block(), torch.rand(2, 3, 40)
    block.conv = Conv1d(3, 5, 5, stride=2, padding=2, bias=True)
    with torch.no_grad():
        assert torch.equal(block(x), by_its_layers(block, x))
