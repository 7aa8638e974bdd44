"""PTB-XL: ten-second clinical 12-lead ECGs with cardiologists' statements, several per patient."""

from __future__ import annotations

import csv
import re
from ast import literal_eval
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from xecg.data.databases.base import (
    AF,
    LEFT_OUT,
    NOT_AF,
    PHYSIONET,
    Database,
    Download,
    LabelledRecording,
)
from xecg.data.databases.labels import (
    check_labels,
    read_labels,
    rows_of,
    spans_of,
    whole_record,
)
from xecg.errors import DataError, RecordError
from xecg.signal.wfdb import read_recording

TABLE, UNCODED = "ptbxl_database.csv", "records.csv"
RHYTHMS = ("AFLT", "AFIB", "SR", "SBRAD", "STACH", "SARRH", "PACE", "SVARR", "BIGU", "SVTAC",
           "PSVT", "TRIGU")  # fmt: skip
MEANING = {"af": AF, "not_af": NOT_AF}


class PTBXL(Database):
    """Records of ``records500``, where they are there, else of ``records100``.

    Of a record's ``scp_codes``, AFIB is AF; AFLT (flutter) is left out of AF classification, also
    beside AFIB, because the codes do not say which of the two a window shows; everything else is
    not AF. A table ``records.csv`` adds ECGs of which only ``af`` or ``not_af`` is known.
    Persons are the patients; splits are by them, not by ``strat_fold``.
    """

    name = "ptbxl"
    title = "PTB-XL, a large publicly available electrocardiography dataset"
    version = "1.0.3"
    licence = "CC BY 4.0"
    citation = (
        "Wagner P et al. PTB-XL, a large publicly available electrocardiography dataset. "
        f"Scientific Data 7:154, 2020. doi:10.1038/s41597-020-0495-6; {PHYSIONET}"
    )
    url = "https://physionet.org/content/ptb-xl/1.0.3/"
    markers: ClassVar[tuple[str, ...]] = (TABLE,)
    download = Download((TABLE, "records100/*"))

    def __init__(self, root: Path | str) -> None:
        super().__init__(root)
        self._table, self._uncoded = self.folder / TABLE, self.folder / UNCODED
        high = (self.folder / "records500").is_dir()
        self._column = "filename_hr" if high else "filename_lr"

    def tables(self) -> list[Path]:
        """Returns the tables of statements and of what is known beside them."""
        return [self._table, *([self._uncoded] if self._uncoded.is_file() else [])]

    def records(self) -> list[str]:
        """Returns all records of the tables, sorted: paths below the folder, without ending."""
        coded = self._codes()
        known = {ecg_id(record) for record in coded}
        uncoded = read_labels(self._uncoded, root=self.folder) if self._uncoded.is_file() else {}
        check_labels(self._uncoded, uncoded, MEANING, "correct the table")
        return sorted([*coded, *(record for record in uncoded if ecg_id(record) not in known)])

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythm and its patient."""
        recording = read_recording(self.folder / record)
        if (scp_codes := self._codes().get(record)) is not None:
            rhythms = whole_record(*rhythm_of(record, scp_codes), recording.duration_s)
        else:
            labels = read_labels(self._uncoded, root=self.folder)
            rhythms = spans_of(rows_of(record, labels, self._uncoded, MEANING), MEANING, recording)
        person = person_of(ecg_id(record), patients(self._table))
        return LabelledRecording(recording, person, rhythms=rhythms)

    def _codes(self) -> Mapping[str, str]:
        return _coded(self._table, self._column, _changed(self._table))


def rhythm_of(record: str, scp_codes: str) -> tuple[str, int]:
    """Returns the rhythm that statements such as ``{'AFIB': 0.0}`` name, and if it is AF.

    Likelihoods do not count: those of rhythms are mostly 0. Raises RecordError if the text is
    no dictionary.
    """
    try:
        codes = set(literal_eval(scp_codes).keys())
    except (AttributeError, ValueError, SyntaxError) as error:
        raise RecordError(
            f"{record}: expected scp_codes such as {{'SR': 0.0}} in {TABLE}, found {scp_codes!r}"
        ) from error
    meaning = LEFT_OUT if "AFLT" in codes else AF if "AFIB" in codes else NOT_AF
    return next((rhythm for rhythm in RHYTHMS if rhythm in codes), "other"), meaning


def ecg_id(record: str) -> int:
    """Returns the number of a record such as ``00503_lr`` or, in the Challenges, ``HR00503``."""
    found = re.search(r"(\d+)(_[lh]r)?$", record)
    return int(found[1]) if found else -1


def person_of(number: int, patients: Mapping[int, int]) -> str:
    """Returns the person of an ECG: its patient, else the ECG alone."""
    patient = patients.get(number)
    return f"ptbxl-ecg-{number}" if patient is None else f"ptbxl-patient-{patient}"


def patients(table: Path) -> dict[int, int]:
    """Returns the patient of each ECG whose patient a table with ``patient_id`` gives.

    ECGs are named in a column ``ecg_id``, or in ``record`` as in the Challenges. Raises DataError
    if a column is missing or the table cannot be read.
    """
    return _patients(table, _changed(table))


# Workers ask for one record after the other: a table is read once per process, and again where it
# has changed.
@lru_cache(maxsize=4)
def _patients(table: Path, _changed_ns: int) -> dict[int, int]:
    rows = _rows(table, "patient_id")
    name = "ecg_id" if rows and "ecg_id" in rows[0] else "record"
    rows = _rows(table, name, "patient_id")
    return {ecg_id(row[name]): int(float(row["patient_id"])) for row in rows if row["patient_id"]}


@lru_cache(maxsize=4)
def _coded(table: Path, column: str, _changed_ns: int) -> Mapping[str, str]:
    """Statements of each record."""
    return {row[column]: row["scp_codes"] for row in _rows(table, "ecg_id", "scp_codes", column)}


def _changed(table: Path) -> int:
    try:
        return table.stat().st_mtime_ns
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error})") from error


def _rows(table: Path, *columns: str) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a table ({error})") from error
    found = list(rows[0]) if rows else []
    if missing := [name for name in columns if name not in found]:
        raise DataError(f"{table}: expected rows with {', '.join(missing)}, found {found}")
    return rows
