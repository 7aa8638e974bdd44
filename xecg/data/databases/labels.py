"""Labels out of tables and of WFDB annotations, and a folder of records with such a table."""

from __future__ import annotations

import logging
import posixpath
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Database, LabelledRecording, RhythmSpan
from xecg.errors import DataError, RecordError
from xecg.signal.header import is_file
from xecg.signal.recording import Recording
from xecg.signal.waves import BEAT_SYMBOLS
from xecg.signal.wfdb import Annotations, beside, read_recording, record_stem

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)
UNLABELLED = "unlabelled"  # rhythm of a stretch that nobody labelled
AF_LABELS = ("A", "AF", "AFIB", "1", "true")
NOT_AF_LABELS = ("N", "O", "NSR", "SR", "non-AF", "normal", "other", "0", "false")
# Flutter is neither AF nor a fair example of its absence.
_RHYTHM_AF = {"AFIB": AF, "af": AF, "AFL": LEFT_OUT, UNLABELLED: LEFT_OUT}
_PERSON = (
    r"(person(en)?|patient(en)?|subject|participant|proband|individual|volunteer|donor|pat|subj|pt)s?"
    r"(id|no|nr|num(m?er)?|number|code|name|key|hash)?|id(person|patient|subject)|pid|mrn"
)
_TIME = r"(start|begin|onset|end|stop|offset|until)(ing)?(m?s|sec(ond)?s?|times?|samples?)?"
_UNSEEN = r"[\u200b-\u200f\u2060\ufeff]|\.0+$"  # in a name, or as from a number


class Row(NamedTuple):
    """Label of a record in a table, or of a stretch of one, and its person."""

    label: str
    person: str = ""
    start_s: float = 0.0
    stop_s: float = np.inf  # exclusive; infinite for the end of the record


class LabelTable(NamedTuple):
    """A comma-separated table of labels.

    Its columns are ``record``, ``label`` and, if there are any, ``person`` and ``start_s,end_s``,
    with which a record may have several rows; ``columns`` names those of a table without a header
    line. With ``root``, records are named by their paths below it. ``meaning`` says what each known
    label means: AF (1), not AF (0), or left out (-1).
    """

    path: Path
    meaning: Mapping[str, int]
    columns: tuple[str, ...] = ()
    root: Path | None = None

    def records(self) -> list[str]:
        """Returns the records, sorted; raises DataError for labels other than the known ones."""
        rows = self.read()
        found = {row.label for some in rows.values() for row in some}
        if unknown := found - {*self.meaning}:
            quoted = [", ".join(map(repr, sorted(some))) for some in (unknown, self.meaning, found)]
            labels = f"{quoted[0]} are not understood; expected {quoted[1]}, found {quoted[2]}"
            cure = "name their meaning by --af, --not_af or --left_out of the database 'folder'"
            raise DataError(f"{self.path}: labels {labels}; correct the table, or {cure}")
        return sorted(rows)

    def rows(self, record: str) -> tuple[Row, ...]:
        """Returns the rows of a record; raises RecordError if there is none with a known label."""
        found = self.read().get(record, ())
        if not found or any(row.label not in self.meaning for row in found):
            raise RecordError(f"{record}: expected a label for it in {self.path}, found none")
        return found

    def rhythms(self, record: str, recording: Recording) -> tuple[RhythmSpan, ...]:
        """Returns a record's rhythms; raises RecordError for one that ends a second after it."""
        spans, duration_s = [], recording.duration_s
        for row in self.rows(record):
            stop_s = duration_s if row.stop_s == np.inf else row.stop_s
            if row.start_s >= duration_s or stop_s >= duration_s + 1:
                found = f"{row.label!r} from {row.start_s:g} s to {row.stop_s:g} s"
                within = f"stretches within its {duration_s:g} s"
                raise RecordError(f"{recording.name}: expected {within}, found {found}")
            stop_s = min(stop_s, duration_s)
            spans.append(RhythmSpan(row.start_s, stop_s, row.label, self.meaning[row.label]))
        return tuple(spans)

    def read(self) -> Mapping[str, tuple[Row, ...]]:
        """Reads the rows of each record, in order of time; raises DataError for a wrong table."""
        try:
            if not is_file(self.path):
                raise OSError("no regular file")
            return _read(self.path, self.columns, self.root, self.path.stat().st_mtime_ns)
        except (OSError, ValueError, Warning) as error:  # pandas' errors are ValueErrors
            expected = "a table with the columns record,label and, if known, person,start_s,end_s"
            why = f"a label with a comma needs double quotes ({error})"
            raise DataError(f"{self.path}: cannot be read as {expected}; {why}") from error


def read_texts(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Reads a table as texts; ``columns`` are those of a table without a header line."""
    import pandas as pd  # half a second that listing the databases does not need

    how: dict[str, Any] = {"dtype": str, "keep_default_na": False, "skipinitialspace": True}
    how |= {"names": list(columns) or None, "index_col": False, "encoding": "utf-8-sig"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row that is too long
        table: pd.DataFrame = pd.read_csv(path, **how)
    return table


# Workers ask for one record after the other: the table is read once per process, and again
# where it has changed.
@lru_cache(maxsize=8)
def _read(
    path: Path, columns: tuple[str, ...], root: Path | None, _changed_ns: int
) -> Mapping[str, tuple[Row, ...]]:
    import pandas as pd

    table = read_texts(path, columns)
    found, spans = [str(name) for name in table.columns], ["start_s", "end_s"]
    letters = {name: re.sub(r"[^a-z]", "", name.lower()) for name in found}
    timed = any(re.fullmatch(_TIME, name) for name in letters.values())
    wanted = {"record", "label", *(spans if timed else ())}
    # Persons must not be split, so a column of them must not be overlooked.
    persons = [name for name in found if re.fullmatch(_PERSON, letters[name])]
    if wanted - {*found} or len(persons) > 1:
        expected = "record,label and, if known, one of persons and both of start_s,end_s"
        problem = f"found {','.join(found)!r}; rename or add what is wrong"
        raise DataError(f"{path}: expected the columns {expected}, {problem}")
    unused = sorted({*found} - {"record", "label", *spans, *persons})
    if unused and parent_process() is None:
        how = f"not used: {', '.join(unused)}; persons are told apart by {(*persons, 'record')[0]}"
        _log.warning("%s: %s", path, how)
    table = table.rename(columns=dict.fromkeys(persons, "person"))
    table = table.reindex(columns=["record", "label", "person", *spans], fill_value="")
    table = table.apply(lambda texts: texts.str.strip())

    def refuse(rows: pd.Series[bool], why: str) -> None:
        for row in table.index[rows.sort_index()][:1]:
            raise DataError(f"{path}: row {row + 1}, {','.join(table.loc[row])!r}: {why}")

    written = table["person"].groupby(
        table["person"].str.replace(_UNSEEN, "", regex=True).str.strip()
    )
    refuse(written.transform("nunique") > 1, "its person is written in another way elsewhere")
    refuse((table["record"] == "") | (table["label"] == ""), "expected a record and a label")
    start_s, stop_s = (
        pd.to_numeric(table[name].replace("", default), errors="coerce").astype(float)
        for name, default in (("start_s", "0"), ("end_s", "inf"))
    )
    within = (start_s >= 0) & (start_s < stop_s)
    refuse(~within, "expected 0 <= start_s < end_s in seconds")
    rows = table[["label", "person"]].assign(start_s=start_s, stop_s=stop_s)
    named = table["record"]
    rows["record"] = [_below(root, path, name) for name in named] if root else named
    rows["file"] = [_file_of(root, record) for record in rows["record"]]
    rows = rows.sort_values(["file", "start_s"], kind="stable")
    of_file = rows.groupby("file", sort=False)
    overlaps = rows["start_s"] < of_file["stop_s"].shift(fill_value=0.0)
    refuse(overlaps | (of_file["record"].transform("nunique") > 1), "names a record a second time")
    refuse(of_file["person"].transform("nunique") > 1, "its record has two persons")
    found_rows: dict[str, list[Row]] = {}
    for record, *row in rows[["record", *Row._fields]].itertuples(index=False):
        found_rows.setdefault(record, []).append(Row(*row))
    return {record: tuple(some) for record, some in found_rows.items()}


def _below(root: Path, table: Path, named: str) -> str:
    """Path below ``root``, without ending, of a record as a table names it."""
    stem = record_stem(table.parent / named)
    below = posixpath.relpath(posixpath.normpath(stem.as_posix()), root.as_posix())
    if below.split("/")[0] == "..":
        raise DataError(f"{table}: expected records below {root}, found {named}")
    return below


def _file_of(root: Path | None, record: str) -> str:
    """What identifies the header of a record, also where links lead to it."""
    header = beside(root / record, "hea") if root else Path()
    return str(header.stat()[1:3]) if is_file(header) else record  # inode and device


def rhythm_spans(
    annotations: Annotations, n_samples: int, sampling_rate: float, before: str = UNLABELLED
) -> tuple[RhythmSpan, ...]:
    """Returns the spans from one rhythm change (``+`` with ``(AFIB``) or the start to the next."""
    marks = zip(annotations.samples.tolist(), annotations.symbols, annotations.notes, strict=True)
    changes = [(s, note[1:].rstrip("\0 ")) for s, mark, note in marks if mark + note[:1] == "+("]
    spans = []
    for (start, label), (stop, _) in pairwise([(0, before), *changes, (n_samples, "")]):
        start_s, stop_s = start / sampling_rate, min(stop, n_samples) / sampling_rate
        if start_s < stop_s:
            spans.append(RhythmSpan(start_s, stop_s, label, _RHYTHM_AF.get(label, NOT_AF)))
    return tuple(spans)


def beats(annotations: Annotations) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Returns the samples of the annotated beats, ``(beats,)``, and their symbols."""
    places = [i for i, symbol in enumerate(annotations.symbols) if symbol in BEAT_SYMBOLS]
    return annotations.samples[places], tuple(annotations.symbols[i] for i in places)


class Folder(Database):
    """Records anywhere below a folder, and a table `record,label[,person][,start_s,end_s]`.

    With ``start_s,end_s`` (seconds from the start of the record) a record may have several rows,
    as a Holter with several rhythms has; what no row covers is left out of AF classification.
    A record is its path below the folder, and a person is one of this folder: the ``001`` of
    another folder is somebody else.

    ``table`` is the path of the table below the folder; it names the records by paths relative to
    its own folder, with or without ending. ``af``, ``not_af`` and ``left_out`` are the labels that
    mean AF, another rhythm, and records to be left out of AF classification. Raises DataError if
    the folder or the table is missing, or a label is listed twice.
    """

    name = "folder"
    title = "WFDB records with a table of labels"
    licence = "the owner's"
    citation = ""
    by_place = True
    markers = ("**/*.hea",)
    _labels: LabelTable

    def __init__(
        self,
        root: Path | str,
        table: str = "records.csv",
        af: Sequence[str] = AF_LABELS,
        not_af: Sequence[str] = NOT_AF_LABELS,
        left_out: Sequence[str] = (),
    ) -> None:
        super().__init__(root)
        self.table = self.root / table
        if not self.table.is_file():
            raise self._wrong_root(f"the table {table}")
        self.meaning: dict[str, int] = {}
        for labels, value in ((af, AF), (not_af, NOT_AF), (left_out, LEFT_OUT)):
            for label in labels:
                if self.meaning.setdefault(label, value) != value:
                    raise DataError(f"label {label!r}: expected one meaning, found two")
        self._labels = LabelTable(self.table, self.meaning, root=self.root)

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythms and its person."""
        if person := self._labels.rows(record)[0].person:
            person = f"{self.identity}/{person}"
        recording = read_recording(self.root / record)
        return LabelledRecording(recording, person, rhythms=self._labels.rhythms(record, recording))
