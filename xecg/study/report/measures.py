"""One number of each cell, with what becomes of it under the resamples; means over seeds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xecg.metrics.bootstrap import FloatArray, divide, percentile_interval
from xecg.study.report.ladder import Ladder
from xecg.study.report.settings import CONFIDENCE


@dataclass(frozen=True, eq=False)
class Measure:
    """One number of each of ``c`` cells.

    Args:
        name: ``"accuracy"``, ``"enrichment"``, ...
        part: The branch, or ``"fused"``.
        rhythm: Class of the windows, ``"non-AF"`` or ``"AF"``; empty for all windows.
        wave: Of an enrichment; else empty.
        values: As they are, then under each resample, ``(1 + resamples, c)``.
        windows: Windows that have a value, ``(c,)``.
        groups: Persons or records that they come from, ``(c,)``.
    """

    name: str
    part: str
    rhythm: str
    wave: str
    values: FloatArray
    windows: NDArray[np.int64]
    groups: NDArray[np.int64]

    @property
    def observed(self) -> FloatArray:
        """The numbers of the data as they are, ``(c,)``."""
        first: FloatArray = self.values[0]
        return first


@dataclass(frozen=True)
class DepthMean:
    """A measure at one depth: mean over seeds, with the interval over persons or records.

    Args:
        depth: Frozen blocks, or ``SCRATCH``.
        value: Mean over the seeds' networks.
        low: Lower end of the 95 % interval; the networks are as they are.
        high: Upper end.
        by_seed: What the mean is of.
        windows: Fewest and most windows that entered a network's number.
        groups: Fewest persons or records that they come from.
    """

    depth: int
    value: float
    low: float
    high: float
    by_seed: dict[int, float]
    windows: tuple[int, int]
    groups: int

    @property
    def seed_sd(self) -> float:
        """Standard deviation over seeds; NaN with a single one."""
        known = [value for value in self.by_seed.values() if not np.isnan(value)]
        return float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")


def means_over_seeds(
    values: FloatArray,
    ladder: Ladder,
    depths: list[int],
    seed_weights: FloatArray | None = None,
) -> FloatArray:
    """Mean of cells over seeds, for each depth.

    Args:
        values: ``(r, c)``; NaN where a network has no number.
        ladder: Whose cells they are.
        depths: The depths wanted, ``d`` of them.
        seed_weights: How often each seed counts, ``(r, seeds)``; None: once.

    Returns:
        ``(r, d)``; NaN where no seed has a number.
    """
    at_depth = (ladder.cell_depths[:, None] == np.array(depths)).astype(float)
    weights = ~np.isnan(values) * 1.0
    if seed_weights is not None:
        weights *= seed_weights[:, np.searchsorted(ladder.seeds, ladder.cell_seeds)]
    return divide((np.nan_to_num(values) * weights) @ at_depth, weights @ at_depth)


def depth_means(measure: Measure, ladder: Ladder) -> list[DepthMean]:
    """A measure at each depth that the ladder has, from scratch first, then rising."""
    means = means_over_seeds(measure.values, ladder, ladder.depths)
    results = []
    for depth, column in zip(ladder.depths, means.T, strict=True):
        cells = np.flatnonzero(ladder.cell_depths == depth).tolist()
        low, high = percentile_interval(column[1:], CONFIDENCE)
        windows = measure.windows[cells]
        results.append(
            DepthMean(
                depth=depth,
                value=float(column[0]),
                low=low,
                high=high,
                by_seed={ladder.cells[c].seed: float(measure.observed[c]) for c in cells},
                windows=(int(windows.min()), int(windows.max())),
                groups=int(measure.groups[cells].min()),
            )
        )
    return results
