"""Detection of P waves: as a metric over batches, and as a report with intervals over persons."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric

from xecg.bootstrap import Interval, check_rows, intervals
from xecg.metrics.wave_counts import Counts, WaveCounting

_CHUNK = 1024  # windows compared at once, for memory


class WaveDetection(Metric):
    """Waves found, missed and invented, over all batches and processes.

    ``compute`` returns a dictionary; :meth:`WaveCounting.measures` lists and
    ``xecg.metrics.wave_counts`` defines its measures.

    Args:
        counting: How waves are made of probabilities and compared with the reference.
    """

    full_state_update = False
    totals: Tensor

    def __init__(self, counting: WaveCounting) -> None:
        super().__init__()
        self.counting = counting
        # Whole numbers: sums over processes are exact in any order, on every device.
        zeros = torch.zeros(len(counting.keys), dtype=torch.int64)
        self.add_state("totals", zeros, dist_reduce_fx="sum")

    def update(self, probability: Tensor, codes: Tensor) -> None:
        """Add a batch.

        Args:
            probability: Of the wave at each sample, ``(batch, time)``, in [0, 1].
            codes: Reference wave of each sample, uint8 ``(batch, time)``, or ``NOT_ANNOTATED``.

        Raises:
            DataError: The shapes differ or a value is no probability.
        """
        counts = self.counting.count(
            probability.detach().float().cpu().numpy(), codes.detach().cpu().numpy()
        )
        sums = torch.tensor([int(counts[key].sum()) for key in self.counting.keys])
        self.totals += sums.to(self.totals.device)

    def compute(self) -> dict[str, Tensor]:
        """Measures of all windows; NaN where undefined."""
        totals = self.totals.cpu().numpy().astype(float)
        measures = self.counting.measures(dict(zip(self.counting.keys, totals, strict=True)))
        return {
            name: torch.tensor(float(value), dtype=torch.float32, device=self.device)
            for name, value in measures.items()
        }


def wave_report(
    probability: NDArray[np.float32],
    codes: NDArray[np.uint8],
    groups: ArrayLike,
    counting: WaveCounting,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """The measures of :class:`WaveDetection` with intervals over persons.

    Args:
        probability: Of the wave at each sample, ``(windows, time)``, in [0, 1].
        codes: Reference wave of each sample, uint8 ``(windows, time)``, or ``NOT_ANNOTATED``.
        groups: Person (or record) of each window, ``(windows,)``.
        counting: How waves are made of probabilities and compared with the reference.
        n_resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        An interval per measure; ``n`` counts windows.

    Raises:
        DataError: The shapes differ, a value is no probability, or there is no window.
    """
    counts = _count_in_chunks(counting, probability, codes)
    check_rows(groups=np.asarray(groups), **counts)
    table = np.stack([counts[key] for key in counting.keys], axis=1).astype(float)

    def measures(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return counting.measures(dict(zip(counting.keys, (weights @ table).T, strict=True)))

    return intervals(measures, groups, n_resamples=n_resamples, seed=seed)


def _count_in_chunks(
    counting: WaveCounting, probability: NDArray[np.float32], codes: NDArray[np.uint8]
) -> Counts:
    starts = range(0, max(len(codes), len(probability), 1), _CHUNK)
    chunks = [
        counting.count(probability[start : start + _CHUNK], codes[start : start + _CHUNK])
        for start in starts
    ]
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in counting.keys}
