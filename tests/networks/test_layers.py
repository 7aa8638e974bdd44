"""The layers are PyTorch's, computed in another order."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from xecg.networks.branch import BatchNorm1d, Conv1d


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
