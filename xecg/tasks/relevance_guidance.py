"""Guidance of pre-training: the evidence for a wave is to come from the wave."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from xecg.errors import ConfigError
from xecg.networks.branch import Branch
from xecg.networks.positive_relevance import positive_relevance

_NOTHING = 1e-6


@dataclass(frozen=True)
class RelevanceGuidance:
    """A loss on where the evidence comes from: the share of relevance outside of the waves.

    "Right for the right reasons" (Ross, Hughes and Doshi-Velez, IJCAI 2017), with deep Taylor
    relevance in place of the gradient. Without it a P-wave detector finds P waves largely by the
    QRS complex that follows them, and whatever is fine-tuned from it looks there too.

    Args:
        weight: Of this loss beside the cross-entropy; 0 switches it off.
        windows: Windows of a batch that are explained, of those with a wave.
        margin_s: Seconds before and after a wave that count as the wave.

    Raises:
        ConfigError: If a number is out of range.
    """

    weight: float = 0.3
    windows: int = 16
    margin_s: float = 0.05

    def __post_init__(self) -> None:
        if self.weight < 0 or self.windows < 1 or self.margin_s < 0:
            raise ConfigError(
                "guidance: expected a weight and margin_s of at least 0 and windows of at least "
                f"1; found {self}"
            )

    def outside(
        self,
        branch: Branch,
        activations: Sequence[Tensor],
        evidence: Tensor,
        waves: Tensor,
        sampling_rate: float,
    ) -> Tensor:
        """Mean share of relevance outside of the waves, a scalar in [0, 1].

        Args:
            branch: The branch.
            activations: Of :meth:`Branch.activations`, from the input to the features.
            evidence: What each feature says for a wave, ``(batch, channels, steps)``.
            waves: True inside of a wave, ``(batch, time)``.
            sampling_rate: Of the windows, in Hz.
        """
        chosen = waves.any(dim=1).nonzero()[: self.windows, 0]
        if not len(chosen):
            return evidence.new_zeros(())
        mask = waves[chosen].float()[:, None]
        steps = F.interpolate(mask, size=evidence.shape[-1], mode="nearest")
        relevance = positive_relevance(
            branch, [layer[chosen] for layer in activations], evidence[chosen] * steps
        ).float()
        margin = round(self.margin_s * sampling_rate)
        wide = F.max_pool1d(mask, 2 * margin + 1, stride=1, padding=margin)
        inside = (relevance * wide).sum(dim=(1, 2)) / (relevance.sum(dim=(1, 2)) + _NOTHING)
        return (1 - inside).mean()
