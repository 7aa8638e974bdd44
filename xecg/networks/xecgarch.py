"""The two-branch network: independent branches, a head each, fused by their mean probability."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from xecg.errors import NetworkError
from xecg.networks.branch import BRANCHES, Branch, build_branch
from xecg.networks.heads import PooledHead

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
