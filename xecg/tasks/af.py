"""AF against non-AF, per branch and fused."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import MeanMetric

from xecg.errors import check_ranges
from xecg.metrics.classification import (
    af_metrics,
    calibrate,
    classification_report,
    operating_points,
)
from xecg.networks.penalties import mean_activity
from xecg.networks.xecgarch import FUSED, N_CLASSES, PooledHead, XECGArch, probabilities
from xecg.tasks.base import Report, Task


class AFClassifier(Task):
    """Fine-tuning of the two-branch network on AF against non-AF.

    The loss is the sum of the branches' cross-entropies: since they share nothing, each trains as
    if alone. Zannini et al., Sci Rep 2026; Goettling et al., Sci Rep 2024.
    Raises ConfigError if a branch does not exist or a number is out of its range, WeightsError if
    weights do not fit.

    Args:
        branches: Names of the network's branches, or class paths of tuples of ``BlockSpec``.
        channels: Width of the branches; that of the pre-trained weights.
        dropout: Share of features that each block drops in training.
        label_smoothing: Share of the target probability that goes to the other class.
        activity_weight: Weight of the features' mean activity in the loss; the rarer they are
            active, the sharper the maps. See :func:`xecg.networks.penalties.mean_activity`.
        prevalence: Share of AF for which :meth:`calibrate` makes the probabilities.
        options: ``pretrained``, ``optimizer`` and ``lr_scheduler`` of :class:`Task`.
    """

    network: XECGArch

    def __init__(
        self,
        branches: tuple[str, ...] = ("morphology", "rhythm"),
        channels: int = 32,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        activity_weight: float = 0.0,
        prevalence: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(XECGArch.build(branches, channels, dropout), **options)
        check_ranges(
            label_smoothing=(label_smoothing, 0, 1),
            activity_weight=(activity_weight, 0),
            prevalence=(prevalence, 1e-6, 1 - 1e-6),
        )
        self.label_smoothing, self.activity_weight = label_smoothing, activity_weight
        self.prevalence = prevalence
        self.operating_points: dict[str, dict[str, float]] = {}
        self.validation_metrics: Any = nn.ModuleDict(
            {name: af_metrics(prefix=f"{name}/") for name in (*self.branches, FUSED)}
        )
        self.class_losses: Any = nn.ModuleList(MeanMetric() for _ in range(N_CLASSES))

    def loss(self, batch: Any) -> Tensor:
        """Returns the sum over branches of cross-entropy and activity; logs the former."""
        losses = []
        for name, branch in self.branches.items():
            features = branch.activations(batch.signal)[1:]
            logits = self.network.heads[name](features[-1])
            loss = F.cross_entropy(logits, batch.target, label_smoothing=self.label_smoothing)
            self.log_part(f"{name}/loss", loss)
            if self.activity_weight:
                loss = loss + self.activity_weight * mean_activity(features)
            losses.append(loss)
        return torch.stack(losses).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Adds a batch to the metrics, and to the mean loss of each class."""
        logits = self(batch.signal)
        for name, probability in probabilities(logits).items():
            self.validation_metrics[name].update(probability, batch.target)
        losses = [F.cross_entropy(z, batch.target, reduction="none") for z in logits.values()]
        for label, mean in enumerate(self.class_losses):
            mean.update(torch.stack(losses).sum(dim=0)[batch.target == label])

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics; the loss is balanced, since training is."""
        losses = torch.stack([mean.compute() for mean in self.class_losses])
        for mean in self.class_losses:
            mean.reset()
        self.log_validation(*self.validation_metrics.values())
        self.log_loss(losses.nanmean(), 1)  # a class that did not occur has no mean

    @torch.inference_mode()
    def calibrate(self, batches: Iterable[Any]) -> None:
        """Scales and shifts the heads so that probabilities are those at ``prevalence`` of AF.

        See :func:`xecg.metrics.classification.calibrate`. A branch's decision may change, its
        features and the shape of its maps do not. Sets ``operating_points``, at which a test
        reports too.
        """
        self.eval()
        parts = [(self(batch.signal.to(self.device)), batch.target) for batch in batches]
        labels = torch.cat([target for _, target in parts]).numpy()
        logits = {name: torch.cat([z[name] for z, _ in parts]).cpu() for name in self.branches}
        margins = {name: z.double().diff(dim=1)[:, 0].numpy() for name, z in logits.items()}
        for name, (slope, intercept) in calibrate(margins, labels, self.prevalence).items():
            cast(PooledHead, self.network.heads[name]).rescale(slope, intercept)
            shift = logits[name].new_tensor([-intercept / 2, intercept / 2])
            logits[name] = slope * logits[name] + shift  # what the head says now
        p_af = probabilities(logits)[FUSED].double().numpy()
        self.operating_points = operating_points(p_af, labels)

    def collect(self, batch: Any) -> dict[str, Tensor]:
        """Returns P(AF) per branch and fused, and the label."""
        return {**probabilities(self(batch.signal)), "target": batch.target}

    def report(self, collected: Mapping[str, NDArray[Any]], groups: NDArray[np.int64]) -> Report:
        """Returns classification metrics per branch and fused, and at each operating point."""
        thresholds = {name: (name, 0.5) for name in collected if name != "target"}
        for name, point in self.operating_points.items():
            thresholds[f"{FUSED}, {name}"] = FUSED, point["threshold"]
        target = collected["target"]
        return {
            part: classification_report(collected[name], target, groups, threshold=threshold)
            for part, (name, threshold) in thresholds.items()
        }
