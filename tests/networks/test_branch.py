"""Branches, blocks and layers: their shape, their values, what they refuse."""

import copy
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from xecg.errors import ConfigError, NetworkError
from xecg.networks.branch import (
    BRANCHES,
    MORPHOLOGY,
    BatchNorm1d,
    BlockSpec,
    Branch,
    Conv1d,
    ConvBlock,
    build_branch,
)

SAMPLING_RATE = 250.0
WINDOW = 2500


def measured_receptive_field(branch: Branch, time: int) -> int:
    """Samples of the input that reach the middle step, found by the gradient."""
    for module in branch.modules():
        if isinstance(module, torch.nn.Conv1d):
            torch.nn.init.constant_(module.weight, 1.0)
    x = torch.ones(1, 1, time, requires_grad=True)
    features = branch.eval()(x)
    features[0, 0, features.shape[-1] // 2].backward()
    reached = x.grad[0, 0].nonzero()
    return int(reached.max() - reached.min()) + 1


@pytest.mark.parametrize("name", BRANCHES)
def test_receptive_field_is_the_measured_one(name: str) -> None:
    branch = build_branch(name, channels=4)
    assert measured_receptive_field(branch, 4 * WINDOW) == branch.receptive_field


def test_morphology_sees_about_a_beat_and_rhythm_the_whole_window() -> None:
    morphology, rhythm = (build_branch(name) for name in ("morphology", "rhythm"))
    assert 0.5 <= morphology.receptive_field / SAMPLING_RATE <= 0.7
    assert rhythm.receptive_field / SAMPLING_RATE >= 10.0


@pytest.mark.parametrize("name", BRANCHES)
def test_features_have_one_step_per_stride(name: str) -> None:
    branch = build_branch(name)
    features = branch(torch.rand(2, 1, WINDOW))
    assert features.shape == (2, branch.channels, -(-WINDOW // branch.stride))


@pytest.mark.parametrize("name", BRANCHES)
def test_blocks_are_named_and_hold_their_layers_in_order(name: str) -> None:
    branch = build_branch(name)
    assert [key for key, _ in branch.named_children()] == [f"block{i}" for i in range(1, 9)]
    layers = [torch.nn.Conv1d, torch.nn.BatchNorm1d, torch.nn.ReLU, torch.nn.Dropout]
    for block in branch.blocks:
        found = zip(block.children(), layers, strict=True)
        assert all(isinstance(layer, kind) for layer, kind in found)


def test_block_halves_time_at_stride_two() -> None:
    block = ConvBlock(1, 3, BlockSpec(7, stride=2))
    assert block(torch.rand(2, 1, 101)).shape == (2, 3, 51)


@pytest.mark.parametrize("n", [1, 3, 11])
def test_a_branch_has_any_number_of_blocks(n: int) -> None:
    branch = Branch([BlockSpec(3, stride=2 if i == 0 else 1) for i in range(n)], channels=2)
    assert len(branch.blocks) == n
    assert branch(torch.rand(1, 1, 101)).shape == (1, 2, 51)
    with pytest.raises(NetworkError, match="at least one block"):
        Branch([])


def test_too_few_channels_are_refused() -> None:
    with pytest.raises(NetworkError, match="channels=1"):
        Branch(MORPHOLOGY, channels=1)


def test_unknown_branch_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'tempo'"):
        build_branch("tempo")


@pytest.mark.parametrize("kernel_size", [0, 4, -1])
def test_even_kernels_are_refused(kernel_size: int) -> None:
    with pytest.raises(NetworkError, match="odd"):
        BlockSpec(kernel_size)


def test_impossible_steps_are_refused() -> None:
    with pytest.raises(NetworkError, match="positive"):
        BlockSpec(3, stride=0)


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


def results(layer, x):
    """Output, gradient of the input and of all parameters, and buffers."""
    x = x.clone().requires_grad_()
    output = layer(x)
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    parameters = list(layer.parameters())
    gradients = torch.autograd.grad((output * weights).sum(), [x, *parameters])
    return [output, *gradients, *layer.buffers()]


def assert_alike(ours, plain, x):
    plain.load_state_dict(ours.state_dict())
    for one, other in zip(results(ours, x), results(plain, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def channels_last(x):
    return x.transpose(1, 2).is_contiguous()


@given(
    st.integers(1, 4),
    st.sampled_from([1, 2, 16]),
    st.sampled_from([1, 3, 16]),
    st.sampled_from([1, 3, 9]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_convolution_is_the_plain_one(batch, ins, outs, kernel, stride, dilation, bias, seed):
    torch.manual_seed(seed)
    shape = {"stride": stride, "dilation": dilation, "padding": dilation * (kernel - 1) // 2}
    ours = Conv1d(ins, outs, kernel, bias=bias, **shape)
    x = torch.randn(batch, ins, 40)
    for layout in (x, x.transpose(1, 2).contiguous().transpose(1, 2)):
        assert_alike(ours, nn.Conv1d(ins, outs, kernel, bias=bias, **shape), layout)


def test_gradients_of_kernels_of_one_sample_that_step_are_right():
    """Channels last, some processors got about one in six of these wrong."""
    for seed in range(30):
        torch.manual_seed(seed)
        ours, plain = (make(1, 16, 1, stride=2, bias=False) for make in (Conv1d, nn.Conv1d))
        assert_alike(ours, plain, torch.randn(3, 1, 40))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 3, 20), (2, 1, 7), (3, 5, 1)])
def test_normalisation_is_the_plain_one(shape, training):
    torch.manual_seed(0)
    ours = BatchNorm1d(shape[1]).train(training)
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.running_mean)
    plain = nn.BatchNorm1d(shape[1]).train(training)
    x = torch.randn(shape)
    assert_alike(copy.deepcopy(ours), plain, x)
    assert_alike(ours, plain, x.transpose(1, 2).contiguous().transpose(1, 2))


def test_the_layout_goes_through_without_a_copy():
    layers = nn.Sequential(Conv1d(1, 4, 3), BatchNorm1d(4), nn.ReLU(), Conv1d(4, 2, 3))
    x = torch.rand(3, 1, 50)
    for layer in layers:
        x = layer(x)
        assert channels_last(x)


def test_one_window_without_a_batch_is_convolved():
    torch.manual_seed(0)
    layer, window = Conv1d(1, 2, 3), torch.randn(1, 30)
    torch.testing.assert_close(layer(window), layer(window[None])[0])


def test_normalisation_refuses_what_is_no_batch_over_time():
    with pytest.raises(ValueError, match=r"\(batch, channels, time\); found 2 dimensions"):
        BatchNorm1d(3)(torch.randn(4, 3))
