"""Whether networks that differ only in their seed give the same window the same map."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from xecg.errors import ConfigError
from xecg.explain.faithfulness.similarity import SIMILARITIES, FloatArray, correlations


def pairwise_agreement(
    relevance: Sequence[FloatArray], classes: Sequence[NDArray[np.int64]]
) -> dict[str, FloatArray]:
    """Mean correlation over all pairs of networks, of each window.

    Networks that predict different classes explain different decisions; such a pair is left out
    for that window.

    Args:
        relevance: Of segments, ``(n, segments)``, by each network.
        classes: What each network predicts, ``(n,)``.

    Returns:
        By coefficient, ``(n,)``; NaN where no pair has the same class and two maps that are not
        constant.

    Raises:
        ConfigError: There are fewer than two networks.
    """
    if len(relevance) < 2:
        raise ConfigError(f"agreement needs at least two networks, found {len(relevance)}")
    pairs: dict[str, list[FloatArray]] = {name: [] for name in SIMILARITIES}
    for first, second in combinations(range(len(relevance)), 2):
        same_class = classes[first] == classes[second]
        for name, values in correlations(relevance[first], relevance[second]).items():
            pairs[name].append(np.where(same_class, values, np.nan))
    return {name: _mean(np.stack(values)) for name, values in pairs.items()}


def _mean(values: FloatArray) -> FloatArray:
    """Mean over the rows of ``(pairs, n)`` that have a value; NaN where none has."""
    present = ~np.isnan(values)
    counts = present.sum(axis=0)
    sums = np.where(present, values, 0.0).sum(axis=0)
    mean: FloatArray = np.divide(
        sums, counts, out=np.full(values.shape[1], np.nan), where=counts > 0
    )
    return mean
