"""Pre-training of the rhythm branch: how much do the RR intervals of a window vary?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from xecg.errors import ConfigError, check_ranges
from xecg.metrics.regression import regression_report, rr_metrics
from xecg.networks.penalties import mean_activity
from xecg.networks.xecgarch import RRNetwork
from xecg.tasks.base import Report, Task


class RRVariability(Task):
    """Regression of log RMSSD and log SDNN, standardised on the training split.

    Logarithms, because both measures are spread over two decades and skewed (Task Force 1996);
    Huber loss, because some R peaks of the labels are wrong.

    Args:
        channels: Width of the branch.
        dropout: Share of features that each block drops in training.
        activity_weight: Weight of the features' mean activity in the loss; see
            :func:`xecg.networks.penalties.mean_activity`.
        options: ``pretrained``, ``optimizer`` and ``lr_scheduler`` of :class:`Task`.
    """

    network: RRNetwork

    def __init__(
        self, channels: int = 32, dropout: float = 0.0, activity_weight: float = 0.0, **options: Any
    ) -> None:
        super().__init__(RRNetwork(channels, dropout), **options)
        check_ranges(activity_weight=(activity_weight, 0))
        self.activity_weight = activity_weight
        self.validation_metrics: Any = nn.ModuleDict(
            {name: rr_metrics(prefix=f"{name}/") for name in self.network.measures}
        )

    def on_fit_start(self) -> None:
        """Takes the scale of the targets from the training split.

        Raises ConfigError if the training dataset has no method ``targets``.
        """
        super().on_fit_start()
        self.trainer.fit_loop.setup_data()
        dataset: Any = getattr(self.trainer.train_dataloader, "dataset", None)
        if not hasattr(dataset, "targets"):
            raise ConfigError(
                "RRVariability standardises its targets on the training split: the training "
                "dataset needs a method targets() that returns RMSSD and SDNN in ms, (n, 2)"
            )
        self.network.standardise_by(torch.as_tensor(np.asarray(dataset.targets())))

    def loss(self, batch: Any) -> Tensor:
        """Returns the Huber loss in standard deviations, and the features' activity."""
        features = self.branches["rhythm"].activations(batch.signal)[1:]
        loss = self._loss(self.network.head(features[-1]), batch.target)
        if self.activity_weight:
            loss = loss + self.activity_weight * mean_activity(features)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Adds a batch to the loss and to the errors in ms."""
        standardised = self(batch.signal)
        self.log_loss(self._loss(standardised, batch.target), len(batch.target))
        predicted = self.network.milliseconds(standardised.float())
        for column, metrics in enumerate(self.validation_metrics.values()):
            metrics.update(predicted[:, column].contiguous(), batch.target[:, column].contiguous())

    def on_validation_epoch_end(self) -> None:
        """Logs the errors."""
        self.log_validation(*self.validation_metrics.values())

    def collect(self, batch: Any) -> dict[str, Tensor]:
        """Returns predicted and true measures in ms, ``(batch, 2)``."""
        predicted = self.network.milliseconds(self(batch.signal).float())
        return {"predicted_ms": predicted, "target_ms": batch.target}

    def report(self, collected: Mapping[str, NDArray[Any]], groups: NDArray[np.int64]) -> Report:
        """Returns MAE in ms, R² and Pearson's r of each measure."""
        predicted, target = collected["predicted_ms"], collected["target_ms"]
        return {
            name: regression_report(predicted[:, column], target[:, column], groups)
            for column, name in enumerate(self.network.measures)
        }

    def _loss(self, standardised: Tensor, target_ms: Tensor) -> Tensor:
        return F.smooth_l1_loss(standardised.float(), self.network.standardised(target_ms))
