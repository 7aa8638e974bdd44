"""Lobachevsky University Database: 12-lead ECGs with the cardiologists' P, QRS and T."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Database, Download, LabelledRecording
from xecg.data.databases.labels import p_waves_are_marked, whole_record
from xecg.data.databases.physionet import PHYSIONET
from xecg.errors import RecordError
from xecg.signal.recording import Recording
from xecg.signal.waves import wave_codes
from xecg.signal.wfdb import read_annotations, read_recording

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

# Rhythms in which the atria beat without P waves, and what they say about AF.
RHYTHMS_WITHOUT_P = {"Atrial fibrillation": AF, "Atrial flutter, typical": LEFT_OUT}


class LUDB(Database):
    """Ten-second records of 200 people, waves annotated on each lead (``.i``, ``.ii``, ...).

    The annotators worked from about 1.3 s to 8.6 s; outside, the codes are ``NOT_ANNOTATED``.
    In AF and flutter no P is marked because there is none. In six other records (paced rhythms,
    third-degree AV block) P is never marked although the atria are in sinus rhythm; these get
    no codes, see ``p_waves_are_marked``.

    Rhythm (from the header): atrial fibrillation is AF, flutter is left out of AF
    classification, every kind of sinus rhythm is not AF.
    """

    name = "ludb"
    title = "Lobachevsky University Electrocardiography Database"
    version = "1.0.1"
    licence = "ODC-BY 1.0"
    citation = (
        "Kalyakulina AI et al. LUDB: a new open-access validation tool for electrocardiogram "
        "delineation algorithms. IEEE Access 8:186181-186190, 2020. "
        f"doi:10.1109/ACCESS.2020.3029211; {PHYSIONET}"
    )
    url = "https://physionet.org/content/ludb/1.0.1/"
    leads = "all"
    markers: ClassVar[tuple[str, ...]] = ("[0-9]*.avr",)
    download = Download(("RECORDS", "data/*"))

    def records(self) -> list[str]:
        """Returns the records' numbers, sorted as text."""
        return sorted(path.stem for path in self.folder.glob("[0-9]*.hea"))

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythm and the waves of each of its leads."""
        recording = read_recording(self.folder / record)
        standard = {lead.lower(): lead for lead in LEADS}
        leads = tuple(standard.get(lead.lower(), lead) for lead in recording.leads)
        rhythm = _rhythm(recording)
        codes = {}
        for lead in leads:
            waves = read_annotations(self.folder / record, lead.lower())
            if p_waves_are_marked(waves) or rhythm in RHYTHMS_WITHOUT_P:
                codes[lead] = wave_codes(waves, recording.n_samples, region=None)
        af = RHYTHMS_WITHOUT_P.get(rhythm, NOT_AF)
        return LabelledRecording(
            replace(recording, leads=leads),
            person=f"ludb-{record}",
            rhythms=whole_record(rhythm, af, recording.duration_s),
            codes=codes,
        )


def _rhythm(recording: Recording) -> str:
    rhythm = recording.comment("Rhythm")
    if rhythm is None:
        raise RecordError(
            f"{recording.name}: expected a comment '#Rhythm: ...' in the header, found none; "
            "fetch the header again"
        )
    return rhythm.rstrip(".")
