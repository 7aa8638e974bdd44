"""Relevance that a loss can act on: the z-plus rule through a branch, differentiable."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from xecg.networks.branch import Branch

_NOTHING = 1e-6  # where no input contributes, relevance ends


def positive_relevance(branch: Branch, activations: Sequence[Tensor], relevance: Tensor) -> Tensor:
    r"""Relevance of the input for features of a branch.

    .. math::
        R_i = \sum_j \frac{a_i w_{ij}^+}{\sum_{i'} a_{i'} w_{i'j}^+} R_j\,[a_j > 0]

    from block to block (Montavon et al., Pattern Recognition 2017, eq. 15), batch normalisation
    handing it on unchanged: what ``DeepTaylor(rules="innvestigate")`` says of a branch, here as a
    function that has a gradient with respect to the weights.

    Args:
        branch: The branch.
        activations: Of :meth:`Branch.activations`, ``(batch, channels, steps)`` each, from the
            input (never negative) to the features.
        relevance: Of the features, of their shape.

    Returns:
        ``(batch, 1, time)``, never negative where ``relevance`` is not.
    """
    inputs, outputs = activations[:-1], activations[1:]
    for block, x, y in zip(
        reversed(branch.blocks), reversed(inputs), reversed(outputs), strict=True
    ):
        assert isinstance(block.conv, nn.Conv1d)
        relevance = _through(block.conv, x, relevance * (y > 0))
    return relevance


def _through(conv: nn.Conv1d, x: Tensor, relevance: Tensor) -> Tensor:
    """Relevance of a convolution's input, shared out by what each sample contributes."""
    weight = conv.weight.clamp_min(0)
    geometry = conv.stride, conv.padding, conv.dilation
    step, padding, dilation = (int(numbers[0]) for numbers in geometry)
    per_unit = relevance / (F.conv1d(x, weight, None, step, padding, dilation) + _NOTHING)
    covered = (relevance.shape[-1] - 1) * step - 2 * padding + dilation * (weight.shape[-1] - 1) + 1
    missed = x.shape[-1] - covered  # samples behind the last step that reads whole
    return x * F.conv_transpose1d(per_unit, weight, None, step, padding, missed, 1, dilation)
