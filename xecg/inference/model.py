"""A trained two-branch network together with what its windows have to pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xecg.errors import ConfigError, WeightsError
from xecg.explain.pictures import FUSED
from xecg.networks.weights import find_weights, load_xecgarch
from xecg.networks.xecgarch import XECGArch, fuse
from xecg.signal.preprocessing import Preprocessing

CLASSES = ("non-AF", "AF")
Floats = NDArray[np.float32]

BATCH = 32  # windows: larger batches leave the processor's cache


@dataclass(frozen=True)
class Classifier:
    """Classifies windows of an ECG.

    Args:
        network: In eval mode.
        preprocessing: What made the windows that it was trained with.
        weights: Where it comes from.
    """

    network: XECGArch
    preprocessing: Preprocessing
    weights: Path

    @classmethod
    def load(cls, weights: str | Path) -> "Classifier":
        """Load a weights file, or released weights by name.

        Raises:
            WeightsError: The file is not there, is none, or holds another network.
        """
        path = find_weights(weights)
        network, info = load_xecgarch(path)
        try:
            return cls(network, Preprocessing.from_dict(info.preprocessing), path)
        except ConfigError as error:
            raise WeightsError(f"{path}: {error} Its windows cannot be made.") from error

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches."""
        return tuple(self.network.branches)

    def p_af(
        self, windows: NDArray[np.float32], done: Callable[[int], None] = lambda _: None
    ) -> dict[str, Floats]:
        """Probability of AF of each window.

        Args:
            windows: ``(windows, window_samples)``, scaled.
            done: Told how many more windows are classified, again and again.

        Returns:
            float32 ``(windows,)`` under ``"fused"`` and by branch.
        """
        parts = []
        with torch.inference_mode():
            for batch in torch.split(torch.from_numpy(windows).unsqueeze(1), BATCH):
                parts.append(_p_af(self.network(batch)))
                done(len(batch))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def is_af(p_af: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether AF is predicted: it is the more probable class."""
    return p_af > 0.5


def class_names(p_af: NDArray[np.floating]) -> list[str]:
    """The predicted class of each probability, in words."""
    return [CLASSES[int(af)] for af in is_af(p_af)]


def _p_af(logits: Mapping[str, torch.Tensor]) -> dict[str, Floats]:
    fused: dict[str, Floats] = {FUSED: fuse(logits)[:, 1].numpy()}
    return fused | {name: branch.softmax(dim=1)[:, 1].numpy() for name, branch in logits.items()}
