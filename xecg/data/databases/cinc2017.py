"""PhysioNet/CinC Challenge 2017: short hand-held ECGs, one rhythm label each."""

from pathlib import Path

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Database, Download, LabelledRecording
from xecg.data.databases.labels import check_labels, read_labels, rows_of, spans_of
from xecg.data.databases.physionet import PHYSIONET
from xecg.signal.wfdb import read_recording

# A: AF; N: normal sinus rhythm; O: another rhythm; ~: too noisy to be classified.
LABELS = {"A": AF, "N": NOT_AF, "O": NOT_AF, "~": LEFT_OUT}
# The third revision of the labels corrects the ones that came with the records.
REFERENCES = ("REFERENCE-v3.csv", "REFERENCE.csv")
COLUMNS = ("record", "label")


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
        rows = read_labels(self.reference, COLUMNS)
        check_labels(self.reference, rows, LABELS, "fetch the file again")
        return sorted(rows)

    def read(self, record: str) -> LabelledRecording:
        """Reads one record and its rhythm."""
        rows = rows_of(record, read_labels(self.reference, COLUMNS), self.reference, LABELS)
        flat, served = self.folder / record, self.folder / record[:3] / record
        recording = read_recording(served if served.with_suffix(".hea").is_file() else flat)
        return LabelledRecording(recording, rhythms=spans_of(rows, LABELS, recording))
