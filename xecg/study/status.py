"""What of a study is done, running, failed and open, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from xecg.study.claims import Claims, Owner
from xecg.study.folder import State, StudyFolder
from xecg.study.plan import Cell
from xecg.study.results import accuracy_of
from xecg.study.times import duration, seconds_left

_HEAD = ("cell", "state", "")


@dataclass(frozen=True)
class CellState:
    """A cell and what is known of it.

    Args:
        cell: The cell.
        state: Its state.
        note: The rest in words.
        seconds: How long it took or has been running for; 0 else.
    """

    cell: Cell
    state: State
    note: str = ""
    seconds: float = 0.0


def look_at(
    folder: StudyFolder, cells: Sequence[Cell], now: float | None = None
) -> list[CellState]:
    """The state of every cell.

    Args:
        folder: Of the study.
        cells: Its plan.
        now: Seconds since the epoch; None takes the clock's.
    """
    claims, now = Claims(folder.claims), time.time() if now is None else now
    return [_state(folder, cell, claims, now) for cell in cells]


def status_text(folder: StudyFolder, states: Sequence[CellState]) -> str:
    """A table of the cells, and a line that sums them up."""
    rows = [_HEAD, *((state.cell.name, state.state, state.note) for state in states)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", f"{folder.path}: {_summary(states)}"])


def _state(folder: StudyFolder, cell: Cell, claims: Claims, now: float) -> CellState:
    if folder.is_done(cell.name):
        about = folder.about(cell.name)
        seconds = float(about["seconds"])
        note = f"{duration(seconds)}{accuracy_of(folder.cell(cell.name))}"
        return CellState(cell, "done", note, seconds)
    if folder.has_failed(cell.name):
        return CellState(cell, "failed", folder.reason(cell.name))
    owner = claims.owner(cell.name)
    if owner is not None and owner.alive:
        return CellState(cell, "running", _by_whom(owner, now), max(now - owner.since, 0.0))
    if waits := [name for name in cell.needs if folder.has_failed(name)]:
        return CellState(cell, "open", f"needs {', '.join(waits)}, which failed")
    return CellState(cell, "open", "was begun" if folder.work(cell.name).exists() else "")


def _by_whom(owner: Owner, now: float) -> str:
    since = datetime.fromtimestamp(owner.since)
    elapsed = duration(max(now - owner.since, 0.0))
    return f"on {owner.host} since {since:%Y-%m-%d %H:%M} ({elapsed})"


def _summary(states: Sequence[CellState]) -> str:
    counts = {name: _of(states, name) for name in ("done", "running", "failed", "open")}
    parts = [f"{len(counts['done'])} of {len(states)} cells done"]
    parts += [f"{len(counts[name])} {name}" for name in ("running", "failed", "open")]
    if not counts["running"] and not counts["open"]:
        return ", ".join(parts)
    left = seconds_left(list(counts["open"]), counts["running"], counts["done"])
    time_left = "not known before one like the rest is done" if left is None else duration(left)
    return f"{', '.join(parts)}; time left: {time_left}"


def _of(states: Sequence[CellState], name: str) -> Mapping[Cell, float]:
    return {state.cell: state.seconds for state in states if state.state == name}
