"""The synthetic ECGs of `xecg.signal.synthetic`: everything about them is known."""

from __future__ import annotations

from typing import ClassVar

from xecg.data.databases.base import Database, LabelledRecording
from xecg.data.databases.labels import beats, read_labels, rhythm_spans
from xecg.errors import RecordError
from xecg.signal.waves import wave_codes
from xecg.signal.wfdb import read_annotations, read_recording

TABLE = "records.csv"


class Synthetic(Database):
    """The folder that `write_synthetic_database` writes.

    Rhythms and beats from `.atr`, waves from `.waves` over the whole record, persons from
    `records.csv`. All leads share the waves.
    """

    name = "synthetic"
    title = "Synthetic ECGs"
    licence = "Apache-2.0"
    citation = (
        "Model after McSharry PE et al. A dynamical model for generating synthetic "
        "electrocardiogram signals. IEEE Transactions on Biomedical Engineering 50(3):289-294, "
        "2003. doi:10.1109/TBME.2003.808805"
    )
    markers: ClassVar[tuple[str, ...]] = (TABLE,)

    def records(self) -> list[str]:
        """The records that the table lists, sorted."""
        return sorted(read_labels(self.folder / TABLE))

    def read(self, record: str) -> LabelledRecording:
        """One record with its rhythms, beats and waves."""
        row = read_labels(self.folder / TABLE).get(record)
        if row is None:
            raise RecordError(f"{record}: expected it in {self.folder / TABLE}, found no such row")
        path = self.folder / record
        recording = read_recording(path)
        reference = read_annotations(path, "atr")
        r_peaks, symbols = beats(reference)
        codes = wave_codes(
            read_annotations(path, "waves"),
            recording.n_samples,
            region=(0, recording.n_samples),
        )
        return LabelledRecording(
            recording,
            person=row.person,
            rhythms=rhythm_spans(reference, recording.n_samples, recording.sampling_rate),
            r_peaks=r_peaks,
            beat_symbols=symbols,
            codes=dict.fromkeys(recording.leads, codes),
        )
