"""Trends over the ladder of frozen depths; training from scratch is no rung of it."""

from dataclasses import dataclass

import numpy as np

from xecg.metrics.bootstrap import FloatArray, percentile_interval
from xecg.study.report.ladder import Ladder
from xecg.study.report.measures import Measure, means_over_seeds
from xecg.study.report.permutation import PermutationTest, permutation_test
from xecg.study.report.rank_correlation import spearman
from xecg.study.report.resamples import Resamples
from xecg.study.report.settings import CONFIDENCE, ReportSettings

BAR = 0.9
"""Rho that a trend has to reach, with its interval above 0, to count as monotone."""

_FEWEST_DEPTHS = 3


@dataclass(frozen=True)
class Trend:
    """Spearman's rho over depths between means over seeds and frozen depth, or another measure.

    Args:
        rho: Of the means as they are; NaN with fewer than three depths.
        low: Lower end of the 95 % interval: groups and seeds resampled, both paired over depths.
        high: Upper end.
        test: The measure's numbers permuted over depths within seeds.
        depths: Depths that entered: those at which some seed has a number.
        by_seed: Rho of each seed alone.
    """

    rho: float
    low: float
    high: float
    test: PermutationTest
    depths: tuple[int, ...]
    by_seed: dict[int, float]

    @property
    def reaches_bar(self) -> bool:
        """Whether rho is at least 0.9 with its interval above 0."""
        return self.rho >= BAR and self.low > 0


def trend(
    measure: Measure,
    ladder: Ladder,
    resamples: Resamples,
    settings: ReportSettings,
    other: Measure | None = None,
) -> Trend:
    """The trend of a measure over depth, or with another measure over depths.

    Args:
        measure: Whose trend.
        ladder: The cells.
        resamples: Those of which both measures are.
        settings: Number of permutations, seed.
        other: What to compare with; None: the depth.
    """
    measures = [measure] if other is None else [measure, other]
    rungs = _rungs(measures, ladder)
    networks = _networks(measure, ladder, rungs)
    depths = np.array(rungs, dtype=np.float64)
    x_networks = np.tile(depths, (len(networks), 1))
    x = depths[None]
    if other is not None:
        x = means_over_seeds(other.values, ladder, rungs, resamples.seeds)
        x_networks = _networks(other, ladder, rungs)
    rho, test = np.full(2, np.nan), PermutationTest(float("nan"), 0, False)
    if len(rungs) >= _FEWEST_DEPTHS:
        rho = spearman(x, means_over_seeds(measure.values, ladder, rungs, resamples.seeds))
        test = permutation_test(networks, x[0], settings.permutations, settings.seed)
    low, high = percentile_interval(rho[1:], CONFIDENCE)
    by_seed = map(_rho_of_network, x_networks, networks)
    per_seed = dict(zip(ladder.seeds, by_seed, strict=True))
    return Trend(float(rho[0]), low, high, test, tuple(rungs), per_seed)


def _rungs(measures: list[Measure], ladder: Ladder) -> list[int]:
    """Depths at which each measure has a number."""
    means = [means_over_seeds(m.values[:1], ladder, ladder.rungs)[0] for m in measures]
    known = np.isfinite(np.stack(means)).all(axis=0)
    return [depth for depth, kept in zip(ladder.rungs, known, strict=True) if kept]


def _networks(measure: Measure, ladder: Ladder, rungs: list[int]) -> FloatArray:
    """The numbers of single networks, ``(seeds, depths)``; NaN where there is none."""
    values = np.full((len(ladder.seeds), len(rungs)), np.nan)
    for cell, value in zip(ladder.cells, measure.observed, strict=True):
        if cell.depth in rungs:
            values[ladder.seeds.index(cell.seed), rungs.index(cell.depth)] = value
    return values


def _rho_of_network(x: FloatArray, y: FloatArray) -> float:
    known = ~(np.isnan(x) | np.isnan(y))
    if known.sum() < _FEWEST_DEPTHS:
        return float("nan")
    return float(spearman(x[known], y[known]))
