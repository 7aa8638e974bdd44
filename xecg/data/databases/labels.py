"""Labels out of tables and of WFDB annotations, for the databases that carry them."""

from __future__ import annotations

import posixpath
import re
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Rhythms, RhythmSpan
from xecg.errors import DataError, RecordError
from xecg.signal.header import is_file
from xecg.signal.recording import Recording
from xecg.signal.waves import BEAT_SYMBOLS
from xecg.signal.wfdb import Annotations, beside, record_stem

UNLABELLED = "unlabelled"
# Flutter is neither AF nor a fair example of its absence.
_RHYTHM_AF = {"AFIB": AF, "af": AF, "AFL": LEFT_OUT, UNLABELLED: LEFT_OUT}
_PERSON = (
    r"(person|patient|subject|participant|proband|pat|subj)s?(id|no|nr|number|code|name)?|pid|mrn"
)


class Row(NamedTuple):
    """Label of a record in a table, or of a stretch of one, and its person."""

    label: str
    person: str = ""
    start_s: float = 0.0
    stop_s: float = np.inf  # exclusive; infinite for the end of the record


Rows = Mapping[str, tuple[Row, ...]]  # by record, in order of time


def read_labels(path: Path, columns: Sequence[str] = (), root: Path | None = None) -> Rows:
    """Reads the labels of a comma-separated table, by record.

    Its columns are ``record``, ``label`` and, if there are any, ``person`` and ``start_s,end_s``,
    with which a record may have several rows; ``columns`` names those of a table without a header
    line. With ``root``, records are named by their paths below it. Raises DataError if the table
    cannot be read, lacks a column, or names a record or a stretch of it twice.
    """
    try:
        if not is_file(path):
            raise OSError("no regular file")
        return _read_labels(path, tuple(columns), root, path.stat().st_mtime_ns)
    except (OSError, ValueError, Warning) as error:  # pandas' errors are ValueErrors
        raise DataError(
            f"{path}: cannot be read as a table with the columns record,label and, if known, "
            f"person,start_s,end_s; a label with a comma needs double quotes ({error})"
        ) from error


# Workers ask for one record after the other: the table is read once per process, and again
# where it has changed.
@lru_cache(maxsize=8)
def _read_labels(path: Path, columns: tuple[str, ...], root: Path | None, _changed_ns: int) -> Rows:
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
    spans = ("start_s", "end_s")
    wanted = ("record", "label", *(spans if {*spans} & {*found} else ()))
    # Persons must not be split, so a column of them must not be overlooked.
    persons = [x for x in found if re.fullmatch(_PERSON, re.sub(r"[^a-z]", "", x.lower()))]
    if missing := [name for name in wanted if name not in found]:
        raise DataError(
            f"{path}: expected the columns record,label and, if known, person,start_s,end_s, found "
            f"{','.join(found)!r}; missing {', '.join(missing)}"
        )
    if len(persons) > 1:
        named = f"found {', '.join(persons)}; rename those that are not to tell persons apart"
        raise DataError(f"{path}: expected one column of persons, {named}")
    table["person"] = table[persons[0]] if persons else ""
    table = table.reindex(columns=["record", "label", "person", *spans], fill_value="")
    rows: dict[str, list[Row]] = {}
    files: dict[object, str] = {}
    for number, line in enumerate(table.itertuples(index=False, name=None), 1):
        name, label, person, *ends = (text.strip() for text in line)
        where = f"{path}: row {number}"
        if not name or not label:
            raise DataError(f"{where} has no {'label' if name else 'record'}")
        record = name if root is None else _below(root, path, name)
        row = Row(label, person, *_stretch(ends, f"{where}, record {record}"))
        same, others = files.setdefault(_file_of(root, record), record), rows.get(record, [])
        if same != record or any(
            row.start_s < other.stop_s and other.start_s < row.stop_s for other in others
        ):
            again = f" from {ends[0] or 0} s on, inside of another stretch" if any(ends) else ""
            raise DataError(f"{where} names record {same} a second time{again}")
        if others and others[0].person != person:
            both = f"{others[0].person!r} and {person!r}"
            raise DataError(f"{where}: record {record} has two persons, {both}")
        rows.setdefault(record, []).append(row)
    return {record: tuple(sorted(some, key=lambda x: x.start_s)) for record, some in rows.items()}


def _stretch(ends: Sequence[str], where: str) -> tuple[float, float]:
    """Returns start and end of a stretch in seconds; empty ones are those of the record."""
    with suppress(ValueError):
        start_s, stop_s = float(ends[0] or 0), float(ends[1] or np.inf)
        if 0 <= start_s < stop_s and start_s < np.inf:
            return start_s, stop_s
    found = f"start_s {ends[0]!r} and end_s {ends[1]!r}"
    raise DataError(f"{where}: expected 0 <= start_s < end_s in seconds, found {found}")


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


def listed_records(
    path: Path, known: Iterable[str], do: str, columns: Sequence[str] = (), root: Path | None = None
) -> list[str]:
    """Returns the records of a table, sorted.

    Raises DataError, with the advice ``do``, if it has other labels than the known ones.
    """
    rows, expected = read_labels(path, columns, root), {*known}
    found = {row.label for some in rows.values() for row in some}
    if unknown := found - expected:
        quoted = [", ".join(map(repr, sorted(some))) for some in (unknown, expected, found)]
        raise DataError(
            f"{path}: labels {quoted[0]} are not understood; expected {quoted[1]}, found "
            f"{quoted[2]}; {do}"
        )
    return sorted(rows)


def rows_of(
    record: str,
    path: Path,
    known: Container[str],
    columns: Sequence[str] = (),
    root: Path | None = None,
) -> tuple[Row, ...]:
    """Returns the rows of a record; raises RecordError if there is none with a known label."""
    found = read_labels(path, columns, root).get(record, ())
    if not found or any(row.label not in known for row in found):
        raise RecordError(f"{record}: expected a label for it in {path}, found none")
    return found


def spans_of(rows: Iterable[Row], meaning: Mapping[str, int], recording: Recording) -> Rhythms:
    """Returns the rhythm spans that the rows of a recording stand for.

    Raises RecordError if one ends after the recording; a part of a second more is rounding.
    """
    spans, duration_s = [], recording.duration_s
    for row in rows:
        stop_s = duration_s if row.stop_s == np.inf else row.stop_s
        if row.start_s >= duration_s or stop_s >= duration_s + 1:
            found = f"{row.label!r} from {row.start_s:g} s to {row.stop_s:g} s"
            within = f"stretches within its {duration_s:g} s"
            raise RecordError(f"{recording.name}: expected {within}, found {found}")
        stop_s = min(stop_s, duration_s)
        spans.append(RhythmSpan(row.start_s, stop_s, row.label, meaning[row.label]))
    return tuple(spans)


def whole_record(label: str, af: int, duration_s: float) -> Rhythms:
    """Returns the single span of a record that has one label."""
    return (RhythmSpan(0.0, duration_s, label, af),)


def rhythm_spans(
    annotations: Annotations, n_samples: int, sampling_rate: float, before: str = UNLABELLED
) -> Rhythms:
    """Returns the rhythm spans that rhythm changes (``+`` with ``(AFIB`` and the like) mark.

    A rhythm lasts until the next change or the end of the record; ``before`` is the one before the
    first change, of the whole record if there is none.
    """
    marks = zip(annotations.samples.tolist(), annotations.symbols, annotations.notes, strict=True)
    changes = [(0, before)]
    changes += [
        (s, note[1:].rstrip("\0 ")) for s, mark, note in marks if (mark, note[:1]) == ("+", "(")
    ]
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
