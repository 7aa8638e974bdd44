"""Numbers of cells under resampled persons or records: one draw serves all cells and measures.

The cluster bootstrap of :mod:`xecg.metrics.bootstrap`, paired: each resample draws the same groups
for every cell, so that what the cells have in common (hard records) drops out of differences and
correlations between them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xecg.metrics.bootstrap import FloatArray, divide, group_weights
from xecg.study.report.ladder import Ladder


@dataclass(frozen=True, eq=False)
class Resamples:
    """How often each group and each seed counts: first as they are, then resampled.

    Args:
        codes: Number of the group of each window, ``(n,)``.
        groups: ``(1 + resamples, groups)``, the first row all ones; the others are NaN where a
            single group leaves nothing to resample.
        seeds: ``(1 + resamples, seeds)``, the first row all ones; seeds are drawn alike, and with
            a single seed it counts once in each resample.
    """

    codes: NDArray[np.intp]
    groups: FloatArray
    seeds: FloatArray

    @classmethod
    def draw(cls, ladder: Ladder, n_resamples: int, seed: int) -> "Resamples":
        """Draw groups and, independently, seeds."""
        of_groups, of_seeds = np.random.SeedSequence(seed).generate_state(2).tolist()
        groups = _weights(ladder.n_groups, n_resamples, of_groups)
        if ladder.n_groups < 2:
            groups[1:] = np.nan
        return cls(ladder.group_codes, groups, _weights(len(ladder.seeds), n_resamples, of_seeds))

    def sums(self, values: FloatArray) -> FloatArray:
        """Sum of ``(cells, n)`` over windows, ``(1 + resamples, cells)``; NaN counts nothing."""
        per_group = self.per_group(values)
        sums: FloatArray = self.groups @ per_group.T
        return sums

    def means(self, values: FloatArray) -> FloatArray:
        """Mean of ``(cells, n)`` over the windows that have a value, ``(1 + resamples, cells)``."""
        return divide(self.sums(values), self.sums(~np.isnan(values)))

    def per_group(self, values: FloatArray | NDArray[np.bool_]) -> FloatArray:
        """Sum of ``(cells, n)`` over the windows of each group, ``(cells, groups)``."""
        known = np.where(np.isnan(values), 0.0, values)
        n_groups = self.groups.shape[1]
        return np.stack([np.bincount(self.codes, row, n_groups) for row in known])


def _weights(n: int, n_resamples: int, seed: int) -> FloatArray:
    drawn = group_weights(np.arange(n), n_resamples, seed)
    return np.concatenate([np.ones((1, n)), drawn])
