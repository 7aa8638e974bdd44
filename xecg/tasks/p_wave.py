"""Pre-training of the morphology branch: where are the P waves?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from xecg.errors import ConfigError
from xecg.metrics.p_waves import WaveDetection, wave_report
from xecg.networks.penalties import RelevanceGuidance
from xecg.networks.xecgarch import PositiveStepHead, PWaveNetwork
from xecg.signal.waves import NOT_ANNOTATED
from xecg.tasks.base import Report, Task


class PWaveDetection(Task):
    """P-wave probability per sample; the loss counts only annotated samples.

    Args:
        channels: Width of the branch.
        dropout: Share of features that each block drops in training.
        sampling_rate: Sampling rate of plain loaders in Hz; a data module has its own.
        guidance: Loss that keeps the evidence for P waves in the P waves; its head has positive
            weights. Null is the task of Zannini et al.
        options: ``pretrained``, ``optimizer`` and ``lr_scheduler`` of :class:`Task`.
    """

    network: PWaveNetwork

    def __init__(
        self,
        channels: int = 32,
        dropout: float = 0.0,
        sampling_rate: float | None = None,
        guidance: RelevanceGuidance | None = None,
        **options: Any,
    ) -> None:
        super().__init__(PWaveNetwork(channels, dropout, guidance is not None), **options)
        self.guidance, self.sampling_rate = guidance, sampling_rate

    def setup(self, stage: str) -> None:
        """Takes the sampling rate of the data.

        Raises ConfigError if nothing says the sampling rate, or the data has another one.
        """
        super().setup(stage)
        found = getattr(self._data, "sampling_rate", self.sampling_rate)
        if found is None or self.sampling_rate not in (None, found):
            problem = f"sampling_rate {self.sampling_rate}: the data has {found or 'none'}"
            remedy = "leave it out for a data module, and give it for plain loaders"
            raise ConfigError(f"{problem}; {remedy}")
        self.sampling_rate = float(found)
        self.validation_metrics = WaveDetection(self.sampling_rate)

    def loss(self, batch: Any) -> Tensor:
        """Returns cross-entropy over the annotated samples, and the guidance of relevance."""
        branch, head = self.branches["morphology"], self.network.head
        activations = branch.activations(batch.signal)
        loss = self._loss(head(activations[-1], batch.signal.shape[-1]), batch.target)
        if self.guidance is None or self.guidance.weight == 0:
            return loss
        assert isinstance(head, PositiveStepHead)
        assert self.sampling_rate is not None
        waves = (batch.target != NOT_ANNOTATED) & (batch.target > 0)
        evidence = head.evidence(activations[-1])
        outside = self.guidance.outside(branch, activations, evidence, waves, self.sampling_rate)
        self.log_part("relevance_outside", outside)
        return loss + self.guidance.weight * outside

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Adds the waves found and missed in a batch, and its cross-entropy."""
        logits = self(batch.signal)
        annotated = (batch.target != NOT_ANNOTATED).sum()
        self.log_loss(self._loss(logits, batch.target), int(annotated))
        self.validation_metrics.update(logits.float().sigmoid(), batch.target)

    def on_validation_epoch_end(self) -> None:
        """Logs F1 per sample and the errors per wave."""
        self.log_validation(self.validation_metrics)

    def collect(self, batch: Any) -> dict[str, Tensor]:
        """Returns the counts of each window, ``(batch, counts)``."""
        probability = self(batch.signal).float().sigmoid()
        counts = self.validation_metrics.counts(probability, batch.target)
        return {"counts": torch.from_numpy(counts).to(self.device)}

    def report(self, collected: Mapping[str, NDArray[Any]], groups: NDArray[np.int64]) -> Report:
        """Returns sensitivity, PPV and F1 per wave, and errors of onset and offset."""
        return {"morphology": wave_report(collected["counts"], groups, self.validation_metrics)}

    @staticmethod
    def _loss(logits: Tensor, target: Tensor) -> Tensor:
        annotated = target != NOT_ANNOTATED
        wave = (annotated & (target > 0)).float()
        losses = F.binary_cross_entropy_with_logits(logits.float(), wave, reduction="none")
        return (losses * annotated).sum() / annotated.sum().clamp_min(1)
