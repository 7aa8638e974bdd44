"""PTB-XL: ten-second clinical 12-lead ECGs with cardiologists' statements, several per patient."""

from __future__ import annotations

import csv
import re
from ast import literal_eval
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Download, LabelledRecording, Rhythms
from xecg.data.databases.labels import whole_record
from xecg.data.databases.physionet import PHYSIONET, PhysioNet
from xecg.errors import DataError, RecordError
from xecg.signal.recording import Recording
from xecg.signal.wfdb import Annotations

TABLE = "ptbxl_database.csv"
RHYTHMS = ("AFLT", "AFIB", "SR", "SBRAD", "STACH", "SARRH", "PACE", "SVARR", "BIGU", "SVTAC",
           "PSVT", "TRIGU")  # fmt: skip
_SEXES = {"0": "Sex: M", "1": "Sex: F"}


class PTBXL(PhysioNet):
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
    annotated, listed = "none", True
    files = ()
    markers = (TABLE,)
    download = Download((TABLE, "records100/*"))

    def tables(self) -> list[Path]:
        """Returns the tables of statements and of what is known beside them."""
        return [self.folder / TABLE, *super().tables()]

    def records(self) -> list[str]:
        """Returns all records of the tables, sorted: paths below the folder, without ending."""
        coded = {number: path for number, (path, *_) in self._statements().items()}
        return sorted(({ecg_id(path): path for path in super().records()} | coded).values())

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythm and its patient."""
        labelled, number = super().read(record), ecg_id(record)
        path, _, age, sex = self._statements().get(number, ("",) * 4)
        about = (f"Age: {age}", _SEXES.get(sex, "")) if path == record else ()
        recording = labelled.recording
        recording = replace(recording, comments=(*recording.comments, *about))
        person = person_of(number, [self.folder / TABLE])
        return replace(labelled, recording=recording, person=person)

    def rhythms(self, record: str, recording: Recording, marks: Annotations) -> Rhythms:
        """Returns the rhythm that the statements name; they count more than ``records.csv``."""
        path, scp_codes, *_ = self._statements().get(ecg_id(record), ("", ""))
        if path != record:
            return super().rhythms(record, recording, marks)
        return whole_record(*rhythm_of(record, scp_codes), recording.duration_s)

    def _statements(self) -> Mapping[int, tuple[str, ...]]:
        """Record, ``scp_codes``, age and sex of each ECG."""
        high = (self.folder / "records500").is_dir()
        column = "filename_hr" if high else "filename_lr"
        return _columns(self.folder / TABLE, "ecg_id", column, "scp_codes", "age", "sex")


def rhythm_of(record: str, scp_codes: str) -> tuple[str, int]:
    """Returns the rhythm that statements such as ``{'AFIB': 0.0}`` name, and if it is AF.

    Likelihoods do not count: those of rhythms are mostly 0. Raises RecordError if the text is
    no dictionary.
    """
    try:
        codes = frozenset(literal_eval(scp_codes).keys())
    except (AttributeError, ValueError, SyntaxError) as error:
        expected = f"{record}: expected scp_codes such as {{'SR': 0.0}} in {TABLE}"
        raise RecordError(f"{expected}, found {scp_codes!r}") from error
    meaning = LEFT_OUT if "AFLT" in codes else AF if "AFIB" in codes else NOT_AF
    return next((rhythm for rhythm in RHYTHMS if rhythm in codes), "other"), meaning


def ecg_id(record: str) -> int:
    """Returns the number of a record such as ``00503_lr`` or, in the Challenges, ``HR00503``."""
    found = re.search(r"(\d+)(_[lh]r)?$", record)
    return int(found[1]) if found else -1


def person_of(number: int, tables: Iterable[Path]) -> str:
    """Returns the person of an ECG: the patient that one of the tables names, else the ECG alone.

    Their columns are ``ecg_id,patient_id``, or those of the Challenges' records,
    ``record,patient_id``. Raises DataError if a table is another one.
    """
    for table in tables:
        name = "ecg_id" if table.name == TABLE else "record"
        if patient := _columns(table, name, "patient_id").get(number, ("",))[0]:
            return f"ptbxl-patient-{patient.removesuffix('.0')}"
    return f"ptbxl-ecg-{number}"


def _columns(table: Path, name: str, *columns: str) -> Mapping[int, tuple[str, ...]]:
    """Columns of a table, by the number of the ECG in the column ``name``."""
    try:
        return _read(table, name, columns, table.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, csv.Error) as error:
        wanted = f"expected a table with the columns {', '.join((name, *columns))}"
        raise DataError(f"{table}: {wanted}, found none ({error})") from error


# Workers ask for one record after the other: a table is read once per process, and again where it
# has changed.
@lru_cache(maxsize=8)
def _read(
    table: Path, name: str, columns: tuple[str, ...], _changed_ns: int
) -> Mapping[int, tuple[str, ...]]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, restval="")
        return {ecg_id(row[name]): tuple(row[column] for column in columns) for row in rows}
