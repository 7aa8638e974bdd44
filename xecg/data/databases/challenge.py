"""The layout of the PhysioNet/CinC Challenges 2020 and 2021: diagnoses in the headers."""

from __future__ import annotations

from collections.abc import Set
from typing import ClassVar

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Database, Download, LabelledRecording
from xecg.data.databases.labels import whole_record
from xecg.errors import RecordError
from xecg.signal.wfdb import read_recording

# SNOMED CT codes of the rhythms that are distinguished here
ATRIAL_FIBRILLATION = "164889003"
ATRIAL_FLUTTER = "164890007"
SINUS = {
    "426783006": "sinus rhythm",
    "426177001": "sinus bradycardia",
    "427084000": "sinus tachycardia",
    "427393009": "sinus arrhythmia",
}


class Challenge(Database):
    """Any tree of WFDB records whose headers carry ``# Dx:`` with SNOMED CT codes.

    PTB-XL, CPSC2018, Georgia, Chapman-Shaoxing and the others of the Challenges' training sets, as
    published there, and the open test ECGs of xFuseMap. Persons are not known.
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
    markers: ClassVar[tuple[str, ...]] = ("**/*.hea",)
    download = Download(("training/*",))

    @property
    def identity(self) -> str:
        """The folder's place: records of two collections may have one name."""
        return f"{self.name}:{self.root.resolve().as_posix()}"

    def records(self) -> list[str]:
        """Returns the records' paths below the root without ending, sorted."""
        headers = self.root.rglob("*.hea")
        return sorted(path.relative_to(self.root).with_suffix("").as_posix() for path in headers)

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythm and the collection it came from (``# Source:``)."""
        recording = read_recording(self.root / record)
        listed = recording.comment("Dx")
        if listed is None:
            raise RecordError(
                f"{recording.name}: expected a comment '# Dx: ...' in the header, found "
                f"{len(recording.comments)} other comments; the challenge layout needs diagnoses"
            )
        label, af = rhythm_of({code.strip() for code in listed.split(",")})
        return LabelledRecording(
            recording,
            source=recording.comment("Source") or "",
            rhythms=whole_record(label, af, recording.duration_s),
        )


def rhythm_of(codes: Set[str]) -> tuple[str, int]:
    """Returns the rhythm that SNOMED CT codes stand for, and whether it is AF (1, 0, -1 left out).

    Flutter is left out, also beside fibrillation, because the header does not say which of the two
    a window shows. Every other set of codes is not AF, the empty one too: 13 Chapman-Shaoxing
    headers among xFuseMap's list no diagnosis, and its labels count them as not AF.
    """
    if ATRIAL_FLUTTER in codes:
        both = ATRIAL_FIBRILLATION in codes
        return "atrial fibrillation and flutter" if both else "atrial flutter", LEFT_OUT
    if ATRIAL_FIBRILLATION in codes:
        return "atrial fibrillation", AF
    return next((name for code, name in SINUS.items() if code in codes), "other"), NOT_AF
