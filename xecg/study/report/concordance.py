"""AUROC under group weights, from the pairs that groups form."""

import numpy as np
from numpy.typing import NDArray

from xecg.metrics.bootstrap import FloatArray, divide

Labels = NDArray[np.integer]


def auroc(
    score: FloatArray, positive: Labels, codes: NDArray[np.intp], weights: FloatArray
) -> FloatArray:
    """Area under the ROC curve when every group counts as often as its weight says.

    The area is the share of pairs (a positive, a negative) that the score ranks rightly, ties
    half (Hanley and McNeil 1982). A pair counts as often as the product of its groups' weights,
    so that the pairs need to be ranked only once, however many resamples there are.

    Args:
        score: ``(n,)``, higher for positives.
        positive: 1 or 0, ``(n,)``.
        codes: Number of each row's group, ``(n,)``.
        weights: ``(r, groups)``.

    Returns:
        ``(r,)``; NaN where there is no positive or no negative.
    """
    of_positives = _grouped(score[positive == 1], codes[positive == 1])
    of_negatives = _grouped(score[positive == 0], codes[positive == 0])
    if not of_positives or not of_negatives:
        return np.full(len(weights), np.nan)
    w_positives = weights[:, list(of_positives)]
    w_negatives = weights[:, list(of_negatives)]
    pairs = _ranked_pairs(list(of_positives.values()), list(of_negatives.values()))
    concordant = ((w_positives @ pairs) * w_negatives).sum(axis=1)
    n_positives = w_positives @ [float(rows.size) for rows in of_positives.values()]
    n_negatives = w_negatives @ [float(rows.size) for rows in of_negatives.values()]
    return divide(concordant, n_positives * n_negatives)


def _grouped(score: FloatArray, codes: NDArray[np.intp]) -> dict[int, FloatArray]:
    """Sorted scores of each group."""
    order = np.lexsort((score, codes))
    groups, starts = np.unique(codes[order], return_index=True)
    return dict(zip(groups.tolist(), np.split(score[order], starts[1:]), strict=False))


def _ranked_pairs(positives: list[FloatArray], negatives: list[FloatArray]) -> FloatArray:
    """Rightly ranked pairs of each positive with each negative group."""
    scores = np.concatenate(positives)
    starts = np.cumsum([0, *(group.size for group in positives[:-1])])
    pairs = np.empty((len(positives), len(negatives)))
    for column, group in enumerate(negatives):
        below = np.searchsorted(group, scores, "left") + np.searchsorted(group, scores, "right")
        pairs[:, column] = np.add.reduceat(below / 2, starts)
    return pairs
