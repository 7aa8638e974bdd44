"""Labels out of tables and of WFDB annotations, for the databases that carry them."""

from __future__ import annotations

import posixpath
import re
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, RhythmSpan
from xecg.errors import DataError, RecordError
from xecg.signal.header import is_file
from xecg.signal.waves import BEAT_SYMBOLS
from xecg.signal.wfdb import Annotations, beside, record_stem

UNLABELLED = "unlabelled"
# Flutter is neither AF nor a fair example of its absence.
_RHYTHM_AF = {"AFIB": AF, "AFL": LEFT_OUT, UNLABELLED: LEFT_OUT}

_PERSON = (
    r"(person|patient|subject|participant|proband|pat|subj)s?(id|no|nr|number|code|name)?|pid|mrn"
)


class Row(NamedTuple):
    """Label of one record in a table, and its person."""

    label: str
    person: str = ""


def read_labels(
    path: Path, columns: Sequence[str] = (), root: Path | None = None
) -> Mapping[str, Row]:
    """Reads the labels of a comma-separated table, by record.

    Args:
        path: The table. Columns ``record``, ``label`` and, if there is one, ``person`` are read.
        columns: Names of the columns of a table without a header line.
        root: Folder that records are named below; null takes the names as they are.

    Raises:
        DataError: The table cannot be read, lacks a column, or names a record twice.
    """
    try:
        if not is_file(path):
            raise OSError("no regular file")
        return _read_labels(path, tuple(columns), root, path.stat().st_mtime_ns)
    except (OSError, ValueError, Warning) as error:  # pandas' errors are ValueErrors
        raise DataError(
            f"{path}: cannot be read as a table with the columns record,label and, if known, "
            f"person; a label with a comma needs double quotes ({error})"
        ) from error


# Workers ask for one record after the other: the table is read once per process, and again
# where it has changed.
@lru_cache(maxsize=8)
def _read_labels(
    path: Path, columns: tuple[str, ...], root: Path | None, _changed_ns: int
) -> Mapping[str, Row]:
    import pandas as pd  # half a second that listing the databases does not need

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row that is too long
        table = pd.read_csv(
            path,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
            names=list(columns) or None,
            index_col=False,
            encoding="utf-8-sig",
        )
    found = [str(name) for name in table.columns]
    if missing := [name for name in ("record", "label") if name not in found]:
        raise DataError(
            f"{path}: expected the columns record,label and, if known, person, found "
            f"{','.join(found)!r}; missing {', '.join(missing)}"
        )
    # Persons must not be split, so a column of them must not be overlooked.
    like_person = [
        name for name in found if re.fullmatch(_PERSON, re.sub(r"[^a-z]", "", name.lower()))
    ]
    if len(like_person) > 1:
        raise DataError(
            f"{path}: expected one column of persons, found {', '.join(like_person)}; rename those "
            "that are not to tell persons apart"
        )
    rows: dict[str, Row] = {}
    files: dict[object, str] = {}
    persons = table[like_person[0]] if like_person else [""] * len(table)
    for number, line in enumerate(zip(table["record"], table["label"], persons, strict=True), 1):
        named, label, person = (text.strip() for text in line)
        if not named or not label:
            raise DataError(f"{path}: row {number} has no {'label' if named else 'record'}")
        record = named if root is None else _below(root, path, named)
        same = files.setdefault(_file_of(root, record), record)
        if record in rows or same != record:
            raise DataError(f"{path}: row {number} names record {same} a second time")
        rows[record] = Row(label, person)
    return rows


def _below(root: Path, table: Path, named: str) -> str:
    """Path below ``root``, without ending, of a record as a table names it."""
    stem = record_stem(table.parent / named)
    below = posixpath.relpath(posixpath.normpath(stem.as_posix()), root.as_posix())
    if below.split("/")[0] == "..":
        raise DataError(f"{table}: expected records below {root}, found {named}")
    return below


def _file_of(root: Path | None, record: str) -> object:
    """What identifies the header of a record, also where links lead to it."""
    header = beside(root / record, "hea") if root else Path()
    if not is_file(header):
        return record
    return header.stat().st_dev, header.stat().st_ino


def row_of(record: str, rows: Mapping[str, Row], path: Path, known: Container[str]) -> Row:
    """Returns the row of a record in a table.

    Raises:
        RecordError: There is none, or its label is not understood.
    """
    row = rows.get(record)
    if row is None or row.label not in known:
        raise RecordError(f"{record}: expected a label for it in {path}, found none")
    return row


def check_labels(path: Path, rows: Mapping[str, Row], known: Iterable[str], do: str) -> None:
    """Checks that every label of a table is understood.

    Args:
        path: The table, for the message.
        rows: Its content.
        known: Labels that are understood.
        do: Advice for the user who has others, for the message.

    Raises:
        DataError: There are other labels; it lists all that the table has.
    """
    expected, found = set(known), {row.label for row in rows.values()}
    if unknown := found - expected:
        quoted = [", ".join(map(repr, sorted(some))) for some in (unknown, expected, found)]
        raise DataError(
            f"{path}: labels {quoted[0]} are not understood; expected {quoted[1]}, found "
            f"{quoted[2]}; {do}"
        )


def whole_record(label: str, af: int, duration_s: float) -> tuple[RhythmSpan, ...]:
    """Returns the single span of a record that has one label."""
    return (RhythmSpan(0.0, duration_s, label, af),)


def rhythm_spans(
    annotations: Annotations, n_samples: int, sampling_rate: float
) -> tuple[RhythmSpan, ...]:
    """Returns the rhythm spans that rhythm changes (``+`` with ``(AFIB`` and the like) mark.

    A rhythm lasts until the next change or the end of the record. What lies before the first
    change is unlabelled; without any change the whole record is.

    Args:
        annotations: The record's reference annotations.
        n_samples: Length of the record in samples.
        sampling_rate: Sampling rate of the record in Hz.
    """
    changes = [(0, UNLABELLED)]
    for sample, symbol, note in zip(
        annotations.samples.tolist(), annotations.symbols, annotations.notes, strict=True
    ):
        if symbol == "+" and note.startswith("("):
            changes.append((sample, note[1:].rstrip("\0 ")))
    spans = []
    for (start, label), (stop, _) in pairwise([*changes, (n_samples, "")]):
        start_s, stop_s = start / sampling_rate, min(stop, n_samples) / sampling_rate
        if start_s < stop_s:
            spans.append(RhythmSpan(start_s, stop_s, label, _RHYTHM_AF.get(label, NOT_AF)))
    return tuple(spans)


def beats(annotations: Annotations) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Returns the samples of the annotated beats, ``(beats,)``, and their symbols."""
    is_beat = np.array([symbol in BEAT_SYMBOLS for symbol in annotations.symbols], dtype=bool)
    symbols = tuple(symbol for symbol in annotations.symbols if symbol in BEAT_SYMBOLS)
    return annotations.samples[is_beat], symbols


def p_waves_are_marked(annotations: Annotations) -> bool:
    """Returns whether an annotator who marked QRS complexes marked the P waves before them too.

    In some records QRS and T are marked and P never or once, although P waves can be seen
    (paced rhythms, AV block, P taken for U): there a beat without a P mark does not say that it
    has no P wave. The line is drawn at P waves on half of the beats.
    """
    return 2 * annotations.symbols.count("p") >= len(beats(annotations)[1])
