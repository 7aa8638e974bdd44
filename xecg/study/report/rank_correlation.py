"""Spearman's rank correlation of many short rows at once."""

import numpy as np
from numpy.typing import ArrayLike

from xecg.metrics.bootstrap import FloatArray, divide


def average_ranks(values: ArrayLike) -> FloatArray:
    """Ranks along the last axis, from 1; equal values share the mean of their ranks.

    Compares all pairs, which suits rows of a few values such as depths.

    Args:
        values: ``(..., k)``.

    Returns:
        ``(..., k)``; all NaN where a row holds a NaN.
    """
    row = np.asarray(values, dtype=np.float64)
    ahead = (row[..., :, None] > row[..., None, :]).sum(axis=-1)
    level = (row[..., :, None] == row[..., None, :]).sum(axis=-1)
    ranks = ahead + (level + 1) / 2
    return np.where(np.isnan(row).any(axis=-1, keepdims=True), np.nan, ranks)


def spearman(x: ArrayLike, y: ArrayLike) -> FloatArray:
    """Spearman's rho: Pearson's correlation of the average ranks (Spearman 1904).

    Args:
        x: ``(..., k)``.
        y: ``(..., k)``; the two are broadcast.

    Returns:
        ``(...)``; NaN where a row holds a NaN or is constant.
    """
    ranks_x, ranks_y = average_ranks(x), average_ranks(y)
    ranks_x = ranks_x - ranks_x.mean(axis=-1, keepdims=True)
    ranks_y = ranks_y - ranks_y.mean(axis=-1, keepdims=True)
    spread = np.sqrt((ranks_x**2).sum(axis=-1) * (ranks_y**2).sum(axis=-1))
    return divide((ranks_x * ranks_y).sum(axis=-1), spread)
