"""What the three tasks share: optimiser, pre-trained branches, one loss a step, a test report."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn

from xecg.errors import WeightsError
from xecg.metrics.bootstrap import Interval
from xecg.metrics.collected import Collected
from xecg.networks.weights import describe_branches, load_branch

Report = Mapping[str, Mapping[str, Interval]]  # part (branch, measure) -> metric -> interval


def metrics_by_name(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """Metrics as a ``ModuleDict``, so that they follow the task to its device."""
    return nn.ModuleDict(metrics)  # type: ignore[return-value]


class Task(LightningModule):
    """Base of the tasks; a batch has ``signal (batch, 1, time)``, ``target`` and ``window``.

    All parameters are in one optimiser group from the start; freezing leaves them there without a
    gradient, which keeps a resumed run identical to one that was never stopped.

    Args:
        network: Has ``branches``, by name.
        weights: Per branch a weights file or the name of released weights; null trains from
            scratch.
        optimizer: Made of all parameters.
        lr_scheduler: Stepped once an epoch.

    Raises:
        WeightsError: If the weights of a branch do not fit it.
    """

    def __init__(
        self,
        network: nn.Module,
        weights: Mapping[str, str | None],
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.pretrained = {
            name: load_branch(self.branches[name], name, source)  # type: ignore[arg-type]
            for name, source in weights.items()
            if source is not None
        }
        self.test_reports: dict[str, Report] = {}

    @property
    def branches(self) -> nn.ModuleDict:
        """The branches by name: ``morphology``, ``rhythm`` or both."""
        branches = self.network.branches
        assert isinstance(branches, nn.ModuleDict)
        return branches

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """The loss of a training batch, a scalar; logs its parts."""

    @abstractmethod
    def collect(self, batch: Any) -> dict[str, Tensor]:
        """What the test report needs of a batch: tensors of ``batch`` rows."""

    @abstractmethod
    def report(self, collected: Mapping[str, NDArray[Any]], groups: NDArray[np.int64]) -> Report:
        """Metrics with intervals over persons (or records) of one test set."""

    def forward(self, x: Tensor) -> Any:
        """The network's output for windows ``(batch, 1, time)`` in [0, 1]."""
        return self.network(x)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimiser over all parameters, and the scheduler if there is one."""
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is None:
            return optimizer
        return [optimizer], [self.lr_scheduler(optimizer)]

    def on_train_start(self) -> None:
        """Keeps the seed of the run."""
        self._seed = torch.initial_seed()

    def on_train_epoch_start(self) -> None:
        """Seeds the epoch's dropout, so that a resumed run draws what the whole run draws."""
        torch.manual_seed((self._seed + 1_000_003 * self.current_epoch) % 2**63)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One step on one batch."""
        del batch_idx
        loss = self.loss(batch)
        self.log("train/loss", loss, prog_bar=True, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def on_test_start(self) -> None:
        """Forget the reports of an earlier test."""
        loaders = self.trainer.test_dataloaders
        self.test_loaders = loaders if isinstance(loaders, list) else [loaders]
        self.collected = [Collected().to(self.device) for _ in self.test_loaders]
        self.test_reports = {}

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep what the report needs."""
        del batch_idx
        self.collected[dataloader_idx].update(batch.window, self.collect(batch))

    def on_test_epoch_end(self) -> None:
        """A report per test set; its values are logged as ``test/<set>/<part>/<metric>``."""
        for loader, collected in zip(self.test_loaders, self.collected, strict=True):
            dataset = loader.dataset
            windows, columns = collected.compute()
            groups = dataset.groups()[windows] if hasattr(dataset, "groups") else windows
            name = getattr(dataset, "name", "test")
            self.test_reports[name] = self.report(columns, groups)
            for part, metrics in self.test_reports[name].items():
                values = {f"test/{name}/{part}/{key}": i.value for key, i in metrics.items()}
                self.log_dict(values, sync_dist=True)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Positions of the windows and what :meth:`collect` keeps of them."""
        del batch_idx, dataloader_idx
        return {"window": batch.window, **self.collect(batch)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the architecture beside the state, so that another one is refused by name."""
        checkpoint["architecture"] = describe_branches(self.branches)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture.

        Raises:
            WeightsError: Says how the two differ.
        """
        found, expected = checkpoint.get("architecture"), describe_branches(self.branches)
        if found != expected:
            raise WeightsError(
                f"the checkpoint holds branches {_brief(found)}; this model has "
                f"{_brief(expected)}. Give the model the same branches and channels"
            )


def _brief(architecture: Mapping[str, Any] | None) -> str:
    if architecture is None:
        return "that it does not describe"
    return ", ".join(
        f"{name} of {shape['channels']} channels" for name, shape in architecture.items()
    )
