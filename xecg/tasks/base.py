"""Base of the tasks: optimiser, pre-trained branches, one loss a step, a report of a test."""

from abc import abstractmethod
from collections.abc import Mapping
from math import cos, pi
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric, MetricCollection

from xecg.errors import ConfigError, DivergedError, WeightsError
from xecg.metrics.bootstrap import Interval
from xecg.networks.branch import Branch
from xecg.networks.weights import WeightsInfo, describe_branches, load_branch

Report = Mapping[str, Mapping[str, Interval]]  # part (branch, measure) -> metric -> interval
MONITOR = "validation/loss"


class CosineToEnd(LRScheduler):
    """Cosine from the optimiser's rate down to a share of it at the end of the Trainer's epochs.

    Loshchilov and Hutter, ICLR 2017, eq. 5, without restarts. The task sets ``max_epochs``.

    Args:
        optimizer: Optimizer whose rate is scheduled.
        final_share: Share of the rate that is left at the end.
    """

    def __init__(self, optimizer: Optimizer, final_share: float = 0.0) -> None:
        self.final_share, self.max_epochs = final_share, 1
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Returns the rate of each group of parameters."""
        share = (1 + cos(pi * min(self.last_epoch / max(self.max_epochs, 1), 1))) / 2
        factor = self.final_share + (1 - self.final_share) * share
        return [rate * factor for rate in self.base_lrs]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state, but for the length, which is this run's; so is the next rate."""
        super().load_state_dict(state_dict | {"max_epochs": self.max_epochs})
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate


class Task(LightningModule):
    """Base of the tasks; a batch has ``signal (batch, 1, time)``, ``target`` and ``window``.

    All parameters are in one optimiser group from the start; freezing leaves them there without a
    gradient, which keeps a resumed run identical to one that was never stopped.
    Raises ConfigError for weights of a branch that the network does not have, WeightsError for
    weights that do not fit it.

    Args:
        network: Network with ``branches``, by name.
        pretrained: Weights file, or name of released weights, of each branch that does not start
            from random weights; null leaves a branch random.
        optimizer: Class of the optimiser; AdamW (Loshchilov and Hutter 2019) by default.
        lr_scheduler: Class of the scheduler, stepped once an epoch. An attribute ``max_epochs`` of
            it is set to the Trainer's; ``ReduceLROnPlateau`` watches ``validation/loss``.
    """

    def __init__(
        self,
        network: nn.Module,
        pretrained: dict[str, str | None] | None = None,
        optimizer: OptimizerCallable = AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.network, self.optimizer, self.lr_scheduler = network, optimizer, lr_scheduler
        self.pretrained: dict[str, WeightsInfo] = {}
        for name, source in (pretrained or {}).items():
            if name not in self.branches:
                known = ", ".join(self.branches)
                raise ConfigError(f"pretrained: branch must be one of {known}; found {name}")
            if source is not None:
                self.pretrained[name] = load_branch(self.branches[name], name, source)
        self.test_reports: dict[str, Report] = {}
        # Of each test set: the dataset, positions of its windows (n,), what was collected of them.
        self.tested: list[tuple[Any, NDArray[np.int64], dict[str, NDArray[Any]]]] = []
        self._random_state: dict[str, Tensor] = {}

    @property
    def branches(self) -> Mapping[str, Branch]:
        """Branches by name."""
        return cast(Mapping[str, Branch], self.network.branches)

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Returns the loss of a batch, a scalar; may log its parts by :meth:`log_part`."""

    @abstractmethod
    def collect(self, batch: Any) -> dict[str, Tensor]:
        """Returns what the report of a test needs of a batch: tensors of ``batch`` rows."""

    @abstractmethod
    def report(self, collected: Mapping[str, NDArray[Any]], groups: NDArray[np.int64]) -> Report:
        """Returns the metrics of one test set, by part and name.

        ``collected`` has the rows of :meth:`collect`, ``groups`` each window's person or record.
        """

    def forward(self, x: Tensor) -> Any:
        """Returns the network's output for windows ``(batch, 1, time)`` in [0, 1].

        Evaluation is in float32 also where the Trainer's precision is mixed.
        """
        if self.training:
            return self.network(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.network(x)

    def log_part(self, name: str, value: Tensor) -> None:
        """Logs a part of the loss as ``train/<name>`` or ``validation/<name>``."""
        part = f"{'train' if self.training else 'validation'}/{name}"
        self.log(part, value, on_step=False, on_epoch=True, sync_dist=True)

    def log_validation(self, *metrics: Any) -> None:
        """Logs metrics of an epoch under ``validation/``; starts them anew."""
        for metric in metrics:
            found = {f"validation/{name}": value for name, value in metric.compute().items()}
            self.log_dict(found, sync_dist=True)
            metric.reset()

    def setup(self, stage: str) -> None:
        """Checks the pre-trained branches against the data.

        Raises WeightsError if they are of windows with other preprocessing, and StoreError if they
        learnt from persons of the test sets.
        """
        for name, info in self.pretrained.items():
            self._check_weights(info, f"pretrained weights of {name}")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns one optimiser of all parameters, and the scheduler if there is one.

        Raises ConfigError if the scheduler needs an end or a validation that the Trainer has not.
        """
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is None:
            return optimizer
        scheduler: Any = self.lr_scheduler(optimizer)
        name, config = type(scheduler).__name__, dict[str, Any](scheduler=scheduler)
        if hasattr(scheduler, "max_epochs"):
            scheduler.max_epochs = self.trainer.max_epochs
            if scheduler.max_epochs in (None, -1):
                raise ConfigError(f"lr_scheduler {name} needs an end; set trainer.max_epochs")
        if isinstance(scheduler, ReduceLROnPlateau):
            if not self.trainer.enable_validation:
                remedy = "set trainer.limit_val_batches above 0, or choose another scheduler"
                raise ConfigError(f"lr_scheduler {name} watches {MONITOR}; {remedy}")
            config["monitor"] = getattr(scheduler, "monitor", MONITOR)
            config["frequency"] = self.trainer.check_val_every_n_epoch or 1
        return {"optimizer": optimizer, "lr_scheduler": cast(Any, config)}

    def on_fit_start(self) -> None:
        """Starts the metrics anew: those of an earlier validation are of inference mode."""
        for module in self.modules():
            if isinstance(module, Metric | MetricCollection):
                module.reset()

    def on_train_start(self) -> None:
        """Lets dropout of a resumed run draw what the run would have drawn without a stop."""
        if self.trainer.ckpt_path and self._random_state:
            torch.set_rng_state(self._random_state["cpu"].cpu())
            if "cuda" in self._random_state and torch.cuda.is_available():
                torch.cuda.set_rng_state(self._random_state["cuda"].cpu())

    def on_train_epoch_start(self) -> None:
        """Logs the rate at which the epoch learns."""
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"], sync_dist=True)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the loss of one batch, and logs it; raises DivergedError if it is not finite."""
        loss = self.loss(batch)
        self._check_finite("the loss", loss)
        self.log("train/loss", loss, prog_bar=True, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def log_loss(self, loss: Tensor, n: int) -> None:
        """Logs ``validation/loss``, by which the epoch is selected: the mean over ``n`` things."""
        self.log(MONITOR, loss, prog_bar=True, batch_size=n, sync_dist=True)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Logs the mean of :meth:`loss` over windows."""
        self.log_loss(self.loss(batch), len(batch.signal))

    def on_test_start(self) -> None:
        """Forgets an earlier test."""
        predicting, trainer = self.trainer.predicting, self.trainer
        loaders = trainer.predict_dataloaders if predicting else trainer.test_dataloaders
        self._loaders = loaders if isinstance(loaders, list) else [loaders]
        self._parts: list[list[dict[str, Tensor]]] = [[] for _ in self._loaders]
        self.test_reports, self.tested = {}, []

    on_predict_start = on_test_start

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Keeps positions of the windows and what :meth:`collect` says of them."""
        found = {"window": batch.window, **self.collect(batch)}
        self._parts[dataloader_idx].append(found)
        return found

    predict_step = test_step

    def on_predict_epoch_end(self) -> None:
        """Puts together what was kept, as ``tested``."""
        for loader, parts in zip(self._loaders, self._parts, strict=True):
            columns = {name: self._whole([part[name] for part in parts]) for name in parts[0]}
            # In order, and once: a distributed sampler repeats some to give every process as many.
            windows, first = np.unique(columns.pop("window"), return_index=True)
            columns = {name: rows[first] for name, rows in columns.items()}
            self.tested.append((loader.dataset, windows, columns))

    def on_test_epoch_end(self) -> None:
        """Makes a report per test set; logs it as ``test/<set>/<part>/<metric>``.

        Ends of the intervals and counts follow as ``<metric>_low`` and so on.
        """
        self.on_predict_epoch_end()
        for dataset, windows, columns in self.tested:
            groups = dataset.groups()[windows] if hasattr(dataset, "groups") else windows
            name = getattr(dataset, "name", "test")
            self.test_reports[name] = self.report(columns, groups)
            for part, metrics in self.test_reports[name].items():
                for key, interval in metrics.items():
                    told = {f"_{field}": float(one) for field, one in vars(interval).items()}
                    told[""] = told.pop("_value")
                    prefix = f"test/{name}/{part}/{key}"
                    self.log_dict({prefix + end: one for end, one in told.items()}, sync_dist=True)

    def _whole(self, parts: list[Tensor]) -> NDArray[Any]:
        """Rows of all batches and processes."""
        mine = torch.cat(parts)
        rows = cast(Tensor, self.all_gather(mine)).reshape(-1, *mine.shape[1:])
        return (rows.float() if rows.dtype == torch.bfloat16 else rows).cpu().numpy()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes random state, architecture, preprocessing and who was learnt from.

        Raises DivergedError if a weight is not finite: such a network is never kept.
        """
        for name, values in self.network.state_dict().items():
            self._check_finite(name, values)
        cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
        checkpoint["random_state"] = {"cpu": torch.get_rng_state(), **cuda}
        checkpoint["architecture"] = self._architecture()
        if hasattr(self._data, "check_weights"):
            checkpoint["preprocessing"] = self._data.preprocessing.to_dict()
            checkpoint["learnt"] = self._data.learnt()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another network, or one that the data does not fit.

        Raises WeightsError if architecture or preprocessing differ, and says how; StoreError if the
        checkpoint learnt from persons of the test sets.
        """
        found, expected = checkpoint.get("architecture"), self._architecture()
        if found != expected:
            raise WeightsError(
                f"the checkpoint holds branches {_brief(found)}; this model has "
                f"{_brief(expected)}. Give the model the same branches, channels and guidance"
            )
        mine = self.state_dict()
        for name, values in checkpoint["state_dict"].items():
            if name in mine and values.is_floating_point() != mine[name].is_floating_point():
                kinds = f"{name} of {mine[name].dtype}, found {values.dtype}"
                raise WeightsError(f"the checkpoint: expected {kinds}; train the model again")
        if "preprocessing" in checkpoint:
            said = {key: checkpoint.get(key) for key in ("preprocessing", "learnt")}
            self._check_weights(SimpleNamespace(**said), "the checkpoint")
        self._random_state = checkpoint.get("random_state", {})

    def _check_weights(self, info: Any, name: str) -> None:
        if hasattr(self._data, "check_weights"):
            self._data.check_weights(info, name)

    def _check_finite(self, name: str, values: Tensor) -> None:
        if not torch.isfinite(values).all():
            optimizers = self.trainer.optimizers
            rate = f"{optimizers[0].param_groups[0]['lr']:g}" if optimizers else "unknown"
            raise DivergedError(
                f"training diverged: {name} is not finite at step {self.global_step}, with a "
                f"learning rate of {rate}; lower --model.optimizer.lr"
            )

    @property
    def _data(self) -> Any:
        """Data module of the run; None outside of a run and for plain loaders."""
        return getattr(self._trainer, "datamodule", None)

    def _architecture(self) -> dict[str, Any]:
        head = getattr(self.network, "head", None)
        return describe_branches(self.branches) | ({"head": type(head).__name__} if head else {})


def _brief(architecture: Mapping[str, Any] | None) -> str:
    return ", ".join(
        shape if isinstance(shape, str) else f"{name} of {shape['channels']} channels"
        for name, shape in (architecture or {"": "that it does not describe"}).items()
    )
