"""MIT-BIH Arrhythmia Database: two-lead ambulatory ECGs, every beat and rhythm annotated."""

from xecg.data.databases.base import Database, Download, LabelledRecording
from xecg.data.databases.labels import beats, rhythm_spans
from xecg.signal.wfdb import read_annotations, read_recording


def person_of(record: str) -> str:
    """Returns the person of a record; 201 and 202 are from one tape of one man."""
    return f"mitdb-{'201' if record == '202' else record}"


class MITDB(Database):
    """Half-hour records with beat and rhythm annotations (``.atr``).

    AFIB is AF; AFL (atrial flutter) is left out of AF classification, and so is the fraction of a
    second before a record's first rhythm annotation; every other rhythm is not AF.
    """

    name = "mitdb"
    title = "MIT-BIH Arrhythmia Database"
    version = "1.0.0"
    licence = "ODC-BY 1.0"
    citation = (
        "Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. IEEE Engineering in "
        "Medicine and Biology Magazine 20(3):45-50, 2001. doi:10.1109/51.932724; "
        "Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet. "
        "Circulation 101(23):e215-e220, 2000. doi:10.1161/01.CIR.101.23.e215"
    )
    url = "https://physionet.org/content/mitdb/1.0.0/"
    # Not the folder x_mitdb beside the records: it repeats parts of them.
    markers = ("[12][0-9][0-9].atr",)
    download = Download(("RECORDS", "[12]??.hea", "[12]??.dat", "[12]??.atr"))

    def records(self) -> list[str]:
        """Returns the records' numbers, sorted."""
        return sorted(path.stem for path in self.folder.glob("[12][0-9][0-9].hea"))

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythms and its beats."""
        path = self.folder / record
        recording, reference = read_recording(path), read_annotations(path, "atr")
        r_peaks, symbols = beats(reference)
        rhythms = rhythm_spans(reference, recording.n_samples, recording.sampling_rate)
        return LabelledRecording(
            recording, person_of(record), rhythms=rhythms, r_peaks=r_peaks, beat_symbols=symbols
        )
