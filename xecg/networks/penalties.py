"""Terms of a loss: how long features are active, and where the evidence for a wave comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xecg.errors import check_ranges
from xecg.networks.branch import Branch

_NOTHING = 1e-6  # where no input contributes, relevance ends


def mean_activity(features: Sequence[Tensor]) -> Tensor:
    r"""Returns the mean over blocks and channels of :math:`\langle a\rangle^2/\langle a^2\rangle`.

    The mean :math:`\langle\cdot\rangle` is over batch and time: 1 for a feature that is the same
    everywhere, near the share of time at which it is active otherwise, whatever its size, so that
    small weights do not pass for sparseness (Rolls and Tovee, J Neurophysiol 1995, eq. 1).
    Features of each block are ``(batch, channels, steps)`` and never negative.
    """
    shares = []
    for block in map(torch.Tensor.float, features):
        mean, square = block.mean(dim=(0, 2)), block.square().mean(dim=(0, 2))
        shares.append((mean.square() / (square + _NOTHING)).mean())
    return torch.stack(shares).mean()


def positive_relevance(branch: Branch, activations: Sequence[Tensor], relevance: Tensor) -> Tensor:
    r"""Returns relevance of the input ``(batch, 1, time)`` for ``relevance`` of the features.

    .. math::
        R_i = \sum_j \frac{a_i w_{ij}^+}{\sum_{i'} a_{i'} w_{i'j}^+} R_j\,[a_j > 0]

    from block to block (Montavon et al., Pattern Recognition 2017, eq. 15), unchanged by batch
    normalisation: ``DeepTaylor(rules="innvestigate")`` of a branch whose input is never negative,
    with a gradient with respect to the weights. ``activations`` are those of the branch.
    """
    layers = zip(branch.blocks, branch.specs, activations[:-1], activations[1:], strict=True)
    for block, spec, x, y in reversed(list(layers)):
        weight = block.conv.weight.clamp_min(0)
        geometry = spec.stride, spec.dilation * (spec.kernel_size - 1) // 2
        contributed = F.conv1d(x, weight, None, *geometry, spec.dilation)
        per_unit = relevance * (y > 0) / (contributed + _NOTHING)
        missed = (x.shape[-1] - 1) % spec.stride  # samples behind the last step
        relevance = x * F.conv_transpose1d(
            per_unit, weight, None, *geometry, missed, 1, spec.dilation
        )
    return relevance


@dataclass(frozen=True)
class RelevanceGuidance:
    """A loss on the share of relevance outside of the waves.

    "Right for the right reasons" (Ross, Hughes and Doshi-Velez, IJCAI 2017), with deep Taylor
    relevance in place of the gradient. Without it a P-wave detector finds P waves largely by the
    QRS complex that follows them, and so does a network that is fine-tuned from it.
    Raises ConfigError if a number is out of range.

    Args:
        weight: Weight of this loss beside the cross-entropy; 0 switches it off.
        windows: Number of windows of a batch to explain, among those with a wave.
        margin_s: Time before and after a wave that counts as the wave, in seconds.
    """

    weight: float = 0.3
    windows: int = 16
    margin_s: float = 0.05

    def __post_init__(self) -> None:
        at_least = {"weight": 0, "windows": 1, "margin_s": 0}
        check_ranges("guidance.", **{key: (getattr(self, key), at_least[key]) for key in at_least})

    def outside(
        self,
        branch: Branch,
        activations: Sequence[Tensor],
        evidence: Tensor,
        waves: Tensor,
        sampling_rate: float,
    ) -> Tensor:
        """Returns the mean share of relevance outside of the waves, a scalar in [0, 1].

        ``evidence`` is what each feature says for a wave, ``(batch, channels, steps)``; only that
        inside of a wave, where ``waves`` ``(batch, time)`` is true, is followed back.
        """
        chosen = waves.any(dim=1).nonzero()[: self.windows, 0]
        if not len(chosen):
            return evidence.new_zeros(())
        mask = waves[chosen].float()[:, None]
        steps = F.interpolate(mask, size=evidence.shape[-1], mode="nearest")
        layers = [layer[chosen] for layer in activations]
        relevance = positive_relevance(branch, layers, evidence[chosen] * steps).float()
        margin = round(self.margin_s * sampling_rate)
        wide = F.max_pool1d(mask, 2 * margin + 1, stride=1, padding=margin)
        inside = (relevance * wide).sum(dim=(1, 2)) / (relevance.sum(dim=(1, 2)) + _NOTHING)
        return (1 - inside).mean()
