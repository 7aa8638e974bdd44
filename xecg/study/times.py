"""Durations in words, and how long what is left of a study will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from xecg.study.plan import Cell


def duration(seconds: float) -> str:
    """A duration as a person says it: ``45 s``, ``7 min 30 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def expected_seconds(cell: Cell, finished: Mapping[Cell, float]) -> float | None:
    """How long a cell takes: the median of finished cells like it; None if there is none.

    Like it are those of the same depth or branch, else those of the same kind.
    """
    of_kind = {other: s for other, s in finished.items() if other.kind == cell.kind}
    alike = [
        seconds
        for other, seconds in of_kind.items()
        if (other.depth, other.branch) == (cell.depth, cell.branch)
    ]
    known = alike or list(of_kind.values())
    return median(known) if known else None


def seconds_left(
    open_cells: Sequence[Cell],
    running: Mapping[Cell, float],
    finished: Mapping[Cell, float],
) -> float | None:
    """Time that a study still takes with as many cells side by side as now, at least one.

    Args:
        open_cells: Cells that nobody works on.
        running: Cells with the seconds that they have been running for.
        finished: Cells with the seconds that they took.

    Returns:
        Seconds; None where no cell like one of the open ones is finished.
    """
    left = []
    for cell, elapsed in [*((cell, 0.0) for cell in open_cells), *running.items()]:
        expected = expected_seconds(cell, finished)
        if expected is None:
            return None
        left.append(max(expected - elapsed, 0.0))
    return max([sum(left) / max(len(running), 1), *left], default=0.0)
