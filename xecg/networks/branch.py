"""Branches: blocks in a row, each a unit of the freezing schedule, and the two of xECGArch."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xecg.errors import NetworkError, check_ranges
from xecg.plugins import Registry


class Conv1d(nn.Conv1d):
    """``torch.nn.Conv1d``, channels last on CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(batch, in_channels, time)`` to ``(batch, out_channels, steps)``."""
        return self.convolved(x, self.weight, self.bias)

    def convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolves by another weight and bias, of the shapes of this layer's own."""
        # oneDNN on AVX2 computes a wrong weight gradient for strided kernels of one sample.
        sparse = self.kernel_size == (1,) and self.stride != (1,)
        if x.device.type != "cpu" or x.ndim != 3 or isinstance(self.padding, str) or sparse:
            return self._conv_forward(x, weight, bias)  # type: ignore[no-any-return]
        if x.shape[1] == 1:  # needs only other strides
            x = x.reshape(x.shape[0], x.shape[2], 1).transpose(1, 2)
        else:
            x = x.transpose(1, 2).contiguous().transpose(1, 2)
        geometry = (1, *self.stride), (0, *self.padding), (1, *self.dilation), self.groups
        return F.conv2d(x.unsqueeze(2), weight.unsqueeze(2), bias, *geometry).squeeze(2)


class BatchNorm1d(nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` that keeps the memory layout of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises ``(batch, channels, time)``."""
        return super().forward(x.unsqueeze(2)).squeeze(2)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        if input.ndim != 4:
            raise ValueError(f"expected (batch, channels, time); found {input.ndim - 1} dimensions")


@dataclass(frozen=True)
class BlockSpec:
    """Shape of one block; raises NetworkError for an even kernel or a number not positive."""

    kernel_size: int  # samples of its input; odd
    stride: int = 1  # samples of its input
    dilation: int = 1  # distance of neighbouring taps in samples of its input
    width: float = 1.0  # number of channels, as a multiple of the branch's width

    def __post_init__(self) -> None:
        smallest = min(self.kernel_size, self.stride, self.dilation, self.width)
        if smallest <= 0 or self.kernel_size % 2 == 0:
            raise NetworkError(f"all must be positive, and kernel_size odd; found {self}")


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, ReLU, dropout; no residual, which would break DTD.

    Maps ``(batch, in_channels, time)`` to ``(batch, out_channels, ceil(time / stride))``. In eval
    mode without gradient, as frozen blocks run, normalisation is folded into the convolution: the
    same values up to rounding, in two passes instead of four.
    """

    conv: Conv1d
    norm: BatchNorm1d

    def __init__(
        self, in_channels: int, out_channels: int, spec: BlockSpec, dropout: float = 0.0
    ) -> None:
        kernel, dilation = spec.kernel_size, spec.dilation
        shape = kernel, spec.stride, dilation * (kernel - 1) // 2, dilation
        conv = Conv1d(in_channels, out_channels, *shape, bias=False)  # the norm has a bias
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        norm, drop = BatchNorm1d(out_channels), nn.Dropout(dropout)
        super().__init__(OrderedDict(conv=conv, norm=norm, relu=nn.ReLU(), dropout=drop))

    def forward(self, x: Tensor) -> Tensor:
        """Returns features ``(batch, out_channels, ceil(time / stride))``."""
        conv, norm = self.conv, self.norm
        ours = isinstance(conv, Conv1d) and conv.bias is None and isinstance(norm, BatchNorm1d)
        if not ours or self._layers_matter(x):
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var + norm.eps).rsqrt() * norm.weight
        shift = norm.bias - norm.running_mean * scale
        return conv.convolved(x, conv.weight * scale[:, None, None], shift).relu_()

    def _layers_matter(self, x: Tensor) -> bool:
        """Returns whether a layer is trained, differentiated or watched by a hook."""
        for layer in self.children():
            if layer.training or layer._forward_hooks or layer._forward_pre_hooks:
                return True
        return torch.is_grad_enabled() and any(t.requires_grad for t in (x, *self.parameters()))


BRANCHES: Registry[tuple[BlockSpec, ...]] = Registry("branches")
MORPHOLOGY = (  # at 250 Hz: 147 samples (0.59 s), a step every 16 ms
    BlockSpec(7, stride=2, width=0.5),
    BlockSpec(7, stride=2),
    *(BlockSpec(kernel) for kernel in (7, 7, 7, 7, 5, 5)),
)
RHYTHM = (  # at 250 Hz: 3007 samples (12.0 s), a step every 32 ms
    BlockSpec(15, stride=2, width=0.5),
    *(BlockSpec(9, stride=2) for _ in range(2)),
    *(BlockSpec(9, dilation=dilation) for dilation in (2, 4, 8, 16, 16)),
)
BRANCHES.register("morphology", MORPHOLOGY)
BRANCHES.register("rhythm", RHYTHM)


class Branch(nn.Sequential):
    """Blocks in a row, ``block1`` next to the input.

    Maps an ECG ``(batch, 1, time)`` to features ``(batch, channels, ceil(time / stride))``.
    Raises NetworkError if there is no spec, or a width comes out below one channel, ConfigError if
    the dropout is no share.

    Args:
        specs: Shape of each block, from the input on.
        channels: Width of the branch; a block has ``channels * spec.width`` channels.
        dropout: Share of features that each block drops in training. Before a batch normalisation
            it gives training another variance than evaluation (Li et al. 2019), which doubled the
            error of RMSSD here.
    """

    def __init__(
        self, specs: Sequence[BlockSpec], channels: int = 32, dropout: float = 0.0
    ) -> None:
        if not specs:
            raise NetworkError("a branch needs at least one block; found no BlockSpec")
        check_ranges(dropout=(dropout, 0, 1))
        widths = [1, *(int(channels * spec.width) for spec in specs)]
        if min(widths) < 1:
            raise NetworkError(f"channels={channels} leaves a block without channels: {widths}")
        sizes = zip(pairwise(widths), specs, strict=True)
        blocks = [ConvBlock(*size, spec, dropout) for size, spec in sizes]
        super().__init__(OrderedDict((f"block{n}", b) for n, b in enumerate(blocks, start=1)))
        self.specs, self.width, self.channels = tuple(specs), channels, widths[-1]

    @property
    def blocks(self) -> list[ConvBlock]:
        """Blocks from the input on."""
        return [block for block in self if isinstance(block, ConvBlock)]

    @property
    def stride(self) -> int:
        """Samples of the input between two time steps of the features."""
        return prod(spec.stride for spec in self.specs)

    @property
    def receptive_field(self) -> int:
        """Samples of the input that one time step of the features depends on."""
        field, step = 1, 1
        for spec in self.specs:
            field += (spec.kernel_size - 1) * spec.dilation * step
            step *= spec.stride
        return field

    def activations(self, x: Tensor) -> list[Tensor]:
        """Returns the ECG ``(batch, 1, time)`` and the output of each block; features come last."""
        activations = [x]
        for block in self.blocks:
            activations.append(block(activations[-1]))
        return activations


def build_branch(name: str, channels: int = 32, dropout: float = 0.0) -> Branch:
    """Returns a new branch of :data:`BRANCHES` by name, or class path of a tuple of specs.

    Raises UnknownNameError if no branch has that name.
    """
    return Branch(BRANCHES[name], channels, dropout)
