"""A branch: eight blocks in a row, and the two that xECGArch is made of."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xecg.errors import NetworkError


class Conv1d(nn.Conv1d):
    """``torch.nn.Conv1d``, channels last on CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, in_channels, time)`` to ``(batch, out_channels, steps)``."""
        return self.convolved(x, self.weight, self.bias)

    def convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As :meth:`forward`, by a weight and a bias of the shapes of this layer's own."""
        # oneDNN on AVX2 gets the weight's gradient of strided kernels of one sample wrong.
        sparse = self.kernel_size == (1,) and self.stride != (1,)
        if x.device.type != "cpu" or x.ndim != 3 or isinstance(self.padding, str) or sparse:
            return self._conv_forward(x, weight, bias)  # type: ignore[no-any-return]
        image = F.conv2d(
            _channels_last(x).unsqueeze(2),
            weight.unsqueeze(2),
            bias,
            (1, *self.stride),
            (0, *self.padding),
            (1, *self.dilation),
            self.groups,
        )
        return image.squeeze(2)


class BatchNorm1d(nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` that leaves the layout as it is."""

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of its input, ``(batch, channels, time)``."""
        return super().forward(x.unsqueeze(2)).squeeze(2)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        if input.ndim != 4:
            raise ValueError(f"expected (batch, channels, time); found {input.ndim - 1} dimensions")


def scale_and_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """What a normalisation does in eval mode, ``x * scale + shift``, ``(channels,)`` each.

    It must keep running statistics.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift + norm.bias if norm.affine else shift


def _channels_last(x: Tensor) -> Tensor:
    """The same values, channels last; of one channel only the strides have to say so."""
    if x.shape[1] == 1:
        return x.reshape(x.shape[0], x.shape[2], 1).transpose(1, 2)
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@dataclass(frozen=True)
class BlockSpec:
    """Shape of one block.

    Args:
        kernel_size: Width of the convolution in samples of its input; odd.
        stride: Step of the convolution in samples of its input.
        dilation: Distance of neighbouring taps in samples of its input.
        width: Channels, as a multiple of the branch's width.
    """

    kernel_size: int
    stride: int = 1
    dilation: int = 1
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise NetworkError(
                f"kernel_size must be odd and positive, so that a step's centre is a sample; "
                f"found {self.kernel_size}"
            )
        if self.stride < 1 or self.dilation < 1 or self.width <= 0:
            raise NetworkError(f"stride, dilation and width must be positive; found {self}")


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, ReLU, dropout; no residual, which would break DTD.

    Maps ``(batch, in_channels, time)`` to ``(batch, out_channels, ceil(time / stride))``. The
    convolution has no bias: the batch normalisation behind it has one.

    In eval mode, and where no gradient is asked for, normalisation is part of the convolution's
    weights and ReLU overwrites its input: the same values up to rounding, in two passes over them
    instead of four. Frozen blocks are such while the others are trained.
    """

    def __init__(
        self, in_channels: int, out_channels: int, spec: BlockSpec, dropout: float = 0.0
    ) -> None:
        padding = spec.dilation * (spec.kernel_size - 1) // 2
        conv = Conv1d(
            in_channels,
            out_channels,
            spec.kernel_size,
            stride=spec.stride,
            padding=padding,
            dilation=spec.dilation,
            bias=False,
        )
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        super().__init__(
            OrderedDict(
                conv=conv,
                norm=BatchNorm1d(out_channels),
                relu=nn.ReLU(),
                dropout=nn.Dropout(dropout),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(batch, out_channels, ceil(time / stride))``."""
        conv, norm = self.conv, self.norm
        if not isinstance(conv, Conv1d) or not isinstance(norm, BatchNorm1d):  # others' layers
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        if conv.bias is not None or self._layers_matter(x):
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        scale, shift = scale_and_shift(norm)
        return conv.convolved(x, conv.weight * scale[:, None, None], shift).relu_()

    def _layers_matter(self, x: Tensor) -> bool:
        """Whether somebody trains, differentiates or watches the layers one by one."""
        for layer in self.children():
            if layer.training or layer._forward_hooks or layer._forward_pre_hooks:
                return True
        tensors = [x, *self.parameters()]
        return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


N_BLOCKS = 8

# At 250 Hz: 147 samples (0.59 s), a step every 16 ms.
MORPHOLOGY = (
    BlockSpec(7, stride=2, width=0.5),
    BlockSpec(7, stride=2),
    *(BlockSpec(7) for _ in range(4)),
    *(BlockSpec(5) for _ in range(2)),
)
# At 250 Hz: 3007 samples (12.0 s), a step every 32 ms.
RHYTHM = (
    BlockSpec(15, stride=2, width=0.5),
    BlockSpec(9, stride=2),
    BlockSpec(9, stride=2),
    BlockSpec(9, dilation=2),
    BlockSpec(9, dilation=4),
    BlockSpec(9, dilation=8),
    BlockSpec(9, dilation=16),
    BlockSpec(9, dilation=16),
)
BRANCHES: Mapping[str, tuple[BlockSpec, ...]] = MappingProxyType(
    {"morphology": MORPHOLOGY, "rhythm": RHYTHM}
)


class Branch(nn.Module):
    """Eight blocks, ``block1`` next to the input, each a unit of the freezing schedule.

    Maps an ECG ``(batch, 1, time)`` to features ``(batch, channels, ceil(time / stride))``.

    Args:
        specs: Shape of each of the eight blocks, from the input on.
        channels: Width of the branch; a block has ``channels * spec.width`` channels.
        dropout: Share of features that each block drops in training. None by default: before a
            batch normalisation, dropout makes the variance in evaluation another than in training
            (Li et al. 2019), which showed here as a doubled error of RMSSD.

    Raises:
        NetworkError: If there are not eight specs, or a width comes out below one channel.
    """

    def __init__(
        self, specs: Sequence[BlockSpec], channels: int = 32, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if len(specs) != N_BLOCKS:
            raise NetworkError(f"a branch has {N_BLOCKS} blocks; found {len(specs)} specs")
        widths = [1, *(int(channels * spec.width) for spec in specs)]
        if min(widths) < 1:
            raise NetworkError(f"channels={channels} leaves a block without channels: {widths}")
        self.specs = tuple(specs)
        self.width = channels
        self.channels = widths[-1]
        for number, (spec, (ins, outs)) in enumerate(
            zip(specs, pairwise(widths), strict=True), start=1
        ):
            self.add_module(f"block{number}", ConvBlock(ins, outs, spec, dropout))

    @property
    def blocks(self) -> list[ConvBlock]:
        """The blocks from the input on."""
        return [block for block in self.children() if isinstance(block, ConvBlock)]

    @property
    def stride(self) -> int:
        """Samples of the input between two time steps of the features."""
        stride = 1
        for spec in self.specs:
            stride *= spec.stride
        return stride

    @property
    def receptive_field(self) -> int:
        """Samples of the input that one time step of the features depends on."""
        field, step = 1, 1
        for spec in self.specs:
            field += (spec.kernel_size - 1) * spec.dilation * step
            step *= spec.stride
        return field

    def receptive_field_s(self, sampling_rate: float) -> float:
        """Receptive field in seconds at ``sampling_rate`` Hz."""
        return self.receptive_field / sampling_rate

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(batch, channels, steps)`` of an ECG ``(batch, 1, time)``."""
        for block in self.blocks:
            x = block(x)
        return x

    def activations(self, x: Tensor) -> list[Tensor]:
        """The ECG ``(batch, 1, time)`` and what each block makes of it; features come last."""
        activations = [x]
        for block in self.blocks:
            activations.append(block(activations[-1]))
        return activations


def build_branch(name: str, channels: int = 32, dropout: float = 0.0) -> Branch:
    """A new branch by name.

    Raises:
        NetworkError: If no branch has that name.
    """
    if name not in BRANCHES:
        raise NetworkError(f"branch must be one of {', '.join(BRANCHES)}; found {name!r}")
    return Branch(BRANCHES[name], channels, dropout)
