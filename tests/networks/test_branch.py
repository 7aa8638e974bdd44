"""Branches: their shape, their receptive field measured, what they refuse."""

import pytest
import torch

from xecg.errors import NetworkError
from xecg.networks.branch import (
    BRANCHES,
    MORPHOLOGY,
    N_BLOCKS,
    BlockSpec,
    Branch,
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
    assert 0.5 <= morphology.receptive_field_s(SAMPLING_RATE) <= 0.7
    assert rhythm.receptive_field_s(SAMPLING_RATE) >= 10.0


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


def test_wrong_number_of_blocks_is_refused() -> None:
    with pytest.raises(NetworkError, match=f"{N_BLOCKS} blocks; found 3"):
        Branch(MORPHOLOGY[:3])


def test_too_few_channels_are_refused() -> None:
    with pytest.raises(NetworkError, match="channels=1"):
        Branch(MORPHOLOGY, channels=1)


def test_unknown_branch_names_the_known_ones() -> None:
    with pytest.raises(NetworkError, match="morphology, rhythm; found 'tempo'"):
        build_branch("tempo")


@pytest.mark.parametrize("kernel_size", [0, 4, -1])
def test_even_kernels_are_refused(kernel_size: int) -> None:
    with pytest.raises(NetworkError, match="odd"):
        BlockSpec(kernel_size)


def test_impossible_steps_are_refused() -> None:
    with pytest.raises(NetworkError, match="positive"):
        BlockSpec(3, stride=0)
