"""Means over windows with intervals over persons or records, as rows of tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xecg.explain.faithfulness.perturbation import MEASURES, ORDERS, PerturbationCurves
from xecg.explain.relevance import CLASSES
from xecg.metrics.bootstrap import FloatArray, divide, intervals

Row = dict[str, Any]

ALL = "all"


def mean_rows(values: FloatArray, groups: NDArray[Any], seed: int) -> list[Row]:
    """Mean of each column with its 95 % interval; NaN values are left out.

    Args:
        values: ``(n, columns)``.
        groups: What to resample: person or record of each window, ``(n,)``.
        seed: Of the bootstrap.

    Returns:
        For each column ``value``, ``low``, ``high``, and the ``windows`` and ``groups`` that have
        a value.
    """
    names, codes = np.unique(groups, return_inverse=True)
    present = ~np.isnan(values)
    counts = np.zeros((len(names), values.shape[1]))
    sums = np.zeros_like(counts)
    np.add.at(counts, codes, present)
    np.add.at(sums, codes, np.where(present, values, 0.0))

    def means(weights: FloatArray) -> dict[str, FloatArray]:
        columns = divide(weights @ sums, weights @ counts).T
        return {str(number): column for number, column in enumerate(columns)}

    found = intervals(means, np.arange(len(names)), seed=seed)
    return [
        {
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
            "windows": int(count.sum()),
            "groups": int(np.count_nonzero(count)),
        }
        for interval, count in zip(found.values(), counts.T, strict=True)
    ]


def by_class(classes: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """All windows, then those of each explained class that has any: name and row numbers."""
    yield ALL, np.arange(len(classes))
    for code, name in enumerate(CLASSES):
        if (rows := np.flatnonzero(classes == code)).size:
            yield name, rows


def curve_rows(
    curves: PerturbationCurves, classes: NDArray[np.int64], groups: NDArray[np.str_], seed: int
) -> Iterator[Row]:
    """Mean change of the explained class's output: by class, order, measure and share."""
    for predicted, rows in by_class(classes):
        for order in ORDERS:
            for measure in MEASURES:
                change = curves.change(order, measure)[rows]
                means = mean_rows(change, groups[rows], seed)
                for share, mean in zip(curves.shares.tolist(), means, strict=True):
                    key = {"predicted": predicted, "order": order, "measure": measure}
                    yield {**key, "share": share, **mean}


def area_rows(
    curves: PerturbationCurves,
    classes: NDArray[np.int64],
    groups: NDArray[np.str_],
    empty: NDArray[np.bool_],
    seed: int,
) -> Iterator[Row]:
    """Mean area between the curves: by class and measure, with the number of empty maps.

    An empty map, all zero, ranks in random order; it counts, since a method that has nothing to
    say about a decision has not explained it.
    """
    for row, rows in _mean_areas(_areas(curves), classes, groups, seed):
        yield {**row, "empty_maps": int(empty[rows].sum())}


def gain_rows(
    curves: PerturbationCurves,
    reference: PerturbationCurves,
    classes: NDArray[np.int64],
    groups: NDArray[np.str_],
    seed: int,
) -> Iterator[Row]:
    """Mean difference to the area of another map of the same windows: by class and measure."""
    difference = _areas(curves) - _areas(reference)
    for row, _ in _mean_areas(difference, classes, groups, seed):
        yield row


def similarity_rows(
    similarities: Mapping[str, FloatArray], groups: NDArray[Any], seed: int
) -> Iterator[Row]:
    """Mean of each coefficient."""
    values = np.stack(list(similarities.values()), axis=1)
    for coefficient, mean in zip(similarities, mean_rows(values, groups, seed), strict=True):
        yield {"coefficient": coefficient, **mean}


def columns_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Rows with the same keys, as columns."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def _areas(curves: PerturbationCurves) -> FloatArray:
    """Area of each window by each of ``MEASURES``, ``(n, 2)``."""
    return np.stack([curves.area(measure) for measure in MEASURES], axis=1)


def _mean_areas(
    areas: FloatArray, classes: NDArray[np.int64], groups: NDArray[np.str_], seed: int
) -> Iterator[tuple[Row, NDArray[np.intp]]]:
    """Rows of a table, each with the numbers of its windows."""
    for predicted, rows in by_class(classes):
        means = mean_rows(areas[rows], groups[rows], seed)
        for measure, mean in zip(MEASURES, means, strict=True):
            yield {"predicted": predicted, "measure": measure, **mean}, rows
