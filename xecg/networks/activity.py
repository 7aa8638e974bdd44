"""How many features are active at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

_NOTHING = 1e-6


def mean_activity(features: Sequence[Tensor]) -> Tensor:
    r"""Mean over blocks and channels of :math:`\langle a \rangle^2 / \langle a^2 \rangle`.

    The mean :math:`\langle\cdot\rangle` is over batch and time. 1 for a feature that is the same
    everywhere, near the share of the time at which it is active otherwise, whatever its size, so
    that small weights do not pass for sparseness (Rolls and Tovee, J Neurophysiol 1995, eq. 1;
    Treves and Rolls 1991).

    Args:
        features: Of blocks, ``(batch, channels, steps)`` each, never negative.

    Returns:
        A scalar in [0, 1].
    """
    return torch.stack([_activity(block.float()) for block in features]).mean()


def _activity(block: Tensor) -> Tensor:
    mean, square = block.mean(dim=(0, 2)), block.square().mean(dim=(0, 2))
    return (mean.square() / (square + _NOTHING)).mean()
