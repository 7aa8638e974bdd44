"""Convolution and batch normalisation over time, computed where processors are fastest at it.

Both layers take and give ``(batch, channels, time)``. On CPUs the channels of a time step lie side
by side in memory (channels last), which is what oneDNN's convolutions read; other layouts are
copied to it and back at every layer. PyTorch knows that layout for images alone, so the time axis
is lent a second one of length 1, which costs nothing. Results are those of the plain layers up to
rounding.
"""

import torch.nn.functional as F
from torch import Tensor, nn


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
