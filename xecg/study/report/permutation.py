"""Whether a trend over depths is more than chance: depths permuted within each seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from math import factorial, prod

import numpy as np

from xecg.metrics.bootstrap import FloatArray, divide
from xecg.study.report.rank_correlation import spearman

_MOST_EXACT = 50_000
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PermutationTest:
    """Result of a permutation test.

    Args:
        p: Two-sided p value; NaN where the statistic is undefined.
        n: Permutations that were looked at.
        exact: Whether these were all there are; else they were drawn at random.
    """

    p: float
    n: int
    exact: bool


def permutation_test(
    values: FloatArray, x: FloatArray, n_permutations: int, seed: int
) -> PermutationTest:
    """Test Spearman's rho between depth and the mean over seeds.

    Under the null hypothesis depth does not matter, so within a seed any assignment of its
    networks to its depths is as likely. The statistic is the absolute rho of the means over
    seeds. Where there are at most 50,000 assignments all are looked at; else a sample is drawn
    and the observed one counts as one more, ``p = (1 + b) / (1 + n)`` (Phipson and Smyth 2010,
    doi 10.2202/1544-6115.1585).

    Args:
        values: ``(seeds, depths)``; NaN where a seed has no network at a depth.
        x: What the means are compared with, the depths themselves, ``(depths,)``.
        n_permutations: How many to draw, where there are too many for all.
        seed: Of the draws.
    """
    observed = abs(spearman(x, _means(values)))
    if np.isnan(observed):
        return PermutationTest(float("nan"), 0, False)
    known = [np.flatnonzero(~np.isnan(row)) for row in values]
    n_all = prod(factorial(places.size) for places in known)
    exact = n_all <= _MOST_EXACT
    shuffled = _all(values) if exact else _drawn(values, n_permutations, seed)
    rho = np.abs(spearman(x, _means(shuffled)))
    extreme = int((rho >= observed - _ROUNDING).sum())
    if exact:
        return PermutationTest(extreme / n_all, n_all, True)
    return PermutationTest((1 + extreme) / (1 + n_permutations), n_permutations, False)


def _means(values: FloatArray) -> FloatArray:
    """Mean of ``(..., seeds, depths)`` over the seeds that have a value."""
    known = ~np.isnan(values)
    return divide(np.nan_to_num(values).sum(axis=-2), known.sum(axis=-2) * 1.0)


def _all(values: FloatArray) -> FloatArray:
    """Every assignment, ``(n, seeds, depths)``."""
    return np.array([np.stack(rows) for rows in product(*(list(_orders(r)) for r in values))])


def _orders(row: FloatArray) -> Iterator[FloatArray]:
    places = np.flatnonzero(~np.isnan(row))
    for order in permutations(places):
        shuffled = row.copy()
        shuffled[places] = row[list(order)]
        yield shuffled


def _drawn(values: FloatArray, n: int, seed: int) -> FloatArray:
    """Random assignments, ``(n, seeds, depths)``."""
    generator = np.random.default_rng(seed)
    shuffled = np.repeat(values[None], n, axis=0)
    for number, row in enumerate(values):
        places = np.flatnonzero(~np.isnan(row))
        shuffled[:, number, places] = generator.permuted(
            shuffled[:, number, places].reshape(n, places.size), axis=1
        )
    return shuffled
