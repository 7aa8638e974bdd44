"""Rhythms, beats and waves out of WFDB annotations, for the databases that carry them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, RhythmSpan
from xecg.errors import DataError
from xecg.signal.wfdb import Annotations


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


# The WFDB annotation codes that mark a QRS complex. `!` (a ventricular flutter wave), `x` (a
# blocked atrial beat) and `|` (an artefact) do not.
BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")

# Flutter is neither AF nor a fair example of its absence.
RHYTHM_AF = {"AFIB": AF, "AFL": LEFT_OUT}

UNLABELLED = "unlabelled"


def whole_record(label: str, af: int, duration_s: float) -> tuple[RhythmSpan, ...]:
    """The single span of a record that has one label."""
    return (RhythmSpan(0.0, duration_s, label, af),)


def rhythm_spans(
    annotations: Annotations, n_samples: int, sampling_rate: float
) -> tuple[RhythmSpan, ...]:
    """The rhythm spans that a record's rhythm changes (`+` with `(AFIB` and the like) mark.

    A rhythm lasts until the next change or the end of the record. What lies before the first
    change is unlabelled; without any change the whole record is.

    Args:
        annotations: The record's reference annotations.
        n_samples: Length of the record in samples.
        sampling_rate: Of the record, in Hz.
    """
    changes = [(0, UNLABELLED)]
    for sample, symbol, note in zip(
        annotations.samples.tolist(), annotations.symbols, annotations.notes, strict=True
    ):
        if symbol == "+" and note.startswith("("):
            changes.append((sample, note[1:].rstrip("\0 ")))
    stops = [sample for sample, _ in changes[1:]] + [n_samples]
    return tuple(
        RhythmSpan(start / sampling_rate, min(stop, n_samples) / sampling_rate, label, _af(label))
        for (start, label), stop in zip(changes, stops, strict=True)
        if start < min(stop, n_samples)
    )


def _af(label: str) -> int:
    return LEFT_OUT if label == UNLABELLED else RHYTHM_AF.get(label, NOT_AF)


def beats(annotations: Annotations) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The samples of the annotated beats and their symbols.

    Args:
        annotations: The record's reference annotations.

    Returns:
        `(beats,)` samples at the record's rate, and as many symbols.
    """
    is_beat = np.array([symbol in BEAT_SYMBOLS for symbol in annotations.symbols], dtype=bool)
    symbols = tuple(symbol for symbol in annotations.symbols if symbol in BEAT_SYMBOLS)
    return annotations.samples[is_beat], symbols


def p_waves_are_marked(annotations: Annotations) -> bool:
    """Whether an annotator who marked QRS complexes marked the P waves before them too.

    In some records QRS and T are marked and P never or once, although P waves can be seen
    (paced rhythms, AV block, P taken for U): there a beat without a P mark does not say that it
    has no P wave. The line is drawn at P waves on half of the beats.
    """
    n_beats = sum(symbol in BEAT_SYMBOLS for symbol in annotations.symbols)
    return 2 * annotations.symbols.count("p") >= n_beats
