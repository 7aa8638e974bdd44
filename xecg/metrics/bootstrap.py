"""Confidence intervals by resampling whole persons (or records), never single windows.

Windows of one person resemble each other, so resampling windows would give intervals that are too
narrow. The cluster bootstrap (Davison and Hinkley 1997, section 3.8) draws groups with
replacement; every row counts as often as its group was drawn. A statistic is therefore written as
a function of row weights and is evaluated for many resamples at once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xecg.errors import ConfigError, DataError

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]
Statistics = Callable[[FloatArray], Mapping[str, FloatArray]]

_CHUNK_BYTES = 2**20  # weights held at once; larger chunks leave the cache and are slower


@dataclass(frozen=True)
class Interval:
    """A statistic and its percentile interval.

    Args:
        value: The statistic of the data as they are.
        low: Lower end; NaN where fewer than two groups leave nothing to resample.
        high: Upper end; NaN as ``low``.
        n: Rows that entered the statistic.
        n_groups: Groups (persons or records) that these rows come from.
    """

    value: float
    low: float
    high: float
    n: int
    n_groups: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def group_weights(groups: ArrayLike, n_resamples: int, seed: int) -> NDArray[np.int32]:
    """Draw how often each row counts when its group is drawn with replacement.

    Args:
        groups: Person or record of each row, ``(n,)``, of any sortable type.
        n_resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        Weights ``(n_resamples, n)``; rows of one group share their weight.

    Raises:
        DataError: There is no row.
        ConfigError: ``n_resamples`` is not positive.
    """
    codes, n_groups = _group_codes(groups)
    _check_resampling(n_resamples)
    counts = _group_counts(n_groups, n_resamples, np.random.default_rng(seed))
    return np.take(counts, codes, axis=1)


def interval(
    statistic: Statistic,
    groups: ArrayLike,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Interval of one statistic; see :func:`intervals`."""

    def named(weights: FloatArray) -> dict[str, FloatArray]:
        return {"value": statistic(weights)}

    return intervals(named, groups, n_resamples=n_resamples, seed=seed, confidence=confidence)[
        "value"
    ]


def intervals(
    statistics: Statistics,
    groups: ArrayLike,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Percentile intervals of several statistics of the same rows from the same resamples.

    Args:
        statistics: Maps row weights ``(r, n)`` (whole numbers as floats) to named statistics
            ``(r,)``. NaN marks a resample for which a statistic is undefined (a resample without
            a positive has no sensitivity); the interval is that of the others.
        groups: Person or record of each row, ``(n,)``.
        n_resamples: Number of resamples.
        seed: Seed of the draws; the result does not depend on how the draws are cut into chunks.
        confidence: Coverage of the interval, between 0 and 1.

    Returns:
        An interval for each name.

    Raises:
        DataError: There is no row.
        ConfigError: ``n_resamples`` is not positive or ``confidence`` not between 0 and 1.
    """
    codes, n_groups = _group_codes(groups)
    _check_resampling(n_resamples, confidence)
    observed = statistics(np.ones((1, codes.size)))
    if n_groups < 2:
        resampled = {name: np.full(1, np.nan) for name in observed}
    else:
        chunks = [statistics(weights) for weights in _chunks(codes, n_groups, n_resamples, seed)]
        resampled = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in observed}
    result = {}
    for name, value in observed.items():
        low, high = percentile_interval(resampled[name], confidence)
        result[name] = Interval(float(value[0]), low, high, codes.size, n_groups)
    return result


def ratio_interval(
    numerator: ArrayLike,
    denominator: ArrayLike,
    groups: ArrayLike,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Interval of ``sum(numerator) / sum(denominator)``, such as an F1 from counts per window.

    Sums are taken per group first, so the cost grows with the groups, not with the rows.

    Args:
        numerator: ``(n,)``.
        denominator: ``(n,)``.
        groups: Person or record of each row, ``(n,)``.
        n_resamples: Number of resamples.
        seed: Seed of the draws.
        confidence: Coverage of the interval, between 0 and 1.

    Returns:
        The interval; ``n`` counts rows.

    Raises:
        DataError: The lengths differ, or there is no row.
    """
    upper, lower = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    check_rows(groups=np.asarray(groups), numerator=upper, denominator=lower)
    codes, n_groups = _group_codes(groups)
    above, below = (np.bincount(codes, values, n_groups) for values in (upper, lower))
    found = interval(
        lambda weights: divide(weights @ above, weights @ below),
        np.arange(n_groups),
        n_resamples=n_resamples,
        seed=seed,
        confidence=confidence,
    )
    return Interval(found.value, found.low, found.high, codes.size, n_groups)


def mean_interval(
    values: ArrayLike,
    groups: ArrayLike,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Interval of the mean over rows; NaN values are left out and not counted in ``n``.

    Args:
        values: ``(n,)``.
        groups: Person or record of each row, ``(n,)``.
        n_resamples: Number of resamples.
        seed: Seed of the draws.
        confidence: Coverage of the interval, between 0 and 1.

    Returns:
        The interval; ``n`` and ``n_groups`` count what had a value.

    Raises:
        DataError: The lengths differ, or there is no value that is not NaN.
    """
    numbers, names = np.asarray(values, dtype=float), np.asarray(groups)
    check_rows(groups=names, values=numbers)
    present = ~np.isnan(numbers)
    return ratio_interval(
        numbers[present],
        np.ones(int(present.sum())),
        names[present],
        n_resamples=n_resamples,
        seed=seed,
        confidence=confidence,
    )


def check_rows(**columns: NDArray[Any]) -> None:
    """Check that columns are one-dimensional and equally long.

    Raises:
        DataError: They are not; names the columns.
    """
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise DataError(f"Expected one value per row in every column; found shapes {listed}.")


def divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, with NaN (undefined) where the denominator is zero."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


def _group_codes(groups: ArrayLike) -> tuple[NDArray[np.intp], int]:
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    if codes.size == 0:
        raise DataError("Expected at least one row to resample, found none.")
    return codes.reshape(-1), names.size


def _check_resampling(n_resamples: int, confidence: float = 0.95) -> None:
    if n_resamples < 1:
        raise ConfigError(f"n_resamples must be at least 1, found {n_resamples}.")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1, found {confidence}.")


def _group_counts(n_groups: int, n: int, generator: np.random.Generator) -> NDArray[np.int32]:
    """How often each group was drawn, ``(n, n_groups)``."""
    drawn = generator.integers(n_groups, size=(n, n_groups))
    drawn += np.arange(n)[:, None] * n_groups  # one count for all resamples
    counts = np.bincount(drawn.ravel(), minlength=n * n_groups)
    return counts.reshape(n, n_groups).astype(np.int32)


def _chunks(
    codes: NDArray[np.intp], n_groups: int, n_resamples: int, seed: int
) -> Iterator[FloatArray]:
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK_BYTES // (8 * codes.size))
    for start in range(0, n_resamples, step):
        counts = _group_counts(n_groups, min(step, n_resamples - start), generator)
        # Floats, because NumPy multiplies whole numbers without BLAS.
        yield np.take(counts.astype(float), codes, axis=1)


def percentile_interval(values: FloatArray, confidence: float) -> tuple[float, float]:
    """Lower and upper end of what resamples gave, ``(r,)``; NaN values are left out.

    Returns:
        Both ends; NaN where no resample has a value.
    """
    defined = values[~np.isnan(values)]
    if defined.size == 0:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
