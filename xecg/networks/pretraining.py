"""One branch with the head of its pre-training task."""

from math import nan

import torch
from torch import Tensor, nn

from xecg.networks.branch import build_branch
from xecg.networks.xecgarch import PooledHead, PositiveStepHead, StepHead


class PWaveNetwork(nn.Module):
    """Morphology branch, as in the two-branch network, and a logit per sample.

    With ``positive``, features can only add to a logit, as guidance of relevance needs.
    """

    def __init__(self, channels: int = 32, dropout: float = 0.0, positive: bool = False) -> None:
        super().__init__()
        branch = build_branch("morphology", channels, dropout)
        self.branches = nn.ModuleDict({"morphology": branch})
        self.head = (PositiveStepHead if positive else StepHead)(branch.channels)

    def forward(self, x: Tensor) -> Tensor:
        """Returns P-wave logits ``(batch, time)`` for windows ``(batch, 1, time)`` in [0, 1]."""
        return self.head(self.branches["morphology"](x), x.shape[-1])  # type: ignore[no-any-return]


class RRNetwork(nn.Module):
    """Rhythm branch and two numbers a window: log RMSSD and log SDNN.

    The head predicts standardised values; their mean and standard deviation on the training split
    are buffers, so that the weights give milliseconds.
    """

    measures = ("rmssd", "sdnn")
    mean: Tensor
    std: Tensor

    def __init__(self, channels: int = 32, dropout: float = 0.0, hidden: int = 64) -> None:
        super().__init__()
        branch = build_branch("rhythm", channels, dropout)
        self.branches = nn.ModuleDict({"rhythm": branch})
        self.head = PooledHead(branch.channels, len(self.measures), hidden)
        self.register_buffer("mean", torch.full((len(self.measures),), nan))
        self.register_buffer("std", torch.full((len(self.measures),), nan))

    def standardise_by(self, targets_ms: Tensor) -> None:
        """Takes mean and standard deviation of the logarithms of ``(n, 2)`` measures in ms."""
        logs = targets_ms.double().log()
        self.mean.copy_(logs.mean(dim=0))
        self.std.copy_(logs.std(dim=0))

    def standardised(self, targets_ms: Tensor) -> Tensor:
        """Returns standardised logarithms of measures in ms, ``(batch, 2)``."""
        return (targets_ms.log() - self.mean) / self.std

    def milliseconds(self, standardised: Tensor) -> Tensor:
        """Returns the head's output ``(batch, 2)`` in ms."""
        return (standardised * self.std + self.mean).exp()

    def forward(self, x: Tensor) -> Tensor:
        """Returns standardised log measures ``(batch, 2)`` for windows ``(batch, 1, time)``."""
        return self.head(self.branches["rhythm"](x))  # type: ignore[no-any-return]
