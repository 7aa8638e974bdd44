"""Pre-training of the morphology branch: where are the P waves?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW
from torchmetrics import MeanMetric

from xecg.metrics.p_waves import WaveCounting, WaveDetection, wave_report
from xecg.networks.branch import Branch
from xecg.networks.penalties import RelevanceGuidance
from xecg.networks.pretraining import PWaveNetwork
from xecg.signal.waves import NOT_ANNOTATED
from xecg.tasks.base import Report, Task


class PWaveDetection(Task):
    """P-wave probability per sample; the loss counts only where the annotator worked.

    Args:
        morphology_weights: Weights to start from: a file, the name of released weights, or null.
        channels: Width of the branch.
        dropout: Share of features that each block drops in training.
        sampling_rate: Of the windows, in Hz.
        guidance: Keeps the evidence for P waves in the P waves; null for none.
        optimizer: Made of all parameters; AdamW (Loshchilov and Hutter 2019) by default.
        lr_scheduler: Stepped once an epoch.
    """

    network: PWaveNetwork

    def __init__(
        self,
        morphology_weights: str | None = None,
        channels: int = 32,
        dropout: float = 0.0,
        sampling_rate: float = 250.0,
        guidance: RelevanceGuidance | None = RelevanceGuidance(),  # noqa: B008 (frozen)
        optimizer: OptimizerCallable = AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        network = PWaveNetwork(channels, dropout)
        super().__init__(network, {"morphology": morphology_weights}, optimizer, lr_scheduler)
        self.sampling_rate = sampling_rate
        self.guidance = guidance
        self.validation_metrics = WaveDetection(WaveCounting(sampling_rate))
        self.validation_loss = MeanMetric()

    def loss(self, batch: Any) -> Tensor:
        """Cross-entropy over the annotated samples, and the guidance of relevance."""
        branch = self.branches["morphology"]
        assert isinstance(branch, Branch)
        activations = branch.activations(batch.signal)
        logits = self.network.head(activations[-1], batch.signal.shape[-1])
        loss = self._loss(logits, batch.target)
        if self.guidance is None or self.guidance.weight == 0:
            return loss
        waves = (batch.target != NOT_ANNOTATED) & (batch.target > 0)
        evidence = self.network.head.evidence(activations[-1])
        outside = self.guidance.outside(branch, activations, evidence, waves, self.sampling_rate)
        self.log("train/relevance_outside", outside, on_step=False, on_epoch=True, sync_dist=True)
        return loss + self.guidance.weight * outside

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Waves found and missed."""
        del batch_idx
        logits = self(batch.signal)
        annotated = (batch.target != NOT_ANNOTATED).sum()
        self.validation_loss.update(self._loss(logits, batch.target), annotated)
        self.validation_metrics.update(logits.float().sigmoid(), batch.target)

    def on_validation_epoch_end(self) -> None:
        """Log loss, F1 per sample and the errors per wave."""
        found = self.validation_metrics.compute().items()
        self.log_dict({f"validation/{key}": value for key, value in found}, sync_dist=True)
        self.log("validation/loss", self.validation_loss.compute(), prog_bar=True, sync_dist=True)
        self.validation_metrics.reset()
        self.validation_loss.reset()

    def collect(self, batch: Any) -> dict[str, Tensor]:
        """P-wave probability and labels per sample, ``(batch, time)``."""
        return {"p_wave": self(batch.signal).float().sigmoid(), "target": batch.target}

    def report(self, collected: Mapping[str, NDArray[Any]], groups: NDArray[np.int64]) -> Report:
        """Sensitivity, PPV and F1 per wave, and errors of onset and offset."""
        counting = self.validation_metrics.counting
        waves = wave_report(collected["p_wave"], collected["target"], groups, counting)
        return {"morphology": waves}

    @staticmethod
    def _loss(logits: Tensor, target: Tensor) -> Tensor:
        annotated = target != NOT_ANNOTATED
        losses = F.binary_cross_entropy_with_logits(
            logits.float(), (annotated & (target > 0)).float(), reduction="none"
        )
        return (losses * annotated).sum() / annotated.sum().clamp_min(1)
