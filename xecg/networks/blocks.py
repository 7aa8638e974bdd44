"""The unit that a branch is made of and that a schedule freezes."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xecg.errors import NetworkError
from xecg.networks.layers import BatchNorm1d, Conv1d, scale_and_shift


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
