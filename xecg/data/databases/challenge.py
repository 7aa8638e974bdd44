"""PTB-XL and the PhysioNet/CinC Challenges of 2017, 2020 and 2021 (diagnoses in the headers)."""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Iterable, Set
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import normalize

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Database, LabelledRecording, RhythmSpan
from xecg.data.databases.labels import LabelTable, read_texts
from xecg.data.databases.physionet import PHYSIONET, PhysioNet
from xecg.errors import DataError, RecordError
from xecg.signal.recording import Recording
from xecg.signal.wfdb import Annotations, read_recording

if TYPE_CHECKING:
    import pandas as pd

# SNOMED CT codes of the rhythms that are distinguished here: those of the Challenges' tables
# (164889003 as a finding in the ECG, paroxysmal, chronic, rapid; flutter; either) and the other
# kinds of the same rhythms.
ATRIAL_FIBRILLATION = frozenset({
    "164889003", "282825002", "426749004", "314208002", "49436004", "440059007", "440028005",
    "706923002", "233910005", "233911009", "300996004", "715395008", "762247006",
    "120041000119109",
})  # fmt: skip
EITHER = "195080001"
ATRIAL_FLUTTER = frozenset({
    EITHER, "164890007", "5370000", "425615007", "427665004", "720448006", "15964901000119107",
})  # fmt: skip
SINUS = {
    "426783006": "sinus rhythm",
    "426177001": "sinus bradycardia",
    "427084000": "sinus tachycardia",
    "427393009": "sinus arrhythmia",
}

# A: AF; N: normal sinus rhythm; O: another rhythm; ~: too noisy to be classified.
LABELS = {"A": AF, "N": NOT_AF, "O": NOT_AF, "~": LEFT_OUT}
# The third revision of the labels corrects the ones that came with the records.
REFERENCES = ("REFERENCE-v3.csv", "REFERENCE.csv")

PTBXL_TABLE = "ptbxl_database.csv"
_PATIENTS = (PTBXL_TABLE, "xfusemap_patients.csv")
PTBXL_RHYTHMS = ("AFLT", "AFIB", "SR", "SBRAD", "STACH", "SARRH", "PACE", "SVARR", "BIGU", "SVTAC",
                 "PSVT", "TRIGU")  # fmt: skip
_SEXES = {"0": "Sex: M", "1": "Sex: F"}


class CinC2017(Database):
    """The training set: 8528 single-lead records of 9-61 s, about lead I, persons unknown.

    Two pairs of records are the same signal (A00227 = A01176, A02656 = A03123).
    """

    name = "cinc2017"
    title = "AF Classification from a Short Single Lead ECG Recording (Challenge 2017)"
    version = "1.0.0"
    licence = "ODC-BY 1.0"
    citation = (
        "Clifford GD et al. AF classification from a short single lead ECG recording: the "
        "PhysioNet/Computing in Cardiology Challenge 2017. Computing in Cardiology 44, 2017. "
        f"doi:10.22489/CinC.2017.065-469; {PHYSIONET}"
    )
    url = "https://physionet.org/content/challenge-2017/1.0.0/"
    # As unpacked from training2017.zip, or as served record by record.
    markers = ("A[0-9]*.hea", "A[0-9][0-9]/A[0-9]*.hea")
    download = ("training2017.zip", REFERENCES[0])
    _labels: LabelTable

    def __init__(self, root: Path | str) -> None:
        super().__init__(root)
        places = (self.folder, self.folder.parent, self.root)
        tables = [folder / name for name in REFERENCES for folder in places]
        self.reference = next((table for table in tables if table.is_file()), tables[0])
        if not self.reference.is_file():
            raise self._wrong_root(" or ".join(REFERENCES))
        self._labels = LabelTable(self.reference, LABELS, ("record", "label"))

    def read(self, record: str) -> LabelledRecording:
        """Reads one record and its rhythm."""
        flat, served = self.folder / record, self.folder / record[:3] / record
        recording = read_recording(served if served.with_suffix(".hea").is_file() else flat)
        return LabelledRecording(recording, rhythms=self._labels.rhythms(record, recording))


class Challenge(Database):
    """Any tree of WFDB records whose headers carry ``# Dx:`` with SNOMED CT codes.

    PTB-XL, CPSC2018, Georgia, Chapman-Shaoxing and the others of the Challenges' training sets, as
    published there, and the open test ECGs of xFuseMap. Persons are known of PTB-XL's alone
    (``HR00123`` is its ECG 123): patients by ``ptbxl_database.csv`` and ``xfusemap_patients.csv``
    in the root, in its parent, or in ``ptbxl`` beside it, elsewhere the ECG. Other records are told
    apart.
    """

    name = "challenge"
    title = "PhysioNet/CinC Challenges 2020/2021 layout"
    version = "1.0.3"
    licence = "CC BY 4.0"
    citation = (
        "Reyna MA et al. Will two do? Varying dimensions in electrocardiography: the "
        "PhysioNet/Computing in Cardiology Challenge 2021. Computing in Cardiology 48, 2021. "
        "doi:10.23919/CinC53138.2021.9662687; "
        "Perez Alday EA et al. Classification of 12-lead ECGs: the PhysioNet/Computing in "
        "Cardiology Challenge 2020. Physiological Measurement 41:124003, 2020. "
        "doi:10.1088/1361-6579/abc960; "
        "xFuseMap's test ECGs: Hammer A et al., npj Cardiovascular Health, 2025. "
        "doi:10.1038/s44387-025-00022-w"
    )
    url = "https://physionet.org/content/challenge-2021/1.0.3/"
    by_place = True
    markers = ("**/*.hea",)
    download = ("training/*",)

    def tables(self) -> list[Path]:
        """Returns the tables of PTB-XL's patients that are there."""
        places = (self.root, self.root.parent, self.root.parent / "ptbxl")
        tables = [place / name for place in places for name in _PATIENTS]
        return [table for table in tables if table.is_file()]

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythm and the collection it came from (``# Source:``)."""
        recording = read_recording(self.root / record)
        label, af = rhythm_of(diagnoses(recording))
        of_ptbxl = re.fullmatch(r"HR\d{5}", recording.name)
        person = ptbxl_person(recording.name, self.tables()) if of_ptbxl else ""
        rhythms = (RhythmSpan(0.0, recording.duration_s, label, af),)
        return LabelledRecording(recording, person, recording.comment("Source") or "", rhythms)


def rhythm_of(codes: Set[str]) -> tuple[str, int]:
    """Returns the rhythm that SNOMED CT codes stand for, and whether it is AF (1, 0, -1 left out).

    Flutter is left out, also beside fibrillation, because the header does not say which of the two
    a window shows. Every other set of codes is not AF, the empty one too: 13 Chapman-Shaoxing
    headers among xFuseMap's list no diagnosis, and its labels count them as not AF.
    """
    if codes & ATRIAL_FLUTTER:
        both = codes & ATRIAL_FIBRILLATION or EITHER in codes
        return "atrial fibrillation and flutter" if both else "atrial flutter", LEFT_OUT
    if codes & ATRIAL_FIBRILLATION:
        return "atrial fibrillation", AF
    return next((name for code, name in SINUS.items() if code in codes), "other"), NOT_AF


def diagnoses(recording: Recording) -> frozenset[str]:
    """Returns the SNOMED CT codes of all ``Dx`` lines of a header, whatever separates them.

    A line that begins with a code continues the one before. Raises RecordError if there is no
    such line, something in one that is no code, or a code with a sign that may deny it; also if
    another line has a code of AF or flutter, or speaks of AF where no code is listed.
    """
    listed, others = list[str](), list[str]()
    for line in (normalize("NFKC", comment) for comment in recording.comments):
        is_dx, text, digits = re.findall(r"(?is)^(dx\b\s*[:;=]?)?\s*((\d*).*)", line)[0]
        (listed if is_dx or _is_snomed(digits) else others).append(text.strip())
    words = [word for text in listed for word in re.split(r"(?:[^\w.?!]|_)+", text) if word]
    codes = [re.sub(r"\.0*$", "", word) for word in words]
    unclear = [code for code in codes if not _is_snomed(code)]
    unclear += re.findall(r"(?<!\w)[-~¬]\d+", " ".join(listed))
    found = re.findall(r"\d+", " ".join(others))
    unclear += [code for code in found if code in ATRIAL_FIBRILLATION | ATRIAL_FLUTTER]
    if not codes:
        unclear += re.findall(r"(?i)\b(?:af|afib|\w*fibrillat\w*)\b", " ".join(others))
    if not listed or unclear or (not codes and any(listed)):
        expected = "expected a comment '# Dx: ...' in the header with SNOMED CT codes"
        instead = unclear or listed or f"{len(others)} other comments"
        why = "without readable diagnoses it is left out"
        raise RecordError(f"{recording.name}: {expected}, found {instead}; {why}")
    return frozenset(codes)


def _is_snomed(code: str) -> bool:
    """Whether a code has the check digit of SNOMED CT (Verhoeff 1969, the group D5)."""
    if not re.fullmatch(r"[0-9]{6,18}", code):
        return False
    product = 0
    for place, digit in enumerate(reversed(code)):
        factor = int(digit)
        for _ in range(place % 8):
            factor = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[factor]
        turned = (product - factor if product >= 5 else product + factor) % 5
        product = turned + 5 * ((product >= 5) != (factor >= 5))
    return product == 0


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
    listed = True
    markers = (PTBXL_TABLE,)
    download = (PTBXL_TABLE, "records100/*")

    def tables(self) -> list[Path]:
        """Returns the tables of statements and of what is known beside them."""
        return [self.folder / PTBXL_TABLE, *super().tables()]

    def records(self) -> list[str]:
        """Returns all records of the tables, sorted."""
        listed = super().records() if self._labels else []
        coded = self._statements().iloc[:, 0].to_dict()
        return sorted(({ecg_id(path): path for path in listed} | coded).values())

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythm and its patient."""
        labelled = super().read(record)
        path, _, age, sex = _row(self._statements(), record)
        about = (f"Age: {age}", _SEXES.get(sex, "")) if path == record else ()
        comments = (*labelled.recording.comments, *about)
        person = ptbxl_person(record, [self.folder / PTBXL_TABLE])
        recording = replace(labelled.recording, comments=comments)
        return replace(labelled, recording=recording, person=person)

    def rhythms(
        self, record: str, recording: Recording, marks: Annotations
    ) -> tuple[RhythmSpan, ...]:
        """Returns the rhythm that statements such as ``{'AFIB': 0.0}`` name.

        They count more than ``records.csv``; their likelihoods do not, for those of rhythms are
        mostly 0. Raises RecordError if they are no dictionary.
        """
        path, scp_codes, *_ = _row(self._statements(), record)
        if path != record:
            return super().rhythms(record, recording, marks)
        try:
            codes = frozenset(literal_eval(scp_codes).keys())
        except (AttributeError, ValueError, SyntaxError) as error:
            expected = f"{record}: expected scp_codes such as {{'SR': 0.0}} in {PTBXL_TABLE}"
            raise RecordError(f"{expected}, found {scp_codes!r}") from error
        label = next((rhythm for rhythm in PTBXL_RHYTHMS if rhythm in codes), "other")
        af = LEFT_OUT if "AFLT" in codes else AF if "AFIB" in codes else NOT_AF
        return (RhythmSpan(0.0, recording.duration_s, label, af),)

    def _statements(self) -> pd.DataFrame:
        """Record, ``scp_codes``, age and sex of each ECG."""
        high = (self.folder / "records500").is_dir()
        name = "filename_hr" if high else "filename_lr"
        return _columns(self.folder / PTBXL_TABLE, name, "scp_codes", "age", "sex")


def ecg_id(record: str) -> int:
    """Returns the number of a record such as ``00503_lr`` or, in the Challenges, ``HR00503``."""
    found = re.search(r"(\d+)(_[lh]r)?$", record)
    return int(found[1]) if found else -1


def ptbxl_person(record: str, tables: Iterable[Path]) -> str:
    """Returns the person of an ECG: the patient that a table names, else the ECG alone."""
    for table in tables:
        if patient := _row(_columns(table, "patient_id"), record)[0]:
            return f"ptbxl-patient-{patient.removesuffix('.0')}"
    return f"ptbxl-ecg-{ecg_id(record)}"


def _row(rows: pd.DataFrame, record: str) -> list[str]:
    """Values of a record; empty text if the table does not have it."""
    return rows.reindex([ecg_id(record)], fill_value="").iloc[0].tolist()


def _columns(table: Path, *columns: str) -> pd.DataFrame:
    """Columns of a table, by the number of the ECG; raises DataError if it has them not."""
    try:
        return _read(table, table.stat().st_mtime_ns)[list(columns)]
    except (OSError, ValueError, Warning, KeyError) as error:  # pandas' errors are ValueErrors
        wanted = f"expected a table with the columns ecg_id or record, {', '.join(columns)}"
        raise DataError(f"{table}: {wanted}, found none ({error})") from error


@lru_cache(maxsize=8)  # once per process, and again where it has changed
def _read(table: Path, _changed_ns: int) -> pd.DataFrame:
    rows = read_texts(table)
    rows = rows.set_index(rows["ecg_id" if "ecg_id" in rows else "record"].map(ecg_id))
    return rows[~rows.index.duplicated()]
