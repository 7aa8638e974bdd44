"""What networks of several frozen depths say of the same windows, in numbers.

Each number is computed for each network and averaged over seeds. Its interval is of the cluster
bootstrap over persons (Davison and Hinkley 1997, section 3.8), with the same resamples for every
network, so that what they have in common (hard records) drops out of trends.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import factorial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import permutation_test, rankdata

from xecg.explain.relevance import (
    CLASSES,
    OWN_WAVE,
    WAVES,
    domain_specificity,
    enrichment_column,
)
from xecg.metrics.bootstrap import FloatArray, divide, group_weights, percentile_interval
from xecg.metrics.classification import ranked
from xecg.study.ladder import FUSED, SCRATCH, Ladder

METRICS = {"accuracy": "accuracy", "f1": "F1 (AF)", "auroc": "AUROC"}
SPECIFICITY = "domain specificity"
TRADED_CLASS = "non-AF"  # where there are P waves: its specificity is compared with the accuracy
KEY = ["measure", "part", "class", "wave"]
_FEWEST_DEPTHS = 3
_CHUNK = 64  # resamples for which every window has its weight in memory

Key = tuple[str, str, str, str]


class Measure(NamedTuple):
    """One number of each network.

    Args:
        values: As they are, then under each resample, ``(1 + resamples, c)``.
        windows: Number of windows that have a value, ``(c,)``.
        groups: Number of persons or records that they come from, ``(c,)``.
    """

    values: FloatArray
    windows: NDArray[np.int64]
    groups: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found on one test set.

    Args:
        ladder: Networks and windows.
        means: A row per measure, part, class, wave and depth: mean over seeds, interval, counts.
        networks: The same of each network: depth, seed, value.
        trends: A row per measure, part, class and wave: Spearman's rho with the depth.
        tradeoffs: A row per branch: rho over depths between its specificity and its accuracy.
    """

    ladder: Ladder
    means: pd.DataFrame
    networks: pd.DataFrame
    trends: pd.DataFrame
    tradeoffs: pd.DataFrame


def analyse(ladder: Ladder, resamples: int, permutations: int, seed: int) -> Analysis:
    """Returns means, intervals and trends of all measures.

    Args:
        ladder: Networks and windows.
        resamples: Number of resamples of the bootstrap.
        permutations: Number of permutations of a test that has more.
        seed: Random seed of both.
    """
    draws = _Draws(ladder, resamples, seed)
    found = dict(_measures(ladder, draws))
    means, networks, trends = [], [], []
    for key, measure in found.items():
        named = dict(zip(KEY, key, strict=True))
        means += [named | row for row in _means(measure, ladder)]
        values = ladder.cells[["depth", "seed"]].assign(**named, value=measure.values[0])
        networks.append(values)
        trends.append(named | _trend(measure, None, ladder, draws, permutations, seed))
    tradeoffs = [
        {"part": branch, "class": TRADED_CLASS}
        | _trend(
            found[SPECIFICITY, branch, TRADED_CLASS, ""],
            found["accuracy", branch, "", ""],
            ladder,
            draws,
            permutations,
            seed,
        )
        for branch in ladder.branches
        if (SPECIFICITY, branch, TRADED_CLASS, "") in found
    ]
    frames = [pd.DataFrame(rows) for rows in (means, trends, tradeoffs)]
    for frame in frames:
        frame.insert(0, "test_set", ladder.test_set)
    return Analysis(ladder, frames[0], pd.concat(networks), *frames[1:])


class _Draws:
    """How often each group and each seed counts: first as they are, then resampled.

    A single group leaves nothing to resample: what is computed of it is NaN.
    """

    def __init__(self, ladder: Ladder, resamples: int, seed: int) -> None:
        self.codes, names = pd.factorize(ladder.windows["group"], sort=True)
        of_groups, of_seeds = np.random.SeedSequence(seed).generate_state(2).tolist()
        self.groups = self._weights(len(names), resamples, of_groups)
        if len(names) < 2:
            self.groups[1:] = np.nan
        self.seeds = self._weights(len(ladder.seeds), resamples, of_seeds)

    @staticmethod
    def _weights(n: int, resamples: int, seed: int) -> FloatArray:
        drawn = group_weights(np.arange(n), resamples, seed)
        return np.concatenate([np.ones((1, n)), drawn])

    def per_group(self, values: ArrayLike) -> FloatArray:
        """Sum of ``(c, n)`` over the windows of each group, ``(c, groups)``; NaN counts nothing."""
        rows = np.nan_to_num(np.asarray(values, dtype=np.float64))
        return np.stack([np.bincount(self.codes, row, self.groups.shape[1]) for row in rows])

    def sums(self, values: ArrayLike) -> FloatArray:
        """Sum of ``(c, n)`` over windows, ``(1 + resamples, c)``."""
        sums: FloatArray = self.groups @ self.per_group(values).T
        return sums

    def auroc(self, p_af: FloatArray, af: NDArray[np.bool_]) -> FloatArray:
        """AUROC of each network ``(c, n)``, ``(1 + resamples, c)``."""
        areas = np.empty((len(self.groups), len(p_af)))
        for cell, row in enumerate(p_af):
            order = np.argsort(-row, kind="stable")
            curves = ranked(row[order], af[order].astype(np.float64))
            for start in range(0, len(areas), _CHUNK):
                weights = self.groups[start : start + _CHUNK, self.codes[order]]
                areas[start : start + _CHUNK, cell] = curves(weights)["auroc"]
        return areas


def _measures(ladder: Ladder, draws: _Draws) -> Iterator[tuple[Key, Measure]]:
    af, networks = ladder.af, len(ladder.cells)
    counts = np.full(networks, af.size), np.full(networks, draws.groups.shape[1])
    for part in (*ladder.branches, FUSED):
        called = ladder.p_af(part) > 0.5
        true, wrong = draws.sums(called & af), draws.sums(called ^ af)
        accuracy = 1 - divide(wrong, draws.sums(np.ones_like(called)))
        yield ("accuracy", part, "", ""), Measure(accuracy, *counts)
        yield ("f1", part, "", ""), Measure(divide(2 * true, 2 * true + wrong), *counts)
        yield ("auroc", part, "", ""), Measure(draws.auroc(ladder.p_af(part), af), *counts)
    for branch, (code, rhythm) in product(ladder.branches, enumerate(CLASSES)):
        chosen = ladder.right(branch) & (af == bool(code))
        found: dict[str, Measure] = {}
        for measure, wave, column in _statistics(ladder, branch):
            values = np.where(chosen, ladder.columns[column], np.nan)
            known = ~np.isnan(values)
            means = divide(draws.sums(values), draws.sums(known))
            groups = (draws.per_group(known) > 0).sum(axis=1)
            found[wave] = Measure(means, known.sum(axis=1), groups)
            yield (measure, branch, rhythm, wave), found[wave]
        if branch in OWN_WAVE and "P" in found:  # another branch has no wave of its own
            p, qrs = found["P"], found["QRS"]
            values = domain_specificity(p.values, qrs.values, branch)
            yield (SPECIFICITY, branch, rhythm, ""), p._replace(values=values)


def _statistics(ladder: Ladder, branch: str) -> list[tuple[str, str, str]]:
    """Measure, wave and column of each relevance statistic of a branch, enrichments first."""
    waves = {f"{branch}_{enrichment_column(wave)}": wave for wave in WAVES}
    found = [("enrichment", wave, column) for column, wave in waves.items()]
    others = [name for name in ladder.columns if name.startswith(f"{branch}_")]
    found += [(name.removeprefix(f"{branch}_"), "", name) for name in others if name not in waves]
    return [row for row in found if row[2] in ladder.columns]


def _over_seeds(
    values: FloatArray, ladder: Ladder, depths: list[int], seed_weights: FloatArray | None = None
) -> FloatArray:
    """Mean of ``(r, c)`` over seeds, ``(r, depths)``; seeds count by ``(r, seeds)``, or once."""
    cells = ladder.cells
    at_depth = (cells["depth"].to_numpy()[:, None] == np.array(depths)).astype(np.float64)
    weights = (~np.isnan(values)).astype(np.float64)
    if seed_weights is not None:
        weights *= seed_weights[:, np.searchsorted(ladder.seeds, cells["seed"])]
    return divide((np.nan_to_num(values) * weights) @ at_depth, weights @ at_depth)


def _means(measure: Measure, ladder: Ladder) -> Iterator[dict[str, Any]]:
    """A row per depth, from scratch first."""
    means = _over_seeds(measure.values, ladder, ladder.depths)
    for depth, column in zip(ladder.depths, means.T, strict=True):
        cells = ladder.cells["depth"].to_numpy() == depth
        values = pd.Series(measure.values[0, cells])
        low, high = percentile_interval(column[1:], 0.95)
        yield {
            "depth": depth,
            "value": column[0],
            "low": low,
            "high": high,
            "seeds": values.size,
            "seed_sd": values.std(),
            "fewest_windows": measure.windows[cells].min(),
            "most_windows": measure.windows[cells].max(),
            "fewest_groups": measure.groups[cells].min(),
        }


def _trend(
    measure: Measure,
    other: Measure | None,
    ladder: Ladder,
    draws: _Draws,
    permutations: int,
    seed: int,
) -> dict[str, Any]:
    """Spearman's rho over rungs between means over seeds and the depth, or another measure.

    In its interval persons or records and, independently, seeds are resampled. Its p is that of
    the two-sided permutation test of the means.
    """
    rungs = [depth for depth in ladder.depths if depth != SCRATCH]
    compared = [measure] if other is None else [measure, other]
    known = [np.isfinite(_over_seeds(m.values[:1], ladder, rungs)[0]) for m in compared]
    rungs = np.array(rungs)[np.all(known, axis=0)].tolist()
    y, *xs = [_over_seeds(m.values, ladder, rungs, draws.seeds) for m in compared]
    x = xs[0] if xs else np.tile(np.array(rungs, dtype=np.float64), (len(y), 1))
    enough = len(rungs) >= _FEWEST_DEPTHS
    rho = _rho(x, y) if enough else np.full(len(y), np.nan)
    low, high = percentile_interval(rho[1:], 0.95)
    row = {"rho": rho[0], "low": low, "high": high, "p": np.nan, "permutations": 0, "exact": False}
    if not np.isnan(rho[0]):
        test = permutation_test(
            (y[0],),
            lambda shuffled, axis: np.abs(_rho(x[0], shuffled)),  # noqa: ARG005
            permutation_type="pairings",
            alternative="greater",
            vectorized=True,
            n_resamples=permutations,
            random_state=np.random.default_rng(seed),
        )
        n = factorial(len(rungs))
        row |= {"p": test.pvalue, "permutations": min(n, permutations), "exact": n <= permutations}
    of_seeds = [_rho_of_seed(measure, other, ladder, one, rungs) for one in ladder.seeds]
    seed_rhos = [one for one in of_seeds if not np.isnan(one)]
    lowest = min(seed_rhos, default=np.nan)
    row |= {"depths": len(rungs), "lowest_seed_rho": lowest}
    return row | {"seed_rhos": seed_rhos, "rungs": rungs}


def _rho_of_seed(
    measure: Measure, other: Measure | None, ladder: Ladder, seed: int, rungs: list[int]
) -> float:
    """Rho of one seed's networks alone."""
    depths = ladder.cells["depth"].to_numpy()
    x = depths.astype(np.float64) if other is None else other.values[0]
    chosen = (ladder.cells["seed"].to_numpy() == seed) & np.isin(depths, rungs)
    chosen &= ~np.isnan(x + measure.values[0])
    if chosen.sum() < _FEWEST_DEPTHS:
        return float("nan")
    return float(_rho(x[chosen], measure.values[0, chosen]))


def _rho(x: FloatArray, y: FloatArray) -> FloatArray:
    """Spearman's rho along the last axis; NaN where a row is constant or holds a NaN."""
    ranks: list[FloatArray] = [rankdata(values, axis=-1) for values in (x, y)]
    a, b = (rank - rank.mean(axis=-1, keepdims=True) for rank in ranks)
    return divide((a * b).sum(axis=-1), np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1)))
