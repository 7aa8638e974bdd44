"""What a network decided about windows: the thing that maps are to explain."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xecg.errors import DataError, NetworkError

_BATCH = 64  # windows in one forward pass


@dataclass(frozen=True, eq=False)
class Decisions:
    """Windows, a network, and the class of each window whose logit is explained.

    Args:
        network: In eval mode; maps ``(batch, 1, time)`` to logits ``(batch, classes)``.
        x: Windows ``(n, 1, time)``, float32.
        classes: Explained class of each window, int64 ``(n,)``.

    Raises:
        DataError: There is no window, or the shapes disagree.
        NetworkError: The network is in training mode.
    """

    network: nn.Module
    x: Tensor
    classes: Tensor

    def __post_init__(self) -> None:
        if self.x.dim() != 3 or self.x.shape[1] != 1 or not len(self.x):
            raise DataError(f"Expected windows (n, 1, time), found shape {tuple(self.x.shape)}.")
        if self.classes.shape != (len(self.x),):
            raise DataError(
                f"Expected a class for each of {len(self.x)} windows, found shape "
                f"{tuple(self.classes.shape)}."
            )
        if self.network.training:
            raise NetworkError("Expected a network in eval mode, found one in training mode.")

    @classmethod
    def of(cls, network: nn.Module, x: Tensor) -> "Decisions":
        """The class that ``network`` predicts for each window.

        Args:
            network: See the class; a copy of it is kept, in eval mode and without gradients of
                its parameters.
            x: Windows ``(n, 1, time)``, float32.
        """
        frozen = copy.deepcopy(network).eval().requires_grad_(False)
        return cls(frozen, x, logits_of(frozen, x).argmax(dim=1))

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, size: int) -> Iterator["Decisions"]:
        """The same decisions, at most ``size`` at once."""
        for x, classes in zip(
            torch.split(self.x, size), torch.split(self.classes, size), strict=True
        ):
            yield Decisions(self.network, x, classes)

    def take(self, rows: Tensor) -> "Decisions":
        """Some of the windows.

        Args:
            rows: Their numbers, int64.
        """
        return Decisions(self.network, self.x[rows], self.classes[rows])

    def by(self, network: nn.Module) -> "Decisions":
        """The same windows and classes under another network in eval mode."""
        return Decisions(network, self.x, self.classes)


def logits_of(network: nn.Module, x: Tensor) -> Tensor:
    """Logits ``(n, classes)`` of windows ``(n, 1, time)``."""
    with torch.inference_mode():
        logits = torch.cat([network(batch) for batch in torch.split(x, _BATCH)])
    return logits.clone()  # an ordinary tensor, that may enter a graph
