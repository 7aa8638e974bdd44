"""The PhysioNet/CinC Challenges of 2017, and of 2020 and 2021 (diagnoses in the headers)."""

from __future__ import annotations

import re
from collections.abc import Set
from pathlib import Path
from unicodedata import normalize

from xecg.data.databases import ptbxl
from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Database, Download, LabelledRecording
from xecg.data.databases.labels import listed_records, rows_of, spans_of, whole_record
from xecg.data.databases.physionet import PHYSIONET
from xecg.errors import RecordError
from xecg.signal.recording import Recording
from xecg.signal.wfdb import read_recording

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
COLUMNS = ("record", "label")

_PATIENTS = (ptbxl.TABLE, "xfusemap_patients.csv")


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
    download = Download(
        ("training2017.zip", REFERENCES[0]), archive="training2017.zip", unpacked="training2017"
    )

    def __init__(self, root: Path | str) -> None:
        super().__init__(root)
        places = (self.folder, self.folder.parent, self.root)
        tables = [folder / name for name in REFERENCES for folder in places]
        self.reference = next((table for table in tables if table.is_file()), tables[0])
        if not self.reference.is_file():
            raise self._wrong_root(" or ".join(REFERENCES))

    def tables(self) -> list[Path]:
        """Returns the table of labels."""
        return [self.reference]

    def records(self) -> list[str]:
        """Returns the labelled records, sorted."""
        return listed_records(self.reference, LABELS, "fetch the file again", COLUMNS)

    def read(self, record: str) -> LabelledRecording:
        """Reads one record and its rhythm."""
        rows = rows_of(record, self.reference, LABELS, COLUMNS)
        flat, served = self.folder / record, self.folder / record[:3] / record
        recording = read_recording(served if served.with_suffix(".hea").is_file() else flat)
        return LabelledRecording(recording, rhythms=spans_of(rows, LABELS, recording))


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
    download = Download(("training/*",))

    def tables(self) -> list[Path]:
        """Returns the tables of PTB-XL's patients that are there."""
        places = (self.root, self.root.parent, self.root.parent / "ptbxl")
        tables = [place / name for place in places for name in _PATIENTS]
        return [table for table in tables if table.is_file()]

    def records(self) -> list[str]:
        """Returns the records' paths below the root without ending, sorted."""
        headers = self.root.rglob("*.hea")
        return sorted(path.relative_to(self.root).with_suffix("").as_posix() for path in headers)

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythm and the collection it came from (``# Source:``)."""
        recording = read_recording(self.root / record)
        label, af = rhythm_of(diagnoses(recording))
        person = ""
        if re.fullmatch(r"HR\d{5}", recording.name):
            person = ptbxl.person_of(ptbxl.ecg_id(recording.name), self.tables())
        return LabelledRecording(
            recording,
            person,
            source=recording.comment("Source") or "",
            rhythms=whole_record(label, af, recording.duration_s),
        )


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

    Raises RecordError if there is no such line, or something in one that is no code.
    """
    lines = [normalize("NFKC", comment) for comment in recording.comments]
    found = [re.fullmatch(r"(?i)dx\b\s*[:;=]?(.*)", line) for line in lines]
    listed = [match[1].strip() for match in found if match]
    words = [word for text in listed for word in re.split(r"(?:[^\w.]|_)+", text) if word]
    codes = [re.sub(r"\.0*$", "", word) for word in words]
    unclear = [code for code in codes if not _is_snomed(code)]
    if not listed or unclear or (not codes and any(listed)):
        other = f"{len(lines)} other comments"
        raise RecordError(
            f"{recording.name}: expected a comment '# Dx: ...' in the header with SNOMED CT codes, "
            f"found {unclear or listed or other}; without readable diagnoses it is left out"
        )
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
