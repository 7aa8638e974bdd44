"""The measures behind the relevance statistics, each a function of arrays."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xecg.errors import ConfigError
from xecg.signal.waves import NOT_ANNOTATED, OTHER, QRS, P, T

FloatArray = NDArray[np.float64]

WAVES = ("P", "QRS", "ST-T", "other")
WAVE_CODES = (P, QRS, T, OTHER)  # in the order of WAVES
POINTING_TOLERANCE_MS = 50.0  # the half-width of the QRS window


def wave_sums(
    maps: NDArray[np.floating], codes: Iterable[NDArray[np.uint8]]
) -> tuple[FloatArray, FloatArray]:
    """Add up the relevance and the samples of each wave.

    Args:
        maps: Relevance, ``(n, time)``.
        codes: Wave codes ``(time,)`` of one map after the other.

    Returns:
        Relevance and number of samples in the order of ``WAVES``, both ``(n, 4)``.
    """
    sums = np.empty((len(maps), len(WAVES)))
    samples = np.empty_like(sums)
    columns = list(WAVE_CODES)
    for row, window in enumerate(codes):
        sums[row] = np.bincount(window, maps[row], minlength=NOT_ANNOTATED + 1)[columns]
        samples[row] = np.bincount(window, minlength=NOT_ANNOTATED + 1)[columns]
    return sums, samples


def gini(values: ArrayLike) -> FloatArray:
    """Gini coefficient of each row of ``(n, time)``; NaN where a row sums to nothing.

    0 for values that are all equal, towards 1 for a single value that is not zero (Hurley and
    Rickard 2009, doi 10.1109/TIT.2009.2027527).
    """
    rows = np.sort(np.asarray(values), axis=1)
    time = rows.shape[1]
    ranks = np.arange(1, time + 1, dtype=np.float64)
    total = rows.sum(axis=1, dtype=np.float64)
    weighted = np.einsum("ij,j->i", rows, ranks)  # casts in small pieces, a matmul all at once
    coefficients: FloatArray = ratio(2 * weighted, time * total) - (time + 1) / time
    return coefficients


def pointing_at_r_peaks(
    maps: NDArray[np.floating], peaks: Sequence[NDArray[np.int64]], sampling_rate: float
) -> tuple[FloatArray, FloatArray]:
    """Pointing game (Zhang et al. 2018, doi 10.1007/s11263-017-1059-x) played on R peaks.

    Args:
        maps: Relevance, ``(n, time)``.
        peaks: R peaks of each map, in samples.
        sampling_rate: In Hz.

    Returns:
        1 where the largest relevance lies within ``POINTING_TOLERANCE_MS`` of an R peak and 0
        elsewhere, ``(n,)``; and the share of the samples that do, which is chance, ``(n,)``.
    """
    tolerance = int(POINTING_TOLERANCE_MS * sampling_rate / 1000)
    reach = np.arange(-tolerance, tolerance + 1)
    pointing, chance = np.zeros(len(maps)), np.zeros(len(maps))
    near = np.empty(maps.shape[1], dtype=np.bool_)
    for row, top in enumerate(maps.argmax(axis=1)):
        near[:] = False
        near[np.clip(peaks[row][:, None] + reach, 0, near.size - 1)] = True
        pointing[row], chance[row] = near[top], near.mean()
    return pointing, chance


def conservation(maps: NDArray[np.floating], logits: ArrayLike) -> FloatArray:
    """Sum of each map / the logit that it explains, ``(n,)``; NaN where that is not positive."""
    return ratio(maps.sum(axis=1, dtype=np.float64), np.asarray(logits, dtype=np.float64))


def domain_specificity(
    enrichment_p: ArrayLike, enrichment_qrs: ArrayLike, branch: str
) -> FloatArray:
    """Say in one number whether a branch looks at the wave of its own domain.

    ``log2(own / other)``: of the morphology branch the P wave over the QRS complex, of the rhythm
    branch the QRS complex over the P wave. 0 is no preference, 1 twice the other's enrichment.
    Give it mean enrichments: in a single window one of the two may be zero.

    Args:
        enrichment_p: Enrichment of the P wave, any shape.
        enrichment_qrs: Enrichment of the QRS complex, the same shape.
        branch: ``"morphology"`` or ``"rhythm"``.

    Returns:
        The number, of the same shape; NaN where an enrichment is not positive.

    Raises:
        ConfigError: Another branch, which has no wave of its own.
    """
    if branch not in ("morphology", "rhythm"):
        raise ConfigError(f"Expected the branch 'morphology' or 'rhythm', found {branch!r}.")
    p = np.asarray(enrichment_p, dtype=np.float64)
    qrs = np.asarray(enrichment_qrs, dtype=np.float64)
    own, other = (p, qrs) if branch == "morphology" else (qrs, p)
    preference = ratio(own, other)
    specificity: FloatArray = np.log2(
        preference, out=np.full(preference.shape, np.nan), where=preference > 0
    )
    return specificity


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, with NaN where the denominator is not positive."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
