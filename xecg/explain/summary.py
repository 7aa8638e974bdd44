"""Relevance statistics summed up over windows: by class and by correctness, with intervals.

Values are means over windows, so that every window counts alike; intervals resample whole persons
or records. Where there is one window per record, a mean is the mean over records.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xecg.bootstrap import FloatArray, Interval, divide, intervals
from xecg.errors import DataError
from xecg.explain.wave_measures import WAVES, domain_specificity
from xecg.explain.wave_relevance import RelevanceStatistics
from xecg.markdown import markdown_table

CLASSES = ("non-AF", "AF")
BRANCHES = ("morphology", "rhythm")

_SPECIFICITY = "domain specificity"
_OF_WAVES = ("share", "mean", "enrichment")
_SCALARS = ("pointing", "pointing_chance", "gini", "conservation")


@dataclass(frozen=True)
class SummaryRow:
    """One mean over the windows of one class and one kind of prediction.

    Args:
        branch: Name of the branch.
        rhythm: ``"non-AF"`` or ``"AF"``.
        prediction: ``"right"``, ``"wrong"``, or ``"all"`` where correctness was not given.
        measure: A field of :class:`RelevanceStatistics`, or ``"domain specificity"``, which is
            computed from the mean enrichments.
        wave: One of ``WAVES``; empty where the measure is not one of a wave.
        value: The mean; NaN where no window has a value.
        low: Lower end of its interval.
        high: Upper end.
        n_windows: Windows that have a value.
        n_groups: Persons or records that they come from.
    """

    branch: str
    rhythm: str
    prediction: str
    measure: str
    wave: str
    value: float
    low: float
    high: float
    n_windows: int
    n_groups: int


def wave_title(wave: str, rhythm: str) -> str:
    """Title of a wave's column: in AF there is no P wave, only the place where it would be."""
    return "where P would be" if wave == "P" and rhythm == "AF" else wave


def summarize(
    statistics: RelevanceStatistics,
    classes: ArrayLike,
    correct: ArrayLike | None,
    groups: ArrayLike,
    *,
    branch: str,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[SummaryRow]:
    """Sum up the maps of one branch.

    Args:
        statistics: Of ``n`` maps.
        classes: Class of each window, ``(n,)``: 0 non-AF, 1 AF. The true one where it is known,
            since it says whether there is a P wave; negative leaves the window out.
        correct: Whether the branch's prediction was right, ``(n,)``; None: not known.
        groups: Person or record of each window, ``(n,)``.
        branch: Name of the branch.
        n_resamples: Resamples of the bootstrap.
        seed: Seed of the bootstrap.
        confidence: Coverage of the intervals.

    Returns:
        Rows by class, then right before wrong, then measure; a class or kind of prediction
        without a measured window has none.

    Raises:
        DataError: The lengths disagree, or there is another class.
    """
    rhythm = _column(classes, "classes", len(statistics))
    if (unknown := rhythm >= len(CLASSES)).any():
        raise DataError(f"Expected classes 0, 1 or negative, found {rhythm[unknown][0]}.")
    names = _column(groups, "groups", len(statistics))
    measures = _measures(statistics)
    rows: list[SummaryRow] = []
    for code, title in enumerate(CLASSES):
        for prediction, kind in _predictions(correct, len(statistics)):
            chosen = np.flatnonzero(statistics.valid & (rhythm == code) & kind)
            if not chosen.size:
                continue
            values = np.stack([column[chosen] for column in measures.values()], axis=1)
            means = _Means(list(measures), values, names[chosen], branch)
            found = intervals(
                means, means.groups, n_resamples=n_resamples, seed=seed, confidence=confidence
            )
            rows += means.rows(found, title, prediction)
    return rows


def summary_table(rows: Sequence[SummaryRow]) -> str:
    """Enrichments as a Markdown table, a line for each branch, class and kind of prediction."""
    head = ["branch", "class", "prediction", "windows", "groups", *WAVES, _SPECIFICITY]
    head[head.index("P")] = f"P (AF: {wave_title('P', 'AF')})"
    lines = [head]
    for key in dict.fromkeys((row.branch, row.rhythm, row.prediction) for row in rows):
        cells = {
            row.wave or row.measure: row
            for row in rows
            if (row.branch, row.rhythm, row.prediction) == key
            and row.measure in ("enrichment", _SPECIFICITY)
        }
        counts = [str(cells["other"].n_windows), str(cells["other"].n_groups)]
        shown = [_cell(cells.get(name)) for name in (*WAVES, _SPECIFICITY)]
        lines.append([*key, *counts, *shown])
    return markdown_table(lines)


class _Means:
    """Means over windows as a function of group weights, for the bootstrap.

    Sums are taken per group first: a resample then costs as much as there are groups.
    """

    def __init__(
        self,
        keys: list[tuple[str, str]],
        values: FloatArray,
        names: NDArray[Any],
        branch: str,
    ) -> None:
        self.keys, self.branch = keys, branch
        unique, codes = np.unique(names, return_inverse=True)
        self.groups = np.arange(unique.size)
        present = ~np.isnan(values)
        self.counts = np.zeros((unique.size, len(keys)))
        self.sums = np.zeros_like(self.counts)
        np.add.at(self.counts, codes, present)
        np.add.at(self.sums, codes, np.where(present, values, 0.0))

    def __call__(self, weights: FloatArray) -> dict[str, FloatArray]:
        means = divide(weights @ self.sums, weights @ self.counts)
        named = {"/".join(key): column for key, column in zip(self.keys, means.T, strict=True)}
        if self.branch in BRANCHES:
            named[_SPECIFICITY] = domain_specificity(
                named["enrichment/P"], named["enrichment/QRS"], self.branch
            )
        return named

    def rows(
        self, found: dict[str, Interval], rhythm: str, prediction: str
    ) -> Iterator[SummaryRow]:
        for name, interval in found.items():
            measure, _, wave = name.partition("/")
            key = ("enrichment", "P") if measure == _SPECIFICITY else (measure, wave)
            present = self.counts[:, self.keys.index(key)]
            yield SummaryRow(
                branch=self.branch,
                rhythm=rhythm,
                prediction=prediction,
                measure=measure,
                wave=wave,
                value=interval.value,
                low=interval.low,
                high=interval.high,
                n_windows=int(present.sum()),
                n_groups=int(np.count_nonzero(present)),
            )


def _measures(statistics: RelevanceStatistics) -> dict[tuple[str, str], FloatArray]:
    """Columns to average, by measure and wave."""
    of_waves = {
        (measure, wave): getattr(statistics, measure)[wave]
        for measure in _OF_WAVES
        for wave in WAVES
    }
    return of_waves | {(measure, ""): getattr(statistics, measure) for measure in _SCALARS}


def _predictions(correct: ArrayLike | None, n: int) -> list[tuple[str, NDArray[np.bool_]]]:
    if correct is None:
        return [("all", np.ones(n, dtype=np.bool_))]
    right = _column(correct, "correct", n).astype(np.bool_)
    return [("right", right), ("wrong", ~right)]


def _column(values: ArrayLike, name: str, n: int) -> NDArray[Any]:
    column = np.asarray(values)
    if column.shape != (n,):
        raise DataError(f"Expected {name} of {n} windows, found shape {column.shape}.")
    return column


def _cell(row: SummaryRow | None) -> str:
    """A mean with its interval; a dash where there is none."""
    if row is None or np.isnan(row.value):
        return "-"
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
