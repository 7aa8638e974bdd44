"""How many windows, records and persons a store has, by rhythm and part of the split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xecg.data.index import Index

MEANINGS = {1: "AF", 0: "not AF", -1: "left out"}
"""What `af` says about a window."""

_LISTED = 8  # rhythms of each meaning with a line of their own; joined rhythms can be many


@dataclass(frozen=True)
class Count:
    """What some windows amount to.

    Args:
        windows: How many there are.
        records: How many records they come from.
        persons: How many known persons they come from.
    """

    windows: int
    records: int
    persons: int

    @classmethod
    def of(cls, index: Index, rows: NDArray[np.int64]) -> Count:
        """Counts the given rows."""
        persons = np.unique(index.person[rows])
        return cls(len(rows), len(np.unique(index.record[rows])), int((persons != "").sum()))


@dataclass(frozen=True)
class ClassCounts:
    """One line of the table.

    Args:
        meaning: One of `MEANINGS`, or `"all"`.
        rhythm: The database's word; empty where all rhythms of that meaning are counted.
        counts: Per part of the split.
    """

    meaning: str
    rhythm: str
    counts: dict[str, Count]


def count_classes(index: Index, parts: Mapping[str, NDArray[np.int64]]) -> list[ClassCounts]:
    """Counts everything, then each meaning, then its most frequent rhythms.

    Args:
        index: The index of a store.
        parts: Rows of each part.
    """
    return [
        ClassCounts(
            meaning,
            rhythm,
            {part: Count.of(index, rows[chosen[rows]]) for part, rows in parts.items()},
        )
        for meaning, rhythm, chosen in _classes(index)
    ]


def _classes(index: Index) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    yield "all", "", np.ones(len(index), dtype=bool)
    for af, meaning in MEANINGS.items():
        of_meaning = index.af == af
        if not of_meaning.any():
            continue
        yield meaning, "", of_meaning
        rhythms, windows = np.unique(index.rhythm[of_meaning], return_counts=True)
        by_count = rhythms[np.argsort(-windows, kind="stable")]
        for rhythm in by_count[:_LISTED]:
            yield meaning, str(rhythm), of_meaning & (index.rhythm == rhythm)
        if len(others := by_count[_LISTED:]):
            yield meaning, f"{len(others)} others", of_meaning & np.isin(index.rhythm, others)
