"""The unit that a branch is made of and that a schedule freezes."""

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from xecg.errors import NetworkError
from xecg.networks.layers import BatchNorm1d, Conv1d


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
