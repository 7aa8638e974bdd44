"""Networks: heads, a branch with the head of its pre-training task, the two-branch network."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xecg.errors import NetworkError
from xecg.networks import FUSED as FUSED
from xecg.networks.branch import BRANCHES, Branch, build_branch

BATCH = 32  # windows: larger batches leave the processor's cache
N_CLASSES = 2  # non-AF, AF: two logits, so that relevance can be asked of either


class PooledHead(nn.Sequential):
    """Mean over time, then linear: ``(batch, channels, steps)`` to ``(batch, outputs)``.

    Made of modules alone, so that deep Taylor decomposition can pass through it.
    """

    def __init__(self, channels: int, outputs: int, hidden: int | None = None) -> None:
        layers = OrderedDict[str, nn.Module](pool=nn.AdaptiveAvgPool1d(1), flatten=nn.Flatten())
        if hidden is not None:
            layers |= {"hidden": nn.Linear(channels, hidden), "relu": nn.ReLU()}
        layers["linear"] = nn.Linear(hidden or channels, outputs)
        super().__init__(layers)

    @torch.no_grad()
    def rescale(self, slope: float, intercept: float) -> None:
        """Makes the margin of the second of two logits ``slope`` times itself and ``intercept``."""
        linear: Any = self.linear
        linear.weight.mul_(slope)
        linear.bias.mul_(slope).add_(linear.bias.new_tensor([-intercept / 2, intercept / 2]))


class StepHead(nn.Module):
    """A logit per sample: convolution of one step, then linear interpolation over time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, 1, kernel_size=1)
        nn.init.constant_(self.conv.bias, -2.0)  # type: ignore[arg-type]

    @property
    def weight(self) -> Tensor:
        """Weight of each feature, ``(1, channels, 1)``."""
        return self.conv.weight

    def forward(self, features: Tensor, time: int) -> Tensor:
        """Maps features ``(batch, channels, steps)`` to logits ``(batch, time)``."""
        logits = F.conv1d(features, self.weight, self.conv.bias)
        return F.interpolate(logits, size=time, mode="linear", align_corners=False).squeeze(1)


class PositiveStepHead(StepHead):
    r"""A logit per sample to which a feature, itself never negative, can only add.

    .. math::
        z(t) = \sum_c \mathrm{softplus}(v_c)\, f_c(t) - b
    """

    @property
    def weight(self) -> Tensor:
        """Weight of each feature, ``(1, channels, 1)``, positive."""
        return F.softplus(self.conv.weight, beta=4.0)

    def evidence(self, features: Tensor) -> Tensor:
        """Returns what each feature adds to the logit, ``(batch, channels, steps)``."""
        return features * self.weight[0]


class PWaveNetwork(nn.Module):
    """Morphology branch and a logit per sample, to which ``positive`` lets features only add."""

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
        for name in ("mean", "std"):
            self.register_buffer(name, torch.full((len(self.measures),), nan))

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


class XECGArch(nn.Module):
    r"""xECGArch: each branch :math:`b` reads the same window and decides on its own.

    .. math::
        z_b = W_b \, \mathrm{mean}_t \, f_b(x) + c_b, \qquad
        p = \frac{1}{B} \sum_b \mathrm{softmax}(z_b)

    The branches share nothing, so a loss that is the sum over branches trains each as if alone.
    Source: Goettling et al., Sci Rep 2024 (there short- and long-term network). The output has the
    order of ``branches``; raises NetworkError if there is none.
    """

    def __init__(self, branches: Mapping[str, Branch]) -> None:
        super().__init__()
        if not branches:
            raise NetworkError(f"at least one branch is needed, of {', '.join(BRANCHES)}")
        self.branches = nn.ModuleDict(branches)
        self.heads = nn.ModuleDict(
            {name: PooledHead(branch.channels, N_CLASSES) for name, branch in branches.items()}
        )

    @classmethod
    def build(
        cls,
        names: Sequence[str] = ("morphology", "rhythm"),
        channels: int = 32,
        dropout: float = 0.0,
    ) -> "XECGArch":
        """Returns a new network of branches by name; a class path names one by its last part.

        Raises NetworkError if two branches have one name.
        """
        named = {name.rpartition(".")[2]: name for name in names}
        if len(named) < len(names):
            raise NetworkError(f"branches need different names; found {', '.join(names)}")
        return cls({key: build_branch(name, channels, dropout) for key, name in named.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Returns logits ``(batch, 2)`` per branch, of windows ``(batch, 1, time)`` in [0, 1]."""
        return {name: self.heads[name](branch(x)) for name, branch in self.branches.items()}

    @torch.inference_mode()
    def p_af(self, windows: Any) -> dict[str, Any]:
        """Returns P(AF) ``(n,)`` by branch and fused; NumPy, of windows ``(n, time)``, float32."""
        batches = torch.split(torch.from_numpy(windows).unsqueeze(1), BATCH)
        parts = [probabilities(self(batch)) for batch in batches]
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def probabilities(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns P(AF) ``(batch,)``, float32, of logits ``(batch, 2)``, by branch and fused."""
    p = {name: z.float().softmax(dim=-1) for name, z in logits.items()}
    p[FUSED] = torch.stack([*p.values()]).mean(dim=0)
    return {name: of_class[:, 1] for name, of_class in p.items()}
