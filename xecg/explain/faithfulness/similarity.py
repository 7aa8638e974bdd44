"""How alike two maps of the same window are."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

FloatArray = NDArray[np.float64]

SIMILARITIES = ("spearman", "pearson")


def correlations(a: FloatArray, b: FloatArray) -> dict[str, FloatArray]:
    """Correlation of each row of ``a`` with the same row of ``b``.

    Args:
        a: Relevance of segments, ``(n, segments)``.
        b: The same of other maps.

    Returns:
        Spearman's (ranks) and Pearson's (values) coefficients by name, ``(n,)``; NaN where a row
        is constant, as a map without any relevance is.
    """
    return {
        "spearman": _pearson(rankdata(a, axis=1), rankdata(b, axis=1)),
        "pearson": _pearson(a, b),
    }


def _pearson(a: FloatArray, b: FloatArray) -> FloatArray:
    a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (a, b))
    covariance = np.einsum("ij,ij->i", a, b)
    scale = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    coefficient: FloatArray = np.divide(
        covariance, scale, out=np.full(len(a), np.nan), where=scale > 0
    )
    return coefficient
