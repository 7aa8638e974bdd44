"""Augmentation of the batches of a run: drawn anew at every step, or once per window."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xecg.data.augmentation import Augmentation


@dataclass(frozen=True)
class BatchAugmentation:
    """Every draw is a function of the seed and of its place, so that a resumed run goes on alike.

    Args:
        augmentation: What is varied.
        sampling_rate: Of the windows, in Hz.
        seed: Of all draws.
    """

    augmentation: Augmentation
    sampling_rate: float
    seed: int

    def of_step(
        self, signals: Tensor, codes: Tensor | None, step: int, process: int
    ) -> tuple[Tensor, Tensor | None]:
        """A batch ``(batch, 1, time)`` and its labels per sample, varied for one step."""
        generator = _generator(self.seed, step, process)
        return self.augmentation(signals, codes, self.sampling_rate, generator)

    def of_windows(self, signals: Tensor, windows: Tensor) -> Tensor:
        """Windows ``(batch, 1, time)``, each varied as its position ``(batch,)`` says."""
        varied = [
            self.augmentation(signal[None], None, self.sampling_rate, _generator(self.seed, w))[0]
            for signal, w in zip(signals, windows.tolist(), strict=True)
        ]
        return torch.cat(varied)


def _generator(*where: int) -> torch.Generator:
    state = np.random.SeedSequence(where).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))
