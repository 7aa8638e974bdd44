"""Features of branches that are frozen throughout: computed once per window, then reused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

_MULTIPLE = 16  # a few windows are summed in another order than many by CPUs: with other rounding


class Windows(Protocol):
    """What is asked of a dataset."""

    def __len__(self) -> int:
        """Number of windows."""

    def __getitems__(self, positions: Sequence[int]) -> Any:
        """A batch whose ``signal`` is ``(batch, 1, time)``."""


class WindowData(Protocol):
    """What is asked of a data module."""

    augments_batches: bool

    def varied_once(self, signals: Tensor, windows: Tensor) -> Tensor:
        """Augmented copies that are a function of the window alone."""


class Network(Protocol):
    """What is asked of a network."""

    branches: nn.ModuleDict

    def pooled(self, name: str, x: Tensor) -> Tensor:
        """What the head of a branch decides by: ``(batch, channels)``."""


@dataclass
class _Known:
    """Features of the windows of one dataset that are known so far.

    Args:
        weights: Parameters and buffers of the branch that the features are of.
        values: ``(windows, channels)``, in the precision of the forward pass.
        known: ``(windows,)``, which of them are computed.
    """

    weights: dict[str, Tensor]
    values: Tensor | None
    known: Tensor


class PooledFeatures:
    """Pooled features of frozen branches for the windows of one dataset, computed when asked for.

    Args:
        network: Has the branches.
        dataset: The windows.
        data: Set for training windows: varies each once. Null leaves windows as they are.
    """

    def __init__(self, network: Network, dataset: Windows, data: WindowData | None) -> None:
        self.network, self.dataset, self.data = network, dataset, data
        self.of_branch: dict[str, _Known] = {}

    def keep(self, names: Sequence[str]) -> None:
        """Know these branches alone, and forget features of weights that are no more."""
        self.of_branch = {
            name: known
            for name, known in self.of_branch.items()
            if name in names and _same(known.weights, self.network.branches[name].state_dict())
        }
        for name in names:
            if name not in self.of_branch:
                self.of_branch[name] = self._unknown(name)

    def __call__(self, windows: Tensor) -> dict[str, Tensor]:
        """Features ``(batch, channels)`` per frozen branch of windows by position ``(batch,)``."""
        return {name: self._look_up(name, known, windows) for name, known in self.of_branch.items()}

    def _look_up(self, name: str, features: _Known, windows: Tensor) -> Tensor:
        missing = torch.unique(windows[~features.known[windows]])
        if len(missing):
            computed = self._compute(name, missing)
            if features.values is None:
                with torch.inference_mode(False):  # kept beyond a validation
                    features.values = computed.new_empty(len(self.dataset), computed.shape[1])
            features.values[missing] = computed
            features.known[missing] = True
        assert features.values is not None
        return features.values[windows]

    @torch.no_grad()
    def _compute(self, name: str, windows: Tensor) -> Tensor:
        positions = windows.tolist()
        signals = self.dataset.__getitems__(positions).signal.to(windows.device)
        if self.data is not None:
            signals = self.data.varied_once(signals, windows)
        surplus = -len(signals) % _MULTIPLE
        padded = torch.cat([signals, signals[:1].expand(surplus, -1, -1)])
        return self.network.pooled(name, padded)[: len(signals)]

    def _unknown(self, name: str) -> _Known:
        weights = self.network.branches[name].state_dict()
        device = next(iter(weights.values())).device
        with torch.inference_mode(False):
            kept = {key: value.clone() for key, value in weights.items()}
            return _Known(kept, None, torch.zeros(len(self.dataset), dtype=torch.bool).to(device))


class FeatureReuse:
    """Gives a task the features of its frozen branches, in training and in validation.

    Features are of the weights at hand: they are compared before each epoch of training and of
    validation, which may use other weights (moving averages), and computed anew if they differ.
    Nothing is stored in checkpoints: a resumed run computes the same again.
    """

    def __init__(self) -> None:
        self.frozen: list[str] = []
        self.train: PooledFeatures | None = None
        self.validation: PooledFeatures | None = None

    def start(self, trainer: Trainer, task: LightningModule) -> None:
        """Look for what is needed; without it (other tasks, plain loaders) nothing is reused."""
        data: Any = getattr(trainer, "datamodule", None)
        network: Any = getattr(task, "network", None)
        loaders = trainer.train_dataloader, trainer.val_dataloaders
        datasets: list[Any] = [getattr(loader, "dataset", None) for loader in loaders]
        usable = hasattr(data, "varied_once") and hasattr(task, "known_features")
        self.train = self.validation = None
        if usable and hasattr(datasets[0], "__getitems__"):
            self.train = PooledFeatures(network, datasets[0], data)
        if usable and hasattr(datasets[1], "__getitems__"):
            self.validation = PooledFeatures(network, datasets[1], None)

    def freeze(self, trainer: Trainer, frozen: Sequence[str]) -> None:
        """Say which branches are frozen in all their blocks from now on."""
        if self.train is None:
            return
        self.train.keep(frozen)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        data.augments_batches = set(frozen) != set(self.train.network.branches)
        if self.frozen != list(frozen):
            self.frozen = list(frozen)
            self._say(data)

    def before_batch(self, task: Any) -> None:
        """Serve a training batch."""
        if self.train is not None:
            task.known_features = self.train if self.frozen else None

    def before_validation_batch(self, task: Any, batch_idx: int) -> None:
        """Serve a validation batch; the first comes after all changes of weights."""
        if self.validation is not None and batch_idx == 0:
            self.validation.keep(self.frozen)
        if self.train is not None:
            task.known_features = self.validation if self.frozen else None

    def stop(self, trainer: Trainer, task: Any) -> None:
        """Leave everything as it was found."""
        if self.train is not None:
            task.known_features = None
            trainer.datamodule.augments_batches = True  # type: ignore[attr-defined]
        self.frozen, self.train, self.validation = [], None, None

    def _say(self, data: Any) -> None:
        if not self.frozen:
            return
        drawn = "" if data.augmentation is None else "; their augmentation is drawn once per window"
        rank_zero_info(
            f"All blocks of {' and '.join(self.frozen)} are frozen: features are computed once per "
            f"window and reused{drawn}. --freezing.reuse_features false computes them every time"
        )


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
