"""One-to-one matching of detections with a reference, within a tolerance."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

IntArray = NDArray[np.int64]


def match(
    windows: IntArray,
    points: IntArray,
    other_windows: IntArray,
    other_points: IntArray,
    tolerance: float,
) -> tuple[IntArray, IntArray]:
    """As many pairs as possible and, among those, the pairs with the smallest summed error.

    A pair is of one window, with every point (onset, offset, or both) within the tolerance, and
    each side is in one pair at most. The result does not depend on which side is the reference.
    Where several partners compete, the assignment problem is solved exactly (Kuhn 1955).

    Args:
        windows: Window of each wave, ``(n,)``, rising.
        points: Samples to compare, ``(n, k)``; the first rises within a window.
        other_windows: As ``windows``, of the other side, ``(m,)``.
        other_points: As ``points``, of the other side, ``(m, k)``.
        tolerance: Largest distance of a point to its partner, in samples.

    Returns:
        Rows of the pairs on one side and on the other, in the order of the first.
    """
    one, other = _candidates(windows, points, other_windows, other_points, tolerance)
    contested = (np.bincount(one)[one] > 1) | (np.bincount(other)[other] > 1)
    error = np.abs(points[one] - other_points[other]).sum(axis=1)
    kept = ~contested
    disputes = np.flatnonzero(contested)
    for of_window in np.split(disputes, 1 + np.flatnonzero(np.diff(windows[one[disputes]]))):
        kept[of_window[_assign(one[of_window], other[of_window], error[of_window])]] = True
    return one[kept], other[kept]


def _candidates(
    windows: IntArray,
    points: IntArray,
    other_windows: IntArray,
    other_points: IntArray,
    tolerance: float,
) -> tuple[IntArray, IntArray]:
    """Rows of all pairs within the tolerance, by binary search in one time line of all windows."""
    tolerance = int(tolerance)  # of whole samples
    last = max(points.max(initial=0), other_points.max(initial=0))
    line = windows * (last + tolerance + 1) + points[:, 0]
    other_line = other_windows * (last + tolerance + 1) + other_points[:, 0]
    low = np.searchsorted(other_line, line - tolerance, side="left")
    n = np.searchsorted(other_line, line + tolerance, side="right") - low
    one = np.repeat(np.arange(len(points)), n)
    other = np.arange(n.sum()) + np.repeat(low - np.cumsum(n) + n, n)
    near = (np.abs(points[one] - other_points[other]) <= tolerance).all(axis=1)
    return one[near], other[near]


def _assign(one: IntArray, other: IntArray, error: IntArray) -> IntArray:
    """Positions of the pairs that are kept."""
    rows, row = np.unique(one, return_inverse=True)
    columns, column = np.unique(other, return_inverse=True)
    no_pair = 1 + int(error.sum())  # dearer than all pairs together
    cost = np.full((len(rows), len(columns)), no_pair)
    pair = np.full(cost.shape, -1)
    cost[row, column] = error
    pair[row, column] = np.arange(len(error))
    chosen: IntArray = pair[linear_sum_assignment(cost)]
    return chosen[chosen >= 0]
