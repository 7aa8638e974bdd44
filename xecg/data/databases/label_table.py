"""Tables that give each record a label and, where known, a person."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from xecg.errors import DataError


@dataclass(frozen=True)
class Row:
    """What a table says of one record."""

    label: str
    person: str = ""


def read_labels(path: Path, columns: Sequence[str] = ()) -> Mapping[str, Row]:
    """The labels of a comma-separated table, by record.

    Args:
        path: The table. Columns `record`, `label` and, if there is one, `person` are read.
        columns: The columns' names where the table has no header line.

    Raises:
        DataError: If the table cannot be read, lacks a column, or names a record twice.
    """
    try:
        return _read_labels(path, tuple(columns), path.stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table of labels: {error}") from error


# Workers ask for one record after the other: the table is parsed once per process, and again
# where it has changed.
@lru_cache(maxsize=8)
def _read_labels(path: Path, columns: tuple[str, ...], _changed_ns: int) -> Mapping[str, Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.DictReader(file, fieldnames=columns or None, skipinitialspace=True)
        found = lines.fieldnames or ()
        if missing := [name for name in ("record", "label") if name not in found]:
            raise DataError(
                f"{path}: expected the columns record, label and, if known, person, "
                f"found {', '.join(found) or 'an empty file'}; missing {', '.join(missing)}"
            )
        return _rows(path, lines)


def _rows(path: Path, lines: Iterable[dict[str, str | None]]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, start=1):
        record, label = ((line[name] or "").strip() for name in ("record", "label"))
        if not record or not label:
            raise DataError(f"{path}: row {number} has no {'label' if record else 'record'}")
        if record in rows:
            raise DataError(f"{path}: row {number} names record {record} a second time")
        rows[record] = Row(label, (line.get("person") or "").strip())
    return rows


def check_labels(path: Path, rows: Mapping[str, Row], known: Iterable[str], do: str) -> None:
    """Asserts that every label is understood.

    Args:
        path: The table, for the message.
        rows: What was read of it.
        known: The labels that are understood.
        do: What the user can do about others, for the message.

    Raises:
        DataError: If there are other labels; it lists all that the table has.
    """
    expected, found = set(known), {row.label for row in rows.values()}
    if unknown := sorted(found - expected):
        raise DataError(
            f"{path}: labels {', '.join(unknown)} are not understood; expected "
            f"{', '.join(sorted(expected))}, found {', '.join(sorted(found))}; {do}"
        )
