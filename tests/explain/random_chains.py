"""Random chains of the layers that deep Taylor decomposition covers, for hypothesis."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

TIME = 64
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

law = settings(deadline=None, max_examples=40)
SEEDS = st.integers(0, 2**31)


@st.composite
def chains(
    draw, *, bias=True, max_blocks=3, pooled=(1, 2), padding_modes=PADDING_MODES, gaps=False
):
    """A small network in eval mode on windows ``(batch, 1, time)``, with two logits.

    With ``gaps`` some convolutions have no ReLU behind them, so that averages see negative values.
    """
    torch.manual_seed(draw(SEEDS))
    layers: list[nn.Module] = []
    channels = 1
    for _ in range(draw(st.integers(1, max_blocks))):
        width = draw(st.sampled_from([2, 4]))
        layers.append(draw(convolutions(channels, width, bias, padding_modes)))
        if draw(st.booleans()):
            layers.append(_norm(width, bias))
        if not gaps or draw(st.booleans()):
            layers.append(nn.ReLU(inplace=draw(st.booleans())))
        if draw(st.booleans()):
            layers.append(nn.Dropout(0.5))
        if draw(st.booleans()):
            layers.append(draw(st.sampled_from([nn.MaxPool1d(2), nn.AvgPool1d(3, 2, 1)])))
        channels = width
    steps = draw(st.sampled_from(pooled))
    head = nn.AdaptiveAvgPool1d(steps), nn.Flatten(), nn.Linear(channels * steps, 2, bias=bias)
    return nn.Sequential(*layers, *head).eval()


@st.composite
def convolutions(draw, ins, outs, bias=True, padding_modes=PADDING_MODES):
    """A convolution that keeps the length, or halves it."""
    kernel = draw(st.sampled_from([1, 3, 4]))
    dilation = draw(st.sampled_from([1, 2])) if kernel == 3 else 1
    return nn.Conv1d(
        ins,
        outs,
        kernel,
        stride=draw(st.sampled_from([1, 2])),
        dilation=dilation,
        padding=dilation * (kernel // 2),
        groups=draw(st.sampled_from([1, 2])) if ins % 2 == 0 else 1,
        bias=bias,
        padding_mode=draw(st.sampled_from(padding_modes)),
    )


@st.composite
def windows(draw, low=0.0, high=1.0, shape=(3, 1, TIME), touch=True):
    """Windows within the bounds, which some samples touch."""
    generator = torch.Generator().manual_seed(draw(SEEDS))
    x = torch.rand(shape, generator=generator)
    if touch:
        x = (x * 1.4 - 0.2).clamp(0, 1)
    return low + (high - low) * x


def _norm(width, bias):
    norm = nn.BatchNorm1d(width)
    nn.init.normal_(norm.weight)  # of both signs
    nn.init.uniform_(norm.running_var, 0.3, 2)
    if bias:
        nn.init.normal_(norm.bias, std=0.3)
        nn.init.normal_(norm.running_mean, std=0.3)
    return norm
