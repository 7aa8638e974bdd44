"""AF against non-AF, per branch and fused."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW
from torchmetrics import MeanMetric

from xecg.metrics.classification import af_metrics, classification_report
from xecg.networks.branch import BRANCHES, Branch
from xecg.networks.penalties import mean_activity
from xecg.networks.xecgarch import N_CLASSES, XECGArch, fuse
from xecg.tasks.base import Report, Task, metrics_by_name

FUSED = "fused"


class AFClassifier(Task):
    """Fine-tuning of the two-branch network on AF against non-AF.

    The loss is the sum of the branches' cross-entropies: since they share nothing, each trains as
    if alone. Zannini et al., Sci Rep 2026; Goettling et al., Sci Rep 2024.

    Args:
        morphology_weights: Pre-trained morphology branch: a file, the name of released weights,
            or null for training from scratch.
        rhythm_weights: The same for the rhythm branch.
        branches: Branches that the network has; leave one out to train the other alone.
        channels: Width of the branches; must be that of the pre-trained weights.
        dropout: Share of features that each block drops in training.
        label_smoothing: Share of the target probability that goes to the other class.
        activity_weight: Of the mean activity of each branch's features in the loss; the rarer they
            are active, the sharper the maps. See :func:`xecg.networks.penalties.mean_activity`.
        optimizer: Made of all parameters; AdamW (Loshchilov and Hutter 2019) by default.
        lr_scheduler: Stepped once an epoch.

    Raises:
        WeightsError: If the weights of a branch do not fit it.
        NetworkError: If a branch does not exist.
    """

    network: XECGArch

    def __init__(
        self,
        morphology_weights: str | None = None,
        rhythm_weights: str | None = None,
        branches: tuple[str, ...] = tuple(BRANCHES),
        channels: int = 32,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        activity_weight: float = 0.0,
        optimizer: OptimizerCallable = AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        weights = {"morphology": morphology_weights, "rhythm": rhythm_weights}
        chosen = {name: weights.get(name) for name in branches}
        super().__init__(
            XECGArch.build(branches, channels, dropout), chosen, optimizer, lr_scheduler
        )
        self.label_smoothing = label_smoothing
        self.activity_weight = activity_weight
        self.validation_metrics = metrics_by_name(
            {name: af_metrics(prefix=f"validation/{name}/") for name in (*branches, FUSED)}
        )
        self.class_losses = metrics_by_name(
            {str(label): MeanMetric() for label in range(N_CLASSES)}
        )

    def loss(self, batch: Any) -> Tensor:
        """Sum over branches of the cross-entropy, logged per branch, and of their activity."""
        known: dict[str, Tensor] = {}
        activities = []
        for name in self.network.branches if self.activity_weight else ():
            branch = self.network.branches[name]
            assert isinstance(branch, Branch)
            features = branch.activations(batch.signal)[1:]
            activities.append(mean_activity(features))
            known[name] = self.network.pool(name, features[-1])
        losses = {
            name: F.cross_entropy(logits, batch.target, label_smoothing=self.label_smoothing)
            for name, logits in self.network(batch.signal, known).items()
        }
        for name, loss in losses.items():
            self.log(f"train/{name}/loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        loss = torch.stack(list(losses.values())).sum()
        return loss + self.activity_weight * torch.stack(activities).sum() if activities else loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Metrics per branch and fused, and the loss with both classes counting alike."""
        del batch_idx
        logits = self._logits(batch)
        for name, probability in _p_af(logits).items():
            self.validation_metrics[name].update(probability, batch.target)
        losses = [F.cross_entropy(z, batch.target, reduction="none") for z in logits.values()]
        for label, mean in self.class_losses.items():
            mean.update(torch.stack(losses).sum(dim=0)[batch.target == int(label)])

    def on_validation_epoch_end(self) -> None:
        """Log the metrics; training is balanced, so the loss to select by is balanced as well."""
        for metrics in self.validation_metrics.values():
            self.log_dict(metrics.compute(), sync_dist=True)
            metrics.reset()
        losses = [mean.compute() for mean in self.class_losses.values()]
        loss = torch.stack(losses).nanmean()  # a class that did not occur has no mean
        for mean in self.class_losses.values():
            mean.reset()
        self.log("validation/loss", loss, prog_bar=True, sync_dist=True)

    def _logits(self, batch: Any) -> dict[str, Tensor]:
        return self.network(batch.signal)  # type: ignore[no-any-return]

    def collect(self, batch: Any) -> dict[str, Tensor]:
        """P(AF) per branch and fused, and the label."""
        return {**_p_af(self(batch.signal)), "target": batch.target}

    def report(self, collected: Mapping[str, NDArray[Any]], groups: NDArray[np.int64]) -> Report:
        """Classification metrics per branch and fused."""
        target = collected["target"]
        return {
            name: classification_report(p_af, target, groups)
            for name, p_af in collected.items()
            if name != "target"
        }


def _p_af(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    branches = {name: z.float().softmax(dim=-1)[:, 1] for name, z in logits.items()}
    return {**branches, FUSED: fuse(logits)[:, 1]}
