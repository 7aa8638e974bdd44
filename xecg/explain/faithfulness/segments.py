"""Windows in short segments: what is ranked, replaced and compared.

A single sample of an ECG carries next to nothing that its neighbours do not carry, and maps of
strided networks are ragged from sample to sample. Segments of 20 ms are shorter than any wave.
"""

import numpy as np
from numpy.typing import NDArray

from xecg.errors import ConfigError

SEGMENT_MS = 20.0


def samples_of(segment_ms: float, sampling_rate: float) -> int:
    """Length of a segment in whole samples, at least one.

    Raises:
        ConfigError: The length is not positive.
    """
    if not segment_ms > 0:
        raise ConfigError(f"expected segments longer than 0 ms, found {segment_ms:g}")
    return max(1, round(segment_ms * sampling_rate / 1000))


def segment_means(maps: NDArray[np.floating], length: int) -> NDArray[np.float64]:
    """Mean relevance of each segment.

    Args:
        maps: Relevance, ``(n, time)``.
        length: Of a segment, in samples; the last one may be shorter.

    Returns:
        ``(n, segments)``.
    """
    starts = np.arange(0, maps.shape[1], length)
    sums = np.add.reduceat(maps.astype(np.float64), starts, axis=1)
    means: NDArray[np.float64] = sums / np.diff(starts, append=maps.shape[1])
    return means


def relevance_ranks(relevance: NDArray[np.floating], seed: int) -> NDArray[np.int64]:
    """Rank of each segment within its window: 0 is the most relevant one.

    Segments of equal relevance stand in random order, or a map that is zero over long stretches
    would be ranked by time.

    Args:
        relevance: Of segments, ``(n, segments)``.
        seed: Of the order of ties.

    Returns:
        ``(n, segments)``, each row a permutation.
    """
    ties = np.random.default_rng(seed).random(relevance.shape)
    order = np.lexsort((ties, -relevance), axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    return ranks
