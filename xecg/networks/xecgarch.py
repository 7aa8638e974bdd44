"""The two-branch network: independent branches, a head each, fused by their mean probability."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xecg.errors import NetworkError
from xecg.networks.branch import BRANCHES, Branch, build_branch


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


N_CLASSES = 2  # non-AF, AF: two logits, so that relevance can be asked of either


class XECGArch(nn.Module):
    r"""xECGArch: each branch :math:`b` reads the same window and decides on its own.

    .. math::
        z_b = W_b \, \mathrm{mean}_t \, f_b(x) + c_b, \qquad
        p = \frac{1}{B} \sum_b \mathrm{softmax}(z_b)

    The branches share nothing, so a loss that is the sum over branches trains each as if alone.
    Source: Goettling et al., Sci Rep 2024 (there short- and long-term network).

    Args:
        branches: Branches by name, in the order of the output.

    Raises:
        NetworkError: If there is no branch.
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
        cls, names: Sequence[str] = tuple(BRANCHES), channels: int = 32, dropout: float = 0.0
    ) -> "XECGArch":
        """A new network of the named branches."""
        return cls({name: build_branch(name, channels, dropout) for name in names})

    def forward(self, x: Tensor, pooled: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Logits ``(batch, 2)`` per branch.

        Args:
            x: Windows ``(batch, 1, time)`` scaled to [0, 1].
            pooled: By branch, what :meth:`pooled` said of the windows, where that is known.
        """
        known = pooled or {}
        return {
            name: self._head(name).decide(known[name])
            if name in known
            else self.heads[name](branch(x))
            for name, branch in self.branches.items()
        }

    def pooled(self, name: str, x: Tensor) -> Tensor:
        """What the head of a branch decides by: its features' mean over time, a row a window."""
        return self.pool(name, self.branches[name](x))

    def pool(self, name: str, features: Tensor) -> Tensor:
        """The mean over time of a branch's features ``(batch, channels, steps)``."""
        return self._head(name).pooled(features)

    def _head(self, name: str) -> PooledHead:
        head = self.heads[name]
        assert isinstance(head, PooledHead)
        return head

    def chain(self, name: str) -> nn.Sequential:
        """All modules from the input to one branch's logits, in the order they act.

        The modules are this network's own, not copies.

        Raises:
            NetworkError: If the network has no branch of that name.
        """
        if name not in self.branches:
            raise NetworkError(f"branch must be one of {', '.join(self.branches)}; found {name!r}")
        head = self.heads[name]
        blocks = [layer for block in self.branches[name].children() for layer in block.children()]
        return nn.Sequential(*blocks, *head.children())


def fuse(logits: Mapping[str, Tensor]) -> Tensor:
    """Mean over branches of the class probabilities, ``(batch, 2)``, in float32."""
    probabilities = [branch.float().softmax(dim=-1) for branch in logits.values()]
    return torch.stack(probabilities).mean(dim=0)
