"""Confidence intervals by resampling whole persons (or records), never single windows.

Windows of one person resemble each other: resampled windows would give too narrow intervals. The
cluster bootstrap (Davison and Hinkley 1997, section 3.8) draws groups with replacement; every row
counts as often as its group was drawn. A statistic is a function of the rows' weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, rankdata

from xecg.errors import DataError, check_ranges

FloatArray = NDArray[np.float64]
Statistics = Callable[[FloatArray], Mapping[str, FloatArray]]
Rows = NDArray[np.bool_]

_CONFIDENCE = 0.95
_CHUNK = 2**17  # weights held at once; larger chunks leave the cache and are slower


@dataclass(frozen=True)
class Interval:
    """A statistic of the data as they are, and its interval."""

    value: float
    low: float  # NaN, as is ``high``, where fewer than two groups leave nothing to resample
    high: float
    n: int  # rows (windows) that the statistic is over
    n_groups: int  # persons or records that these rows come from

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def group_weights(groups: ArrayLike, n_resamples: int, seed: int) -> NDArray[np.int32]:
    """Draws how often each row counts, ``(n_resamples, n)``, for their groups ``(n,)``."""
    codes, n_groups = _group_codes(groups)
    return _drawn(n_groups, n_resamples, seed)[:, codes].astype(np.int32)


def intervals(
    statistics: Statistics,
    groups: ArrayLike,
    *,
    over: Mapping[str, Sequence[Rows]] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Returns 95 % intervals of several statistics of the same rows, by the same resamples.

    ``statistics`` maps row weights ``(r, n)`` (whole numbers as floats) to named statistics
    ``(r,)``; a resample of which one is NaN is left out of its interval. ``groups`` holds person or
    record of each row, ``(n,)``. ``over`` gives, by its name, the rows ``(n,)`` that a share is
    over, such as those with AF for the sensitivity; of several sets the one of the fewest groups
    counts the trials. A statistic that it does not name is over all rows, and no share.

    Where a share is 0 or 1 in all resamples, they say nothing about its other end; there the
    interval is Wilson's (1927) for as many trials as there are groups. Raises DataError if there is
    no row, ConfigError if there is no resample.
    """
    check_ranges(n_resamples=(n_resamples, 1))
    codes, n_groups = _group_codes(groups)
    observed = statistics(np.ones((1, codes.size)))
    if n_groups < 2:
        resampled = {name: np.full(1, np.nan) for name in observed}
    else:
        drawn, step = _drawn(n_groups, n_resamples, seed), max(1, _CHUNK // codes.size)
        parts = [drawn[start : start + step] for start in range(0, n_resamples, step)]
        chunks = [statistics(np.take(part, codes, axis=1)) for part in parts]
        resampled = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in observed}
    result = {}
    for name, values in observed.items():
        value, (low, high) = float(values[0]), percentile_interval(resampled[name])
        sets = (over or {}).get(name, ())
        rows = np.logical_or.reduce(sets) if sets else np.ones(codes.size, dtype=bool)
        trials = min((np.unique(codes[one]).size for one in sets), default=0)
        if trials and low == high == value and value in (0, 1):
            found = binomtest(int(value) * trials, trials).proportion_ci(_CONFIDENCE, "wilson")
            low, high = float(found.low), float(found.high)
        result[name] = Interval(value, low, high, int(rows.sum()), np.unique(codes[rows]).size)
    return result


def mean(values: ArrayLike, groups: ArrayLike) -> Interval:
    """Returns the mean of values ``(n,)``, such as a share of 0 and 1, over groups ``(n,)``."""
    numbers = np.asarray(values, dtype=np.float64)

    def statistics(weights: FloatArray) -> dict[str, FloatArray]:
        return {"mean": divide(weights @ numbers, weights.sum(axis=1))}

    return intervals(statistics, groups, over={"mean": [np.ones(numbers.size, bool)]})["mean"]


def means(table: pd.DataFrame, groups: ArrayLike, seed: int = 0) -> pd.DataFrame:
    """Returns the mean of each column without NaN: a row a column, the fields of an Interval."""
    values = table.to_numpy(np.float64)
    known = ~np.isnan(values)

    def statistics(weights: FloatArray) -> dict[Any, FloatArray]:
        sums = weights @ np.nan_to_num(values), weights @ known.astype(np.float64)
        return dict(zip(table, divide(*sums).T, strict=True))

    over: Any = dict(zip(table, ([column] for column in known.T), strict=True))
    found = intervals(statistics, groups, over=over, seed=seed)
    return pd.DataFrame([vars(one) for one in found.values()], index=table.columns)


def divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divides, with NaN (undefined) where the denominator is zero."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


def percentile_interval(values: FloatArray, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Returns both ends of resampled values ``(r,)``, NaN left out; NaN where there is none."""
    defined, tail = values[~np.isnan(values)], (1 - confidence) / 2
    if defined.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def with_interval(row: Any, digits: int = 3, name: str = "value") -> str:
    """Returns a number of a row with its interval as text; a dash where there is none."""
    value, low, high = row[name], row["low"], row["high"]
    interval = "" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return "-" if np.isnan(value) else f"{value:.{digits}f}{interval}"


def with_intervals(
    table: pd.DataFrame, rows: str | list[str], column: str, *, counts: bool = False
) -> pd.DataFrame:
    """Returns values with their intervals as text, in rows and columns by columns of a table."""
    count = " ({n} of {n_groups})" if counts else ""
    texts = [
        with_interval(one) + count.format(n=one.get("n"), n_groups=one.get("n_groups"))
        for one in table.to_dict("records")
    ]
    wide = table.assign(text=texts).pivot_table("text", rows, column, "first", sort=False)
    return wide.fillna("")


def row_correlation(x: FloatArray, y: FloatArray) -> FloatArray:
    """Returns Spearman's rho along the last axis of ``(..., n)``; NaN if undefined."""
    ranks = rankdata(x, axis=-1), rankdata(y, axis=-1)
    a, b = (rank - rank.mean(axis=-1, keepdims=True) for rank in ranks)
    return divide((a * b).sum(axis=-1), np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1)))


def rank_correlation(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Returns Spearman's rho of ``(n,)`` under each row of weights ``(r, n)``; NaN if undefined."""
    if not x.size:
        return np.full(len(weights), np.nan)
    total, centred = weights.sum(axis=1, keepdims=True), []
    for values in (x, y):
        _, starts, codes = np.unique(np.sort(values), return_index=True, return_inverse=True)
        order = np.argsort(values, kind="stable")
        sums = np.add.reduceat(weights[:, order], starts, axis=1)
        ranks = np.empty_like(weights)
        ranks[:, order] = (sums.cumsum(axis=1) - sums / 2)[:, codes]  # ties share their middle
        centred.append(ranks - divide((weights * ranks).sum(axis=1, keepdims=True), total))
    a, b = centred
    xy, xx, yy = ((weights * one * other).sum(axis=1) for one, other in ((a, b), (a, a), (b, b)))
    return divide(xy, np.sqrt(xx * yy))


def _group_codes(groups: ArrayLike) -> tuple[NDArray[np.intp], int]:
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    if codes.size == 0:
        raise DataError("expected at least one row to resample; found none")
    return codes.reshape(-1), names.size


def _drawn(n_groups: int, n_resamples: int, seed: int) -> FloatArray:
    """How often each group was drawn, ``(n_resamples, n_groups)``; whole numbers for BLAS."""
    drawn = np.random.default_rng(seed).integers(n_groups, size=(n_resamples, n_groups))
    drawn += np.arange(n_resamples)[:, None] * n_groups  # one count for all resamples
    counts = np.bincount(drawn.ravel(), minlength=n_resamples * n_groups)
    return counts.reshape(n_resamples, n_groups).astype(float)
