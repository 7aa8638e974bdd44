"""What a task puts on a branch: per time step, or pooled over the window."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn


class PooledHead(nn.Sequential):
    """Mean over time, then linear: ``(batch, channels, steps)`` to ``(batch, outputs)``.

    Made of modules alone, so that deep Taylor decomposition can pass through it.
    """

    def __init__(self, channels: int, outputs: int, hidden: int | None = None) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            pool=nn.AdaptiveAvgPool1d(1), flatten=nn.Flatten()
        )
        if hidden is not None:
            layers["hidden"] = nn.Linear(channels, hidden)
            layers["relu"] = nn.ReLU()
        layers["linear"] = nn.Linear(hidden or channels, outputs)
        super().__init__(layers)

    def pooled(self, features: Tensor) -> Tensor:
        """Mean over time: ``(batch, channels, steps)`` to ``(batch, channels)``."""
        pool, flatten, *_ = self
        return flatten(pool(features))  # type: ignore[no-any-return]

    def decide(self, pooled: Tensor) -> Tensor:
        """Outputs of pooled features ``(batch, channels)``."""
        _, _, *layers = self
        for layer in layers:
            pooled = layer(pooled)
        return pooled


class StepHead(nn.Module):
    r"""A logit per sample: ``(batch, channels, steps)`` to ``(batch, time)``.

    .. math::
        z(t) = \sum_c \mathrm{softplus}(v_c)\, f_c(t) - b

    No weight is negative: a feature, itself never negative, can only speak for a wave, and all of
    them are silent where there is none. Linear interpolation gives a logit per sample.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, 1, kernel_size=1)
        nn.init.constant_(self.conv.bias, -2.0)  # type: ignore[arg-type]

    @property
    def weight(self) -> Tensor:
        """What each feature counts, ``(1, channels, 1)``, positive."""
        return F.softplus(self.conv.weight, beta=4.0)

    def forward(self, features: Tensor, time: int) -> Tensor:
        """Logits ``(batch, time)`` for windows of ``time`` samples."""
        logits = F.conv1d(features, self.weight, self.conv.bias)
        return F.interpolate(logits, size=time, mode="linear", align_corners=False).squeeze(1)

    def evidence(self, features: Tensor) -> Tensor:
        """What each feature says for a wave, ``(batch, channels, steps)``."""
        return features * self.weight[0]
